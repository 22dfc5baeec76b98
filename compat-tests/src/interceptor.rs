//! A path to a Redis on which chosen commands are answered otherwise.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Forwards connections to a Redis, reads every request, and lets chosen ones fail. Ends on drop.
///
/// Within `MULTI` a command that fails aborts the transaction, as at a server that refuses to queue it.
pub struct Interceptor {
    port: u16,
    state: Arc<State>,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server answers with that error, and does not carry it out.
    Error(String),
    /// As [`Fault::Error`], but within `MULTI` the command is queued, and fails only when it is carried out.
    ErrorWhenRun(String),
    /// The connection is closed, and it is not carried out.
    Close,
    /// It is carried out, and the connection is closed before the answer.
    CloseAfter,
}

/// Which requests fail, and how.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The name of the command.
    pub command: String,
    /// What stands in one of its arguments; nothing for any.
    pub argument: Option<String>,
    /// How often it happens; nothing for always.
    pub times: Option<usize>,
    /// What happens.
    pub fault: Fault,
}

#[derive(Default)]
struct State {
    rule: Mutex<Option<Rule>>,
    hits: Mutex<usize>,
    ended: AtomicBool,
}

/// What is to become of the next reply.
enum Expected {
    Passed,
    Replaced(Vec<u8>),
    Closed,
}

impl Interceptor {
    /// Starts one before the Redis at that port.
    ///
    /// # Panics
    /// When no port is free.
    #[track_caller]
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        listener.set_nonblocking(true).expect("sockets can be non-blocking");
        let state = Arc::<State>::default();
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            while !accepting.ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((client, _)) => accepting.connect(client, target),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { port, state }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets requests fail from now on, instead of those of an earlier rule.
    pub fn inject(&self, rule: Rule) {
        *lock(&self.state.rule) = Some(rule);
    }

    /// Lets every request pass.
    pub fn clear(&self) {
        *lock(&self.state.rule) = None;
    }

    /// How many requests have failed.
    pub fn hits(&self) -> usize {
        *lock(&self.state.hits)
    }
}

impl Drop for Interceptor {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn connect(self: &Arc<Self>, client: TcpStream, target: u16) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
        let _ = client.set_nonblocking(false);
        let (Ok(client_again), Ok(server_again)) = (client.try_clone(), server.try_clone()) else { return };
        let expected = Arc::<Mutex<VecDeque<Expected>>>::default();
        let (state, waiting) = (Arc::clone(self), Arc::clone(&expected));
        std::thread::spawn(move || {
            let _ = state.requests(&client_again, &server_again, &waiting);
            end(&client_again, &server_again);
        });
        std::thread::spawn(move || {
            let _ = replies(&client, &server, &expected);
            end(&client, &server);
        });
    }

    /// Forwards requests, each with what is to become of its reply.
    fn requests(
        &self,
        client: &TcpStream,
        mut server: &TcpStream,
        expected: &Mutex<VecDeque<Expected>>,
    ) -> Result<()> {
        let mut reader = BufReader::with_capacity(1 << 16, client);
        let (mut in_multi, mut is_aborted, mut refused_multi) = (false, false, None::<Vec<u8>>);
        loop {
            let (raw, arguments) = request(&mut reader)?;
            let name = String::from_utf8_lossy(&arguments[0]).to_uppercase();
            let fault = self.fault(&name, &arguments);
            let (sent, becomes) = match (&*name, fault) {
                (_, Some(Fault::Close)) => return Ok(()),
                (_, Some(Fault::CloseAfter)) => (raw, Expected::Closed),
                // Outside of a transaction, to which it leads.
                ("MULTI", Some(Fault::Error(text) | Fault::ErrorWhenRun(text))) => {
                    refused_multi = Some(error(&text));
                    (ping(), Expected::Replaced(error(&text)))
                }
                ("EXEC", _) if refused_multi.is_some() => {
                    refused_multi = None;
                    (ping(), Expected::Replaced(error("ERR EXEC without MULTI")))
                }
                _ if refused_multi.is_some() => {
                    (ping(), Expected::Replaced(refused_multi.clone().unwrap_or_default()))
                }
                ("EXEC", Some(Fault::Error(text) | Fault::ErrorWhenRun(text))) if in_multi => {
                    (in_multi, is_aborted) = (false, false);
                    (command(&["DISCARD"]), Expected::Replaced(error(&text)))
                }
                ("EXEC", None) if is_aborted => {
                    (in_multi, is_aborted) = (false, false);
                    let text = "EXECABORT Transaction discarded because of previous errors.";
                    (command(&["DISCARD"]), Expected::Replaced(error(text)))
                }
                (_, Some(Fault::ErrorWhenRun(text))) => {
                    let script = "return redis.error_reply(ARGV[1])";
                    (command(&["EVAL", script, "0", &text]), Expected::Passed)
                }
                (_, Some(Fault::Error(text))) if in_multi => {
                    is_aborted = true;
                    (command(&["ECHO", "refused"]), Expected::Replaced(error(&text)))
                }
                (_, Some(Fault::Error(text))) => (ping(), Expected::Replaced(error(&text))),
                (name, None) => {
                    in_multi = name == "MULTI" || in_multi && !["EXEC", "DISCARD"].contains(&name);
                    (raw, Expected::Passed)
                }
            };
            lock(expected).push_back(becomes);
            server.write_all(&sent)?;
            if ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"].contains(&&*name) {
                // From now on replies come unasked.
                std::io::copy(&mut reader, &mut server)?;
                return Ok(());
            }
        }
    }

    /// What happens to a request, if anything.
    fn fault(&self, name: &str, arguments: &[Vec<u8>]) -> Option<Fault> {
        let mut rule = lock(&self.rule);
        let found = rule.as_mut()?;
        let has = |text: &String| {
            arguments.iter().any(|argument| argument.windows(text.len()).any(|part| part == text.as_bytes()))
        };
        if found.command != name || found.times == Some(0) || !found.argument.as_ref().is_none_or(has) {
            return None;
        }
        if let Some(times) = &mut found.times {
            *times -= 1;
        }
        *lock(&self.hits) += 1;
        Some(found.fault.clone())
    }
}

