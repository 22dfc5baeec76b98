//! Children that never outlive the test process, however it ends.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{LazyLock, mpsc};

/// `command` under the guard: when this process dies, the kernel kills the program. It leads its own process group.
pub(crate) fn guarded(command: &Command) -> Command {
    let mut guarded = setpriv(&["--pdeathsig", "KILL"], command.get_program());
    guarded.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(key, value),
            None => guarded.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        guarded.current_dir(folder);
    }
    guarded
}

/// A command that runs `program` as `user` (only root can give one). At the end of this process it gets a SIGQUIT
/// rather than a SIGKILL: PostgreSQL takes that for "stop at once", and takes its own children along.
pub(crate) fn guarded_as(user: Option<&str>, program: &OsStr) -> Command {
    match user {
        Some(user) => {
            setpriv(&["--reuid", user, "--regid", user, "--clear-groups", "--pdeathsig", "QUIT"], program)
        }
        None => setpriv(&["--pdeathsig", "QUIT"], program),
    }
}

/// Spawns a guarded command.
///
/// The kernel sends the parent-death signal at the death of the *thread* that spawned the child, and test threads end
/// before their process does; hence one thread that lives as long as the process spawns all of them.
pub(crate) fn spawn(command: Command) -> std::io::Result<Child> {
    let (answer, child) = mpsc::channel();
    SPAWNER.send((command, answer)).map_err(std::io::Error::other)?;
    child.recv().map_err(std::io::Error::other)?
}

/// `setpriv` (util-linux) replaces itself by the program, so the process id is that of the program.
fn setpriv(options: &[&str], program: &OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command.args(options).arg("--").arg(program).process_group(0);
    command
}

type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

static SPAWNER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
    let (requests, inbox) = mpsc::channel::<Request>();
    std::thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        })
        .expect("a thread can be started");
    requests
});
