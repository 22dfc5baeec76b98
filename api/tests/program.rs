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
    let lines: Vec<serde_json::Value> = ended
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    for name in ["API_PORT is \"http\"", "DATABASE_URL is missing", "REDIS_URL is missing"] {
        let names =
            |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains(name));
        assert!(lines.iter().any(|line| line["level"] == "ERROR" && names(line)), "{name} is not in {ended}");
    }
}

/// An api with a database of its own and the demo user.
fn migrated(vars: &[(&str, &str)]) -> (Process, u16, tempfile::TempDir, RedisServer) {
    let (folder, port, redis) = (scratch_dir("api"), Port::free(), RedisServer::start());
    let companion = compat_tests::binary("companion");
    for arguments in [&["migrate"][..], &["seed", "--demo"]] {
        let mut command = Command::new(&companion);
        run(
            command.args(arguments).env_clear().current_dir(folder.path()).env("REDIS_URL", redis.url()),
            secs(30),
        )
        .success();
    }
    let mut command = program(folder.path());
    command.env("PORT", port.number().to_string()).env("REDIS_URL", redis.url()).envs(vars.iter().copied());
    let mut api = Process::spawn("companion-api", &command);
    api.wait_for_line("The API listens on", secs(10));
    (api, port.number(), folder, redis)
}

/// The answer to a request as it is written.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.write_all(request.as_bytes()).expect("write");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_http_itself_refuses_is_explained_too() {
    let (folder, port, redis) = (scratch_dir("api"), Port::free(), RedisServer::start());
    let mut command = program(folder.path());
    command.env("PORT", port.number().to_string()).env("REDIS_URL", redis.url());
    let mut api = Process::spawn("companion-api", &command);
    api.wait_for_line("The API listens on", secs(10));
    let many = (0..300).map(|number| format!("X-{number}: x\r\n")).collect::<String>();
    for (request, status) in [
        ("NONSENSE\r\n\r\n".to_owned(), "400 Bad Request"),
        (
            "GET /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
            "400 Bad Request",
        ),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000)), "414 URI Too Long"),
        (format!("GET /health HTTP/1.1\r\nHost: x\r\n{many}\r\n"), "431 Request Header Fields Too Large"),
    ] {
        let answer = ask(port.number(), &request);
        let refusal = &answer[answer.rfind("HTTP/1.1").unwrap_or_else(|| panic!("no answer: {answer:?}"))..];
        assert!(refusal.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        let lower = refusal.to_ascii_lowercase();
        assert!(
            lower.contains("\r\nx-request-id: ") && lower.contains("\r\nconnection: close\r\n"),
            "{answer}"
        );
        let body = refusal.split("\r\n\r\n").nth(1).unwrap_or_default();
        assert!(body.starts_with("{\"detail\":\""), "{answer}");
    }
    let head = ask(port.number(), "HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "no body: {head}");
    assert!(head.to_ascii_lowercase().contains("content-length: 15"), "{head}");
}

#[test]
fn wrong_keys_are_limited_by_the_address_of_the_client() {
    let (api, port, _folder, _redis) = migrated(&[("TRUSTED_PROXIES", "127.0.0.0/8, ::1")]);
    let status = |client: &str, key: &str| {
        let answer = ask(
            port,
            &format!(
                "GET /reminders HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n"
            ),
        );
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(status("192.0.2.1", "sk-demo-accountability"), "200");
    let mut refused: Vec<String> =
        (0..40).map(|number| status("192.0.2.1", &format!("sk-demo-guess-{number}"))).collect();
    assert_eq!(refused.first().map(String::as_str), Some("401"));
    assert_eq!(refused.pop().as_deref(), Some("429"), "{refused:?}");
    assert_eq!(status("192.0.2.1", "sk-demo-accountability"), "200", "a key that was right before goes on");
    assert_eq!(status("192.0.2.2", "sk-demo-guess"), "401", "another client");
    assert!(api.lines_with("client=192.0.2.1").len() >= 40, "the access log names the client");
}

#[test]
fn pages_of_chosen_origins_may_use_it_and_long_answers_are_compressed() {
    let (_api, port, _folder, _redis) = migrated(&[("CORS_ALLOW_ORIGINS", "https://app.example.com")]);
    let preflight = |origin: &str| {
        ask(port, &format!("OPTIONS /chat HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-api-key\r\nConnection: close\r\n\r\n")).to_ascii_lowercase()
    };
    let allowed = preflight("https://app.example.com");
    assert!(allowed.contains("access-control-allow-origin: https://app.example.com\r\n"), "{allowed}");
    assert!(allowed.contains("access-control-allow-headers: ") && allowed.contains("x-api-key"), "{allowed}");
    assert!(!preflight("https://evil.example.com").contains("access-control-allow-origin"));
    let metrics =
        ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
    assert!(metrics.to_ascii_lowercase().contains("content-encoding: gzip"), "{metrics}");
    let short =
        ask(port, "GET /health HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
    assert!(short.ends_with("{\"status\":\"ok\"}"), "{short}");
}
