//! What the server refuses at present, for the log and for those who ask whether the worker is ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::refusal::Refusal;

/// How long a refusal counts as present after it was seen last.
const PRESENT: Duration = Duration::from_secs(30);
/// Most causes that are told apart.
const CAUSES: usize = 100;

/// The refusals of the last seconds, by cause; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Troubles {
    causes: Arc<Mutex<BTreeMap<String, Trouble>>>,
}

/// One cause.
struct Trouble {
    since: Instant,
    last: Instant,
    count: u64,
    refusal: Refusal,
}

impl Troubles {
    /// Notes a refusal; logs it when its cause is a new one.
    pub(crate) fn note(&self, refusal: &Refusal) {
        self.note_for(refusal, "");
    }

    /// Notes a refusal that concerns a task of that id; logs it when its cause is a new one.
    pub(crate) fn note_for(&self, refusal: &Refusal, task_id: &str) {
        let now = Instant::now();
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        end_old(&mut causes, now);
        // A queue is a cause of its own; the keys of results are as many as tasks.
        let key = refusal.key.as_deref().filter(|_| matches!(&*refusal.command, "LPUSH" | "RPUSH"));
        let cause = format!("{} {} {}", refusal.code(), refusal.command, key.unwrap_or_default());
        match causes.get_mut(&cause) {
            Some(trouble) => {
                trouble.last = now;
                trouble.count += 1;
            }
            None => {
                log::warn!(
                    code = refusal.code(), command = refusal.command.as_str(), task_id,
                    key = refusal.key.as_deref().unwrap_or_default();
                    "Not accepted: {refusal}: what it concerns waits or fails, everything else goes on"
                );
                if causes.len() < CAUSES {
                    causes
                        .insert(cause, Trouble { since: now, last: now, count: 1, refusal: refusal.clone() });
                }
            }
        }
    }

    /// The refusals that are present, in words.
    pub(crate) fn present(&self) -> Vec<String> {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        end_old(&mut causes, Instant::now());
        let said = |Trouble { since, count, refusal, .. }: &Trouble| {
            format!("not accepted: {refusal}, {count} time(s) in {} s", since.elapsed().as_secs())
        };
        causes.values().map(said).collect()
    }
}

fn end_old(causes: &mut BTreeMap<String, Trouble>, now: Instant) {
    causes.retain(|_, Trouble { last, count, refusal, .. }| {
        let is_present = now.saturating_duration_since(*last) < PRESENT;
        if !is_present {
            log::info!(count = *count; "No longer seen after {count} time(s): {refusal}");
        }
        is_present
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_named_once_with_its_count() {
        let troubles = Troubles::default();
        for _ in 0..3 {
            troubles.note(&Refusal::of_words("LPUSH bad", "NOPERM no right"));
        }
        for id in ["1", "2"] {
            let command = format!("SETEX celery-task-meta-{id}");
            troubles.note(&Refusal::of_words(&command, "NOPERM no right"));
        }
        let present = troubles.present();
        assert_eq!(present[0], "not accepted: NOPERM no right (LPUSH bad), 3 time(s) in 0 s");
        assert!(present[1].starts_with("not accepted: NOPERM no right (SETEX celery-task-meta-1), 2"));
        assert_eq!(present.len(), 2);
    }
}
