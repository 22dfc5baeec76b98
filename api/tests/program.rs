//! The program `companion-api` as a supervisor sees it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use compat_tests::{Port, Process, RedisServer, run, scratch_dir, secs};

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_companion-api"));
    command.env_clear().current_dir(folder).env("API_HOST", "127.0.0.1").env("RUST_BACKTRACE", "1");
    command
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    answer
}

#[test]
fn it_serves_until_it_is_told_to_stop() {
    let (folder, port, redis) = (scratch_dir("api"), Port::free(), RedisServer::start());
    let mut command = program(folder.path());
    command.env("PORT", port.number().to_string()).env("REDIS_URL", redis.url());
    let mut api = Process::spawn("companion-api", &command);
    api.wait_for_line("The API listens on", secs(10));
    assert!(get(port.number(), "/health").ends_with("{\"status\":\"ok\"}"));
    // A client that keeps its connection open does not keep the program alive.
    let _idle = TcpStream::connect(("127.0.0.1", port.number())).expect("connect");
    assert!(api.terminate(secs(10)).success());
    assert!(!api.lines_with("The API stops").is_empty());
}

#[test]
fn a_port_in_use_is_named_with_a_hint() {
    let (folder, taken) = (scratch_dir("api"), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let port = taken.local_addr().expect("an address").port().to_string();
    let mut command = program(folder.path());
    let ended = run(command.env("API_PORT", &port), secs(10)).failure();
    assert!(ended.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{ended}");
    assert!(ended.contains("hint: another program uses the port; set API_PORT"), "{ended}");
    assert!(!ended.contains("stack backtrace"), "{ended}");
}

#[test]
fn settings_that_cannot_be_used_are_all_named() {
    let folder = scratch_dir("api");
    let mut command = program(folder.path());
    let ended = run(command.env("APP_ENV", "production").env("API_PORT", "http"), secs(10)).failure();
    for name in ["API_PORT is \"http\"", "DATABASE_URL is missing", "REDIS_URL is missing"] {
        assert!(ended.contains(name), "{name} is not in {ended}");
    }
}
