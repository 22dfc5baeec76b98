//! The program `companion-api` as a supervisor sees it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use compat_tests::{Port, Process, RedisServer, eventually, run, scratch_dir, secs};

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

/// Sends half of a request's head and keeps the connection.
fn half_open(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    write!(stream, "GET /health HTTP/1.1\r\nHost:").expect("write");
    stream
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn silent_clients_keep_nobody_out_and_are_closed() {
    let (folder, port, redis) = (scratch_dir("api"), Port::free(), RedisServer::start());
    let mut command = program(folder.path());
    command
        .env("PORT", port.number().to_string())
        .env("REDIS_URL", redis.url())
        .env("API_MAX_CONNECTIONS", "20");
    let mut api = Process::spawn("companion-api", &command);
    api.wait_for_line("The API listens on", secs(10));
    let mut silent: Vec<TcpStream> = (0..200).map(|_| half_open(port.number())).collect();
    for _ in 0..10 {
        assert!(get(port.number(), "/health").ends_with("{\"status\":\"ok\"}"));
    }
    let open = silent.iter_mut().map(is_closed).filter(|closed| !closed).count();
    assert!(open <= 20, "{open} connections are open");
    eventually("the silent connections to be closed", secs(30), || silent.iter_mut().all(is_closed));
    // A client that finishes its request in time is answered on the same connection, again and again.
    let mut slow = half_open(port.number());
    write!(slow, " x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("write");
    let mut answers = String::new();
    slow.read_to_string(&mut answers).expect("read");
    assert_eq!(answers.matches("{\"status\":\"ok\"}").count(), 2, "{answers}");

    let _half = half_open(port.number());
    assert!(api.terminate(secs(20)).success());
    assert!(!api.lines_with("The API has stopped").is_empty());
    assert!(api.lines_with("requests unfinished").is_empty(), "half a request does not delay the end");
    assert!(api.lines_with("ERROR").is_empty(), "clients that leave are no errors of the service");
}

#[test]
fn connections_fit_into_the_file_descriptors() {
    let (folder, port, redis) = (scratch_dir("api"), Port::free(), RedisServer::start());
    let mut command = Command::new("prlimit");
    command.args(["--nofile=100:100", "--", env!("CARGO_BIN_EXE_companion-api")]).current_dir(folder.path());
    command.env("API_HOST", "127.0.0.1").env("PORT", port.number().to_string()).env("REDIS_URL", redis.url());
    let mut api = Process::spawn("companion-api", &command);
    api.wait_for_line("Only 36 connections fit into 100 file descriptors", secs(10));
    api.wait_for_line("The API listens on", secs(10));
    let _silent: Vec<TcpStream> = (0..150).map(|_| half_open(port.number())).collect();
    assert!(get(port.number(), "/health").ends_with("{\"status\":\"ok\"}"));
    assert!(api.terminate(secs(20)).success());
    assert!(api.lines_with("cannot take connections").is_empty());
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
