//! `infra/with-health-check`, which ends a program that is not healthy any more.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use compat_tests::{Process, secs, workspace_root};

/// Answers 200 while it is told to be healthy, else 503; returns its port.
fn probe(healthy: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, healthy.load(Ordering::SeqCst));
        }
    });
    port
}

fn answer(mut stream: TcpStream, is_healthy: bool) {
    let _ = stream.read(&mut [0; 1024]);
    let status = if is_healthy { "200 OK" } else { "503 Service Unavailable" };
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

fn supervised(port: u16, script: &str) -> Process {
    let mut command = Command::new(workspace_root().join("infra/with-health-check"));
    command.arg(format!("http://127.0.0.1:{port}/livez")).args(["sh", "-c", script]);
    command
        .env("HEALTH_START", "0")
        .env("HEALTH_INTERVAL", "0.2")
        .env("HEALTH_FAILURES", "3")
        .env("HEALTH_GRACE", "1");
    Process::spawn("with-health-check", &command)
}

#[test]
fn a_program_that_is_not_healthy_any_more_is_ended() {
    let healthy = Arc::new(AtomicBool::new(true));
    let port = probe(healthy.clone());
    let mut program =
        supervised(port, "trap 'echo asked to end; exit 7' TERM; echo started; while :; do sleep 0.1; done");
    program.wait_for_line("started", secs(10));
    healthy.store(false, Ordering::SeqCst);
    program.wait_for_line("livez failed 3 times in a row", secs(20));
    assert_eq!(program.wait(secs(20)).code(), Some(7), "the status is the program's");
    assert!(!program.lines_with("asked to end").is_empty());
}

#[test]
fn one_that_does_not_end_is_killed() {
    let port = probe(Arc::new(AtomicBool::new(false)));
    let mut program = supervised(port, "trap '' TERM; while :; do sleep 0.1; done");
    assert_eq!(program.wait(secs(20)).code(), Some(128 + 9));
}

#[test]
fn a_signal_and_a_status_are_passed_on() {
    let port = probe(Arc::new(AtomicBool::new(true)));
    let mut asked =
        supervised(port, "trap 'sleep 0.3; exit 5' TERM; echo started; while :; do sleep 0.1; done");
    asked.wait_for_line("started", secs(10));
    assert_eq!(asked.terminate(secs(20)).code(), Some(5), "it has its time to end");
    assert_eq!(supervised(port, "exit 3").wait(secs(20)).code(), Some(3));
}

/// The number behind `before`, in the first place after `from` in a file of `infra/`.
fn number(file: &str, from: &str, before: &str) -> u32 {
    let text = std::fs::read_to_string(workspace_root().join("infra").join(file)).expect("the file");
    let rest = text.split_once(from).unwrap_or_else(|| panic!("{file} has no {from}")).1;
    let rest = rest.split_once(before).unwrap_or_else(|| panic!("{file} has no {before}")).1;
    let digits: String =
        rest.trim_start_matches([' ', '"']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{file}: no number behind {before}"))
}

#[test]
fn the_worker_knows_the_time_that_it_is_given_to_end() {
    const GRACE: &str = "CELERY_CELERIAC_SHUTDOWN_GRACE";
    let worker = "command: [companion-worker]";
    assert_eq!(
        number("compose.yaml", worker, &format!("{GRACE}: ")),
        number("compose.yaml", worker, "stop_grace_period: ")
    );
    let worker = "name: ai-companion-worker";
    assert_eq!(
        number("render.yaml", worker, &format!("{GRACE}\n        value: ")),
        number("render.yaml", worker, "maxShutdownDelaySeconds: ")
    );
}
