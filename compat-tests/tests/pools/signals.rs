//! SIGHUP, SIGUSR1 and SIGUSR2.

use compat_tests::secs;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::bench::Bench;

#[test]
fn hup_restarts_warmly_in_place_with_the_same_arguments() {
    let bench = Bench::new();
    let mut worker = bench.readme_worker("-c 3 -n kept@host -l INFO -q --max-tasks-per-child 1");
    worker.wait_for_line("kept@host ready: .* concurrency 3", secs(60));
    let script = r#"
def pid():
    return list(app.control.inspect(timeout=30, limit=1).stats().values())[0]["pid"]
before = pid()
running = [call("proj.tasks.sleep", 2), call("proj.tasks.sleep_in_child", 2)]
eventually(lambda: sum(map(len, (app.control.inspect(timeout=30, limit=1).active() or {}).values())) == 2, "both run")
os.kill(before, 1)
outcomes = [outcome(result) for result in running]
after = outcome(call("proj.tasks.sleep", 0))
print(json.dumps({"before": before, "finished": [isinstance(pid, int) for pid in outcomes], "after": after}))"#;
    let found = bench.script(script);
    assert_eq!(found["finished"], json!([true, true]), "it was a warm shutdown");
    assert_eq!(found["after"], found["before"], "the process stays");
    worker.wait_for_lines("kept@host ready: .* concurrency 3", 2, secs(60));
    worker.signal(Signal::SIGHUP);
    worker.wait_for_lines("kept@host ready: .* concurrency 3", 3, secs(60));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn usr1_and_usr2_log_and_disturb_nothing() {
    let bench = Bench::new();
    // Nothing of this is to depend on the level of the log.
    let mut worker = bench.readme_worker("-c 4");
    let script = r#"
def active():
    return sum(map(len, (app.control.inspect(timeout=30, limit=1).active() or {}).values()))
stuck = call("proj.tasks.stick", task_id="stuck-id")
asleep = call("proj.tasks.sleep", 300, task_id="asleep-id")
child = call("proj.tasks.sleep_in_child", 300, task_id="child-id")
eventually(lambda: active() == 3, "all run")
print(json.dumps(list(app.control.inspect(timeout=30, limit=1).stats().values())[0]["pool"]["processes"]))"#;
    let children = bench.script(script);
    worker.signal(Signal::SIGUSR1);
    worker.wait_for_line("3 task\\(s\\) run, 0 are reserved", secs(10));
    worker
        .wait_for_line("task proj.tasks.stick\\[stuck-id\\] has run for .* in a thread of its own", secs(10));
    worker.wait_for_line("task proj.tasks.sleep\\[asleep-id\\] .* on the threads of the runtime", secs(10));
    worker.wait_for_line("task proj.tasks.sleep_in_child\\[child-id\\] .* in a child process", secs(10));
    worker.wait_for_line(&format!("child process {}: sleeps", children[0]), secs(10));
    worker.wait_for_line("child process [0-9]+ runs proj.tasks.sleep_in_child\\[child-id\\]", secs(10));
    worker.wait_for_line("thread [0-9]+ task-[0-9]+: sleeps", secs(10));
    worker.signal(Signal::SIGUSR2);
    worker.wait_for_line("SIGUSR2: this worker has no remote debugger", secs(10));
    // Sent to all processes of a name, they reach the children too.
    let child = i32::try_from(children[0].as_i64().unwrap()).unwrap();
    for signal in [Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGUSR1] {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), signal).unwrap();
    }
    let states = bench.script(r#"print(json.dumps([outcome(call("proj.tasks.add", 1, 2))]))"#);
    assert_eq!(states, json!([3]));
    assert!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), None).is_ok(), "the child lives");

    // A blocking function that never returns does not keep the program.
    worker.signal(Signal::SIGQUIT);
    assert_eq!(worker.wait(secs(20)).code(), Some(1), "cold");
}
