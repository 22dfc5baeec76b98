//! A worker that dies, panics or fails at each point of its work: tasks, chains and chords come to their end.
//!
//! The points are those of `fail_point!` in celeriac. `FAULTS_SOAK` tries each with one database, two, and two servers.

use std::os::unix::process::ExitStatusExt;

use celeriac::canvas::chord;
use celeriac::message::Signature;
use compat_tests::{Process, Signal, eventually, secs};

use crate::mix::{Mix, VICTIM_SLOTS};
use crate::stage::{Layout, REPAIRED, Stage, at_once, rounds};

/// One way to die.
#[derive(Clone, Copy)]
struct Crash {
    /// What happens to the first worker, to the second, ...; the last is the point of the scenario.
    faults: &'static [&'static str],
    /// Where broker and results are: `None` when all layouts are worth a try.
    layout: Option<Layout>,
    /// A further setting of the workers.
    setting: Option<(&'static str, &'static str)>,
    /// Whether the last victim is asked to stop.
    stops: bool,
}

const fn at(faults: &'static [&'static str]) -> Crash {
    Crash { faults, layout: None, setting: None, stops: false }
}

/// Of a step that exists only with two servers.
const fn between(faults: &'static [&'static str]) -> Crash {
    Crash { layout: Some(Layout::TwoServers), ..at(faults) }
}

/// Where one transaction holds two databases.
const fn across(faults: &'static [&'static str]) -> Crash {
    Crash { layout: Some(Layout::TwoDatabases), ..at(faults) }
}

/// Of a step that is only taken on the way out.
const fn leaving(faults: &'static [&'static str]) -> Crash {
    Crash { stops: true, ..at(faults) }
}

#[test]
fn a_worker_killed_anywhere_between_fetch_and_acknowledgement_loses_nothing() {
    survive(&[
        at(&["fetch.moved"]),
        at(&["fetch.moved@4"]),
        at(&["fetch.taken@3"]),
        at(&["consume.gathered"]),
        at(&["consume.gathered@6"]),
        at(&["consume.committed"]),
        at(&["consume.committed@6"]),
        at(&["run.due@9"]),
        at(&["run.before@12"]),
        at(&["run.after@12"]),
        at(&["complete.before@9"]),
        at(&["run.completed@15"]),
        at(&["eta.held@2"]),
        at(&["eta.due@2"]),
        at(&["retry.decided@2"]),
        at(&["retry.completed@3"]),
        at(&["revoke.decided"]),
        at(&["revoke.completed"]),
    ]);
}

#[test]
fn a_worker_killed_around_a_commit_to_two_databases_of_one_server_loses_nothing() {
    survive(&[
        across(&["consume.gathered@6"]),
        across(&["consume.committed"]),
        across(&["consume.committed@6"]),
        across(&["run.completed@15"]),
        across(&["retry.completed@3"]),
        across(&["chord.claimed", "chord.reclaimed"]),
        across(&["chord.extended@2"]),
        across(&["chord.sent@2"]),
    ]);
}

#[test]
fn a_worker_killed_half_way_through_a_commit_to_two_servers_loses_nothing() {
    survive(&[
        between(&["commit.prepared@8"]),
        between(&["commit.published@8"]),
        between(&["commit.stored@8"]),
        between(&["commit.followed@8"]),
        between(&["retry.decided@2"]),
        between(&["retry.completed@3"]),
        between(&["revoke.decided"]),
        between(&["revoke.completed"]),
        Crash {
            setting: Some(("WORKER_DEDUPLICATE_SUCCESSFUL_TASKS", "true")),
            ..between(&["commit.followed@8", "deduplicate.found"])
        },
        Crash {
            setting: Some(("WORKER_DEDUPLICATE_SUCCESSFUL_TASKS", "true")),
            ..between(&["commit.followed@8", "deduplicate.skipped"])
        },
    ]);
}

#[test]
fn a_worker_killed_with_a_chord_in_its_hands_leaves_it_to_another() {
    survive(&[
        at(&["chord.claimed@2"]),
        at(&["chord.joined@2"]),
        at(&["chord.extended@2"]),
        at(&["chord.sent@2"]),
        at(&["chord.claimed", "chord.reclaimed"]),
        between(&["chord.prepared@2"]),
        between(&["chord.published@2"]),
    ]);
}

/// Its claim ends meanwhile, and another worker goes on with the chord.
#[test]
fn a_worker_that_stood_still_with_a_chord_in_its_hands_does_not_send_the_body_again() {
    at_once(Layout::ALL.into_iter(), |layout| {
        let stage = Stage::new().with(layout);
        let mut victim = stage.victim("chord.extended=stop", VICTIM_SLOTS);
        let parts = (1..=3).map(|number| Signature::new("faults.late").arg(number).arg(0.0));
        let sum = chord(parts, Signature::new("faults.sum"));
        let result = stage.runtime.block_on(stage.client().apply(sum)).unwrap();
        eventually("the chord is claimed", REPAIRED, || {
            stage.ask_results(&["EXISTS", "celeriac.chords"]) == 1
        });
        let _heir = stage.worker("heir", 2);
        assert_eq!(stage.runtime.block_on(result.get_as::<i64>(REPAIRED)).unwrap(), 6);
        victim.signal(Signal::SIGCONT);
        victim.wait_for_line("was sent by another worker", REPAIRED);
        stage.await_empty();
        assert!(victim.terminate(secs(20)).success());
        assert_eq!(stage.runs("sums"), [(6, 1)].into());
    });
}

