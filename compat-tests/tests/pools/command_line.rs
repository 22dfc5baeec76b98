//! The worker of the README: its command line, its banner, its process.

use std::fs;
use std::path::Path;

use compat_tests::{eventually, run, secs, workspace_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::json;

use crate::bench::Bench;

#[test]
fn the_worker_of_the_readme_is_this_one() {
    let main = r#"async fn main() -> celeriac::Result<Stopped> {
    Worker::from_args("proj")"#;
    for file in ["README.md", "compat-tests/workers/src/bin/readme-worker.rs"] {
        let text = fs::read_to_string(workspace_root().join(file)).unwrap();
        assert!(text.contains(main), "{file}");
    }
}

#[test]
fn a_command_line_that_cannot_be_used_ends_with_2_and_says_why() {
    let bench = Bench::new();
    for (line, words) in [
        ("--nonsense", "unexpected argument '--nonsense'"),
        ("-c 3 --nonsense", "unexpected argument '--nonsense'"),
        ("-c many", "worker_concurrency"),
        ("-B", "run one beside the workers"),
        ("-B -s /tmp/schedule --scheduler x.Y", "run one beside the workers"),
        ("--uid no-such-user", "--uid no-such-user: no such user"),
        ("--gid no-such-group", "--gid no-such-group: no such group"),
        ("--umask rwx", "--umask rwx: no mask of permissions"),
        ("-D --umask 999", "--umask 999: no mask of permissions"),
        ("-P fast", "worker_pool"),
    ] {
        let finished = run(&bench.readme_command(line), secs(30));
        assert_eq!(finished.status.code(), Some(2), "{line}: {finished}");
        assert!(finished.stderr.contains(words), "{line}: {finished}");
    }
    let finished = run(&bench.readme_command("-f /no/such/folder/w.log"), secs(30));
    assert!(finished.failure().contains("/no/such/folder/w.log"), "{finished}");
}

#[test]
fn a_banner_says_what_runs_unless_the_worker_is_to_be_quiet() {
    let bench = Bench::new();
    let mut worker = bench.readme_worker("-c 3 -n w@host -Q images -P gevent -l INFO");
    worker.wait_for_line("w@host ready", secs(60));
    let lines = worker.lines().join("\n");
    for words in
        ["w@host v", ".> app:         proj", ".> concurrency: 3 ", ".> images ", "  . proj.tasks.add"]
    {
        assert!(lines.contains(words), "{words}: {lines}");
    }
    assert!(lines.contains("worker_pool gevent: there are no green threads here"), "{lines}");
    assert!(worker.terminate(secs(20)).success());

    let mut worker = bench.readme_worker("-c 3 -q -l INFO");
    worker.wait_for_line(" ready", secs(60));
    assert_eq!(worker.lines_with("concurrency: 3|app: "), [""; 0]);
    assert!(worker.terminate(secs(20)).success());
}

/// Ends a process that left its test behind.
struct Detached(Pid);

impl Drop for Detached {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

fn pid_in(file: &Path) -> Option<Pid> {
    fs::read_to_string(file).ok()?.trim().parse().ok().map(Pid::from_raw)
}

#[test]
fn a_detached_worker_has_its_files_its_mask_and_its_directory_and_keeps_others_out() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("work")).unwrap();
    let line = "-D --workdir work --umask 077 -n w1@host --pidfile %n.pid -f %n-%h.log -l INFO";
    let mut command = bench.readme_command(line);
    command.current_dir(folder.path());
    let work = fs::canonicalize(folder.path().join("work")).unwrap();
    let (pidfile, log) = (work.join("w1.pid"), work.join("w1-host.log"));
    run(&command, secs(60)).success();
    let pid = pid_in(&pidfile).expect("the file is there when the first process has ended");
    let _detached = Detached(pid);
    assert_eq!(nix::unistd::getsid(Some(pid)).unwrap(), pid, "a session of its own");

    let second = run(&command, secs(60));
    assert_eq!(second.status.code(), Some(73), "{second}");
    assert!(second.stderr.contains(&format!("its process {pid} runs")), "{second}");

    let script = r#"print(json.dumps([outcome(call("proj.tasks.process")), outcome(call("proj.tasks.sleep_in_child", 0))]))"#;
    let found = bench.script(script);
    let process = &found[0];
    assert_eq!((&process[0], &process[4]), (&json!(pid.as_raw()), &json!("0077")));
    assert_eq!(process[5], json!(work));
    assert!(found[1].is_u64(), "children start in the directory: {found}");
    let text = || fs::read_to_string(&log).unwrap();
    eventually("the log is written", secs(20), || text().contains("w1@host ready"));
    assert!(text().contains(".> concurrency"), "the banner goes to the log");

    kill(pid, Signal::SIGHUP).unwrap();
    eventually("it has started again", secs(60), || text().matches("w1@host ready").count() == 2);
    let found = bench.script(script);
    assert_eq!((&found[0][0], &found[0][5]), (&json!(pid.as_raw()), &json!(work)), "where and what it was");

    kill(pid, Signal::SIGTERM).unwrap();
    eventually("the pid file is removed", secs(30), || !pidfile.exists());
    assert!(text().contains("w1@host stopped"));
}

#[test]
fn the_user_and_the_group_are_given_up_for_good_or_the_worker_does_not_start() {
    let bench = Bench::new();
    let line = "--uid 65534 --gid 65534 -l INFO -q --worker-proc-alive-timeout 60";
    if !geteuid().is_root() {
        let finished = run(&bench.readme_command(line), secs(30));
        assert!(finished.failure().contains("only root can become another user"), "{finished}");
        return;
    }
    let mut worker = bench.readme_worker(line);
    worker.wait_for_line(" ready", secs(60));
    let found = bench.script(r#"print(json.dumps(outcome(call("proj.tasks.process"))))"#);
    let nobody = json!("65534 65534 65534 65534");
    assert_eq!((&found[1], &found[2]), (&nobody, &nobody));
    assert!(!found[3].as_str().unwrap().split(' ').any(|group| group == "0"), "no group of root: {found}");
    worker.signal(Signal::SIGHUP);
    worker.wait_for_lines(" ready", 2, secs(60));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn purge_empties_the_queues_first() {
    let bench = Bench::new();
    bench.script(r#"print(json.dumps([call("proj.tasks.add", n, n).id for n in range(7)]))"#);
    let mut worker = bench.readme_worker("--purge");
    worker.wait_for_line("purge: Erased 7 messages from the queue", secs(60));
    let found =
        bench.script(r#"print(json.dumps([outcome(call("proj.tasks.add", 1, 2)), redis.llen("celery")]))"#);
    assert_eq!(found, json!([3, 0]));
    assert!(worker.terminate(secs(20)).success());
}
