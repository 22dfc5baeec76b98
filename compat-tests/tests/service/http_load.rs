//! The speed of the api's answers, also beside clients that say nothing. `scripts/bench-service http` runs this in full size
//! with a release build; `LOAD_HTTP_SECONDS` and `LOAD_HALF_OPEN` are the sizes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use compat_tests::{Process, eventually_async, run, secs, size};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::stack::{API_KEY, On, SOON, Stack};

/// The figures of `wrk` for a route.
struct Answers {
    a_second: f64,
    half: String,
    most: String,
    refused: u64,
}

/// Asks for `path` over 16 connections for that time, by a script of `wrk` that says how.
fn wrk(stack: &Stack, folder: &Path, path: &str, seconds: usize, script: &str) -> Answers {
    let file = folder.join("ask.lua");
    std::fs::write(&file, script).expect("a script");
    let mut command = Command::new("wrk");
    command.args([
        "-t",
        "1",
        "-c",
        "16",
        "-d",
        &format!("{seconds}s"),
        "--latency",
        "--timeout",
        "10s",
        "-s",
    ]);
    command.arg(&file).arg(stack.url(path));
    let said = run(&command, secs(60) + secs(seconds as u64)).success();
    let behind = |mark: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(mark));
        line.map(|rest| rest.trim().to_owned())
    };
    Answers {
        a_second: behind("Requests/sec:")
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("{said}")),
        half: behind("50%").unwrap_or_default(),
        most: behind("99%").unwrap_or_default(),
        refused: behind("Non-2xx or 3xx responses:").map_or(0, |text| text.parse().expect("a number")),
    }
}

fn get() -> String {
    format!("wrk.headers['X-API-Key'] = '{API_KEY}'\n")
}

fn post(message: &str) -> String {
    let body = format!("{{\"message\": \"{message}\"}}");
    format!(
        "{}wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = '{body}'\n",
        get()
    )
}

#[tokio::test]
async fn the_api_answers_many() {
    let (seconds, half_open) = (size("LOAD_HTTP_SECONDS", 1), size("LOAD_HALF_OPEN", 100));
    let stack = Stack::new(On::Postgres);
    let mut command = stack.command("companion-api");
    command.env("RATE_LIMIT_PER_MINUTE", "100000000").env("RATE_LIMIT_PER_HOUR", "100000000");
    let api = Process::spawn("companion-api", &command);
    let _worker = stack.start("companion-worker");
    stack.await_health("ok", "ok", "ok").await;
    for _ in 0..20 {
        stack.remind("drink water in 3 days").await;
    }
    println!("| route | requests a second | 50 % within | 99 % within |\n| --- | --- | --- | --- |");
    let folder = stack.app_dir();
    let measure = async |name: &str, path: &str, script: String| {
        let (stack, folder) = (&stack, folder.clone());
        // `wrk` blocks this thread, on which nothing else has to run meanwhile.
        let answers = wrk(stack, &folder, path, seconds, &script);
        let Answers { a_second, half, most, refused } = &answers;
        println!("| {name} | {a_second:.0} | {half} | {most} |");
        assert_eq!(*refused, 0, "{name}");
        answers
    };
    measure("GET /health", "/health", get()).await;
    measure("GET /healthz", "/healthz", get()).await;
    measure("GET /reminders (20 of them)", "/reminders", get()).await;
    measure("POST /chat (\"Hello\")", "/chat", post("Hello")).await;
    measure("POST /chat (a reminder)", "/chat", post("Remind me to drink water in 3 days")).await;

    let crowd = Crowd::gather(stack.port(), half_open);
    eventually_async("all half-open connections are there", SOON, async || crowd.is_complete()).await;
    measure(&format!("GET /health, {half_open} half-open connections"), "/health", get()).await;
    let (open, taken) = (crowd.is_complete(), api.usage().peak_kib / 1024);
    drop(crowd);
    println!("The api took at most {taken} MiB.");
    assert!(open, "they were there all the time");
}

/// Connections that have sent half a request. Whenever the api closes one, there is another.
struct Crowd {
    stop: Arc<AtomicBool>,
    complete: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Crowd {
    fn gather(port: u16, count: usize) -> Self {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most).expect("as many as are allowed");
        let (stop, complete) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (stops, completed) = (Arc::clone(&stop), Arc::clone(&complete));
        let thread = std::thread::spawn(move || {
            let mut streams: Vec<TcpStream> = Vec::with_capacity(count);
            while !stops.load(Ordering::SeqCst) {
                streams.retain_mut(|stream| {
                    matches!(stream.read(&mut [0; 256]), Err(error) if error.kind() == ErrorKind::WouldBlock)
                });
                while streams.len() < count {
                    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { break };
                    let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow");
                    stream.set_nonblocking(true).expect("a socket that does not block");
                    streams.push(stream);
                }
                completed.store(streams.len() == count, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stop, complete, thread: Some(thread) }
    }

    fn is_complete(&self) -> bool {
        self.complete.load(Ordering::SeqCst)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
