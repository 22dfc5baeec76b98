//! Every error that Redis can answer, and closed connections, at every command of every step of a message: once, and until
//! somebody repairs it.
//!
//! The usual run tries each error and each command at least once; `FAULTS_MATRIX=1` tries all of both.

use compat_tests::{Fault, Interceptor, Rule, eventually, secs, size};

use crate::mix::Mix;
use crate::stage::{Layout, REPAIRED, Stage, at_once};

/// Refusals that pass by themselves: whatever waits for their end succeeds.
const PASSING: [&str; 8] = [
    "READONLY You can't write against a read only replica.",
    "MISCONF Redis is configured to save RDB snapshots, but is currently unable to persist to disk.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "NOAUTH Authentication required.",
];

/// Refusals that last: what they concern may fail, and says why.
const LASTING: [&str; 4] = [
    "NOPERM this user has no permissions to access one of the keys used as arguments",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOSCRIPT No matching script. Please use EVAL.",
    "ERR Protocol error: invalid bulk length",
];

/// What a worker sends: to fetch, to look, to record and renew, to commit, to connect.
const COMMANDS: [&str; 19] = [
    "LMOVE", "LLEN", "EXISTS", "ZADD", "HSET", "TIME", "MULTI", "EXEC", "SETEX", "PUBLISH", "LPUSH", "RPUSH",
    "EVAL", "DEL", "SET", "ZREM", "HDEL", "GET", "LRANGE",
];

/// Those of which the log names each refusal: they are part of what a task comes to.
const COMMITS: [&str; 12] =
    ["MULTI", "EXEC", "SETEX", "PUBLISH", "LPUSH", "EVAL", "SET", "DEL", "HSET", "ZADD", "ZREM", "HDEL"];

/// One cell of the matrix.
#[derive(Clone, Debug)]
struct Cell {
    command: &'static str,
    fault: Fault,
    is_once: bool,
    layout: Layout,
}

impl Cell {
    fn new(command: &'static str, fault: Fault, is_once: bool, number: usize) -> Self {
        Self { command, fault, is_once, layout: Layout::ALL[number % 3] }
    }

    /// The code of the error; nothing for a connection that is closed.
    fn code(&self) -> Option<&str> {
        match &self.fault {
            Fault::Error(text) | Fault::ErrorWhenRun(text) => text.split(' ').next(),
            _ => None,
        }
    }

    /// The row of the table to which it counts.
    fn scenario(&self) -> String {
        let what = match &self.fault {
            Fault::Error(_) => format!("-{} answers", self.code().unwrap_or_default()),
            Fault::ErrorWhenRun(_) => {
                format!("-{} answers in an accepted transaction", self.code().unwrap_or_default())
            }
            Fault::Close => "connections closed before a command".to_owned(),
            Fault::CloseAfter => "connections closed after a command".to_owned(),
        };
        format!("{what}, {}", if self.is_once { "once" } else { "until repaired" })
    }

    /// Whether every task must succeed in the end.
    fn passes(&self) -> bool {
        self.is_once || PASSING.iter().any(|text| text.split(' ').next() == self.code())
    }
}

#[test]
fn a_command_that_is_refused_once_costs_nothing() {
    try_all(&cells(true));
}

#[test]
fn a_command_that_is_refused_until_somebody_repairs_it_loses_and_stops_nothing() {
    try_all(&cells(false));
}

/// The cells to try: all, or a diagonal.
fn cells(is_once: bool) -> Vec<Cell> {
    let errors = PASSING.iter().chain(&LASTING);
    let faults = errors
        .flat_map(|text| [Fault::Error((*text).to_owned()), Fault::ErrorWhenRun((*text).to_owned())])
        .chain([Fault::Close, Fault::CloseAfter]);
    let faults: Vec<Fault> = faults.collect();
    let all = COMMANDS.iter().flat_map(|command| faults.iter().map(move |fault| (*command, fault.clone())));
    let cells = all.enumerate().map(|(number, (command, fault))| Cell::new(command, fault, is_once, number));
    if size("FAULTS_MATRIX", 0) > 0 {
        return cells.collect();
    }
    // With the number of errors and that of commands it meets each of both.
    let step = if is_once { 53 } else { 29 };
    cells.skip(usize::from(is_once)).step_by(step).collect()
}

fn try_all(cells: &[Cell]) {
    at_once(cells.iter(), try_one);
}

fn try_one(cell: &Cell) {
    let stage = Stage::new().with(cell.layout);
    let path = Interceptor::to(stage.redis.port());
    let url = format!("redis://127.0.0.1:{}/0", path.port());
    let mut worker = stage.worker_at(&url, "one", 8);
    let Cell { command, fault, is_once, .. } = cell.clone();
    path.inject(Rule { command: command.to_owned(), argument: None, times: is_once.then_some(1), fault });
    let mix = Mix::send(&stage);
    if !is_once {
        stage.await_settled(&path);
        path.clear();
    }
    println!("{cell:?}: {} hit(s)", path.hits());
    let scenario = cell.scenario();
    if cell.passes() {
        mix.verify(&stage, &scenario, 1);
    } else {
        mix.verify_ended(&stage, &scenario, cell.code().unwrap_or("CLOSED"));
    }
    if let Some(code) = cell.code().filter(|_| !is_once && COMMITS.contains(&command) && path.hits() > 0) {
        assert!(!worker.lines_with(code).is_empty(), "{cell:?}: the log does not name {code}");
    }
    assert!(worker.terminate(secs(60)).success(), "{cell:?}");
}

impl Stage {
    /// Waits until a fault was met several times, or what meets it is not needed.
    fn await_settled(&self, path: &Interceptor) {
        let mut quiet = 0;
        eventually("the fault is met, or all is done", REPAIRED, || {
            quiet += 1;
            path.hits() >= 20 || quiet > 40 || self.is_idle() && quiet > 10
        });
    }
}
