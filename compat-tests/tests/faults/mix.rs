//! Work of every kind at once: plain and late-acked tasks, chains, chords, retries, etas, and one that is expired.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use celeriac::backend::TaskState;
use celeriac::canvas::{chain, chord, group};
use celeriac::message::Signature;
use celeriac::{AsyncResult, Error};
use compat_tests::secs;

use crate::stage::{REPAIRED, Stage};
use crate::table::{Outcome, record};

const LATE: i64 = 20;
const EARLY: i64 = 8;
const CHAINS: i64 = 6;
const STEPS: i64 = 4;
const CHORDS: i64 = 6;
const PARTS: i64 = 3;
const RETRIED: i64 = 4;
const DELAYED: i64 = 4;
/// How many tasks a worker that is to die runs at a time.
pub(crate) const VICTIM_SLOTS: usize = 4;

/// Tasks that were sent, and what they must come to.
pub(crate) struct Mix {
    expected: Vec<(AsyncResult, i64)>,
    expired: AsyncResult,
}

impl Mix {
    /// Sends everything; each task of the record has a number of its own.
    pub(crate) fn send(stage: &Stage) -> Self {
        let client = stage.client();
        let apply = |signature: Signature| stage.runtime.block_on(client.apply(signature)).unwrap();
        let mut expected = Vec::new();
        let mut send = |signature: Signature, result: i64| expected.push((apply(signature), result));
        let expired = apply(late(-1).expires(Duration::ZERO));
        for number in 0..CHORDS {
            let parts = parts_of(number);
            send(chord(parts.clone().map(late), Signature::new("faults.sum")), parts.sum());
        }
        for number in 0..CHAINS {
            let first = Signature::new("faults.step").arg(number * 1000);
            let steps = std::iter::once(first).chain((1..STEPS).map(|_| Signature::new("faults.step")));
            send(chain(steps), number * 1000 + STEPS);
        }
        (0..RETRIED)
            .for_each(|number| send(Signature::new("faults.again").arg(2000 + number), 2000 + number));
        (0..DELAYED).for_each(|number| send(late(3000 + number).countdown(secs(1)), 3000 + number));
        (0..LATE).for_each(|number| send(late(4000 + number), 4000 + number));
        let early = (0..EARLY).map(|number| Signature::new("faults.early").arg(5000 + number).arg(0.02));
        apply(group(early));
        Self { expected, expired }
    }

    /// Waits for every result, and that nothing is left over. A task may have run once more for each fault, and what
    /// is acknowledged before it runs may have been cut off by one.
    #[track_caller]
    pub(crate) fn verify(self, stage: &Stage, scenario: &str, faults: usize) {
        let is_right = |(result, expected): &&(AsyncResult, i64)| {
            let value = stage.runtime.block_on(result.get_as::<i64>(REPAIRED));
            let right = matches!(value, Ok(value) if value == *expected);
            if !right {
                println!("{scenario}: {expected} is {value:?}; the broker holds {}", stage.held());
            }
            right
        };
        let stuck = self.expected.len() - self.expected.iter().filter(is_right).count();
        stage.await_empty();
        let state = stage.runtime.block_on(self.expired.state()).unwrap();
        assert_eq!(state, TaskState::Revoked, "{scenario}: a task that is expired");
        let runs: BTreeMap<Run, usize> = ["done", "steps", "sums"]
            .into_iter()
            .flat_map(|list| stage.runs(list).into_iter().map(move |(number, runs)| ((list, number), runs)))
            .collect();
        let absent = |wanted: Vec<Run>| wanted.iter().filter(|run| !runs.contains_key(run)).count();
        let (lost, cut) = (absent(Self::late_runs()), absent(Self::early_runs()));
        let repeated = runs.values().filter(|runs| **runs > 1).count();
        let tasks = Self::late_runs().len() + Self::early_runs().len();
        record(scenario, Outcome { tasks, lost, stuck, repeated });
        assert!(
            cut <= faults * VICTIM_SLOTS,
            "{scenario}: {cut} early-acked tasks are gone, more than ran then"
        );
        let often: Vec<_> = runs.iter().filter(|(_, runs)| **runs > 1 + faults).collect();
        assert!(often.is_empty(), "{scenario}: more often than {faults} fault(s) explain: {often:?}");
    }

    /// Waits until every task has ended: as it should, or as a failure that says `why`, or among the dead letters.
    #[track_caller]
    pub(crate) fn verify_ended(self, stage: &Stage, scenario: &str, why: &str) {
        let tasks = self.expected.len() + 1;
        let mut open = self.expected;
        let mut last = String::new();
        let end = Instant::now() + REPAIRED;
        while !open.is_empty() && Instant::now() < end {
            let dead = stage.dead();
            open.retain(|(result, expected)| {
                let ended = stage.runtime.block_on(result.get_as::<i64>(Duration::from_millis(20)));
                let is_explained = match &ended {
                    Ok(value) => value == expected,
                    Err(Error::Task { exception, .. }) => exception.repr().contains(why),
                    Err(_) => dead.iter().any(|id| id == result.id()),
                };
                last = format!("{expected} is {ended:?}");
                !is_explained
            });
        }
        if !open.is_empty() {
            println!("{scenario}: {last}; the broker holds {}", stage.held());
        }
        stage.await_empty();
        let state = stage.runtime.block_on(self.expired.state()).unwrap();
        let stuck = open.len() + usize::from(!state.is_ready());
        let runs = ["done", "steps", "sums"].into_iter().flat_map(|list| stage.runs(list).into_values());
        let repeated = runs.filter(|runs| *runs > 1).count();
        record(scenario, Outcome { tasks, lost: 0, stuck, repeated });
    }

    /// The runs that no fault may prevent.
    fn late_runs() -> Vec<Run> {
        let parts = (0..CHORDS * PARTS).map(|part| 1000 + part);
        let retried = (0..RETRIED).map(|number| 2000 + number);
        let delayed = (0..DELAYED).map(|number| 3000 + number);
        let late = (0..LATE).map(|number| 4000 + number);
        let done = parts.chain(retried).chain(delayed).chain(late).map(|number| ("done", number));
        let steps =
            (0..CHAINS).flat_map(|number| (0..STEPS).map(move |step| ("steps", number * 1000 + step)));
        let sums = (0..CHORDS).map(|number| ("sums", parts_of(number).sum()));
        done.chain(steps).chain(sums).collect()
    }

    fn early_runs() -> Vec<Run> {
        (0..EARLY).map(|number| ("done", 5000 + number)).collect()
    }
}

/// A list of the record, and a number in it.
type Run = (&'static str, i64);

fn parts_of(chord: i64) -> impl Iterator<Item = i64> + Clone {
    (0..PARTS).map(move |part| 1000 + chord * PARTS + part)
}

fn late(number: i64) -> Signature {
    Signature::new("faults.late").arg(number).arg(0.02)
}