#[test]
fn a_worker_killed_while_it_parks_messages_or_takes_what_is_due_loses_nothing() {
    let points =
        ["park.decided@5", "consume.gathered@2", "consume.committed@2", "park.claimed", "park.claimed@2"];
    at_once(points.into_iter(), |point| {
        let mut stage = Stage::new();
        stage.set("CELERIAC_MAX_SCHEDULED", "2");
        stage.send_due(0, 30, 12.0, 3.0);
        await_kill(&mut stage.victim(&format!("{point}=kill"), VICTIM_SLOTS));
        let _heir = stage.worker("heir", 8);
        stage.await_runs("done", 30, REPAIRED);
        stage.await_empty();
        stage.await_parked(0);
        stage.report(&format!("kill -9 at {point}, parked etas"), "done", 30);
        assert!(stage.runs("done").values().all(|runs| *runs <= 2), "one death explains one run more");
    });
}

#[test]
fn a_sweep_that_is_interrupted_is_finished_by_another() {
    survive(&[
        at(&["run.after@12", "sweep.locked"]),
        at(&["run.after@12", "sweep.restored@2"]),
        at(&["fetch.moved@3", "sweep.moved@2"]),
        at(&["fetch.moved@3", "sweep.emptied"]),
    ]);
}

#[test]
fn a_worker_killed_on_its_way_out_loses_nothing() {
    survive(&[
        leaving(&["shutdown.begun"]),
        leaving(&["shutdown.handed_back"]),
        leaving(&["shutdown.finished"]),
    ]);
}

/// Kills the victims of each scenario at their points, with the mix of all work; another worker goes on.
fn survive(crashes: &[Crash]) {
    let scenarios = crashes.iter().enumerate().flat_map(|(index, crash)| {
        // Without a soak each point is tried with one of them, in turn.
        let layouts = Layout::ALL.into_iter().filter(move |layout| match crash.layout {
            Some(only) => *layout == only,
            None => rounds(1) > 1 || *layout == Layout::ALL[index % 3],
        });
        layouts.map(move |layout| (*crash, layout))
    });
    at_once(scenarios, |(crash, layout)| die(crash, layout));
}

fn die(crash: Crash, layout: Layout) {
    let mut stage = Stage::new().with(layout);
    if let Some((name, value)) = crash.setting {
        stage.set(name, value);
    }
    let mix = Mix::send(&stage);
    if crash.faults.iter().any(|point| point.starts_with("eta.")) {
        // They are still to come when the victim is ready, however long that takes.
        stage.send_due(9000, 4, 10.0, 1.0);
    }
    for (index, point) in crash.faults.iter().enumerate() {
        let mut victim = stage.victim(&format!("{point}=kill"), VICTIM_SLOTS);
        if crash.stops && index + 1 == crash.faults.len() {
            stage.await_runs("started", 4, secs(20));
            victim.signal(Signal::SIGTERM);
        }
        await_kill(&mut victim);
    }
    let _heir = stage.worker("heir", 8);
    mix.verify(&stage, &format!("kill -9 at {}, {layout}", crash.faults.join(", then ")), crash.faults.len());
}

#[track_caller]
fn await_kill(victim: &mut Process) {
    let status = victim.wait(REPAIRED);
    assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "the fail point was not reached: {status}");
}

#[test]
fn a_worker_that_panics_over_a_message_gives_it_back_or_ends() {
    let inside = [
        "run.due@9",
        "run.before@9",
        "run.after@9",
        "complete.before@9",
        "run.completed@9",
        "retry.decided@2",
    ];
    let consumer = ["fetch.moved@3", "consume.gathered@6", "consume.committed@6"];
    let points = inside.map(|point| (point, false)).into_iter().chain(consumer.map(|point| (point, true)));
    at_once(points, |(point, ends)| {
        let stage = Stage::new().two_databases();
        let mix = Mix::send(&stage);
        let mut victim = stage.victim(&format!("{point}=panic"), VICTIM_SLOTS);
        let _heir = ends.then(|| {
            assert_eq!(victim.wait(REPAIRED).code(), Some(1), "without its consumer a worker is of no use");
            stage.worker("heir", 8)
        });
        mix.verify(&stage, &format!("panic at {point}, two databases"), 1);
        assert!(ends || victim.terminate(secs(20)).success(), "a worker outlives a panic over one message");
        assert!(!victim.lines_with(&format!("Fail point {}", point.split('@').next().unwrap())).is_empty());
    });
}

#[test]
fn a_poison_message_is_given_up_once_even_by_workers_that_die_of_giving_it_up() {
    for point in ["poison.counted", "poison.given_up"] {
        let mut stage = Stage::new();
        stage.set("CELERIAC_MAX_DELIVERIES", "1");
        let poison = Signature::new("faults.poison").arg(1);
        stage.runtime.block_on(stage.client().apply(poison)).unwrap();
        stage.worker("first", 2).wait(REPAIRED);
        await_kill(&mut stage.victim(&format!("{point}=kill"), 2));
        let _heir = stage.worker("heir", 2);
        eventually("the poison is a dead letter", REPAIRED, || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
        stage.send("faults.late", 2, 10, 0.0);
        stage.await_runs("done", 10, REPAIRED);
        assert_eq!(stage.ask(&["LLEN", "celeriac.dead"]), 1);
        // The count of its starts may be left: it ends by itself.
        eventually("nothing is held", REPAIRED, || stage.ask(&["EXISTS", "unacked", "unacked_index"]) == 0);
    }
}
