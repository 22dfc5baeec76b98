//! What every scenario has counted, as lines of JSON in `target/faults.jsonl`; `scripts/faults-table` prints them.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use compat_tests::workspace_root;
use serde_json::json;

/// The outcome of one run of a scenario.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tasks: usize,
    /// Tasks that never ran to their end.
    pub(crate) lost: usize,
    /// Messages, chords and chains that nobody brings to their end.
    pub(crate) stuck: usize,
    /// Tasks that ran more than once.
    pub(crate) repeated: usize,
}

/// Records the outcome of a scenario, good or bad.
///
/// # Panics
/// When something was lost or is stuck.
#[track_caller]
pub(crate) fn record(scenario: &str, outcome: Outcome) {
    let Outcome { tasks, lost, stuck, repeated } = outcome;
    let row =
        json!({"scenario": scenario, "tasks": tasks, "lost": lost, "stuck": stuck, "repeated": repeated});
    let mut file = OpenOptions::new().create(true).append(true).open(path()).unwrap();
    // One write of a short line, so that tests may append at the same time.
    file.write_all(format!("{row}\n").as_bytes()).unwrap();
    assert!(lost == 0 && stuck == 0, "{scenario}: {outcome:?}");
}

fn path() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from);
    target.join("faults.jsonl")
}