/// Forwards replies, except those that become something else.
fn replies(mut client: &TcpStream, server: &TcpStream, expected: &Mutex<VecDeque<Expected>>) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, server);
    loop {
        let mut raw = Vec::new();
        reply(&mut reader, &mut raw)?;
        // What is pushed answers no request; nor does what a subscription brings.
        let becomes = if raw[0] == b'>' { None } else { lock(expected).pop_front() };
        match becomes.unwrap_or(Expected::Passed) {
            Expected::Passed => client.write_all(&raw)?,
            Expected::Replaced(other) => client.write_all(&other)?,
            Expected::Closed => return Ok(()),
        }
    }
}

fn end(client: &TcpStream, server: &TcpStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

fn error(text: &str) -> Vec<u8> {
    format!("-{text}\r\n").into_bytes()
}

fn ping() -> Vec<u8> {
    command(&["ECHO", "ping"])
}

fn command(arguments: &[&str]) -> Vec<u8> {
    let mut raw = format!("*{}\r\n", arguments.len());
    for argument in arguments {
        raw.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
    }
    raw.into_bytes()
}

/// One request, as it came and as its arguments.
fn request(reader: &mut impl BufRead) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut raw = Vec::new();
    let count = number(reader, &mut raw)?;
    let mut arguments = Vec::new();
    for _ in 0..count {
        let length = number(reader, &mut raw)?;
        let begin = raw.len();
        take(reader, &mut raw, length + 2)?;
        arguments.push(raw[begin..begin + length].to_vec());
    }
    if arguments.is_empty() { Err(ErrorKind::InvalidData.into()) } else { Ok((raw, arguments)) }
}

/// Appends one reply of RESP2 or RESP3.
fn reply(reader: &mut impl BufRead, raw: &mut Vec<u8>) -> Result<()> {
    let begin = raw.len();
    line(reader, raw)?;
    let kind = raw[begin];
    let length = || std::str::from_utf8(&raw[begin + 1..raw.len() - 2]).ok()?.parse::<i64>().ok();
    match kind {
        b'$' | b'!' | b'=' => match length() {
            Some(length) if length >= 0 => take(reader, raw, length as usize + 2),
            _ => Ok(()),
        },
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            let items = length().unwrap_or(0).max(0) * if matches!(kind, b'%' | b'|') { 2 } else { 1 };
            (0..items).try_for_each(|_| reply(reader, raw))
        }
        _ => Ok(()),
    }
}

/// Appends a line and returns the number that stands behind its first byte.
fn number(reader: &mut impl BufRead, raw: &mut Vec<u8>) -> Result<usize> {
    let begin = raw.len();
    line(reader, raw)?;
    let text = std::str::from_utf8(&raw[begin + 1..raw.len() - 2]).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| Error::from(ErrorKind::InvalidData))
}

fn line(reader: &mut impl BufRead, raw: &mut Vec<u8>) -> Result<()> {
    let begin = raw.len();
    reader.read_until(b'\n', raw)?;
    if raw.len() < begin + 3 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn take(reader: &mut impl BufRead, raw: &mut Vec<u8>, count: usize) -> Result<()> {
    let begin = raw.len();
    raw.resize(begin + count, 0);
    reader.read_exact(&mut raw[begin..])
}
