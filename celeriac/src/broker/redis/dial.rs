//! A byte stream to one server: TCP with or without TLS, or a unix socket; watched for signs of life.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls::Tls;

/// How the kernel looks after idle TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keepalive {
    /// How long a connection may be idle before the kernel asks whether the other side is there.
    idle: Duration,
    /// How often it asks.
    interval: Duration,
    /// How many questions may stay without an answer.
    retries: u32,
    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up; 0 leaves it the choice.
    unacknowledged: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(5),
            interval: Duration::from_secs(2),
            retries: 3,
            unacknowledged: Duration::from_secs(10),
        }
    }
}

impl Keepalive {
    /// The same with options of TCP by their numbers on Linux (`linux/tcp.h`).
    pub(super) fn with(mut self, options: &[(u8, u32)]) -> Self {
        for (number, value) in options {
            let seconds = Duration::from_secs(u64::from(*value));
            match number {
                4 => self.idle = seconds,
                5 => self.interval = seconds,
                6 => self.retries = *value,
                18 => self.unacknowledged = Duration::from_millis(u64::from(*value)),
                _ => {}
            }
        }
        self
    }
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(formatter, "{host}:{port}"),
            Address::Unix(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// Opens a stream to a server; `shaking` is true from the moment at which TLS is begun until it is agreed upon.
pub(super) async fn dial(
    address: &Address,
    tls: Option<&Tls>,
    keepalive: Option<Keepalive>,
    shaking: &AtomicBool,
) -> io::Result<Watched> {
    let stream: Box<dyn Stream> = match address {
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Address::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            // Whoever closes a connection has had all replies, or has given it up: then what was sent and has not arrived
            // must not arrive any more.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            if let Some(keepalive) = keepalive {
                keep_alive(&stream, keepalive)?;
            }
            match tls {
                Some(tls) => {
                    shaking.store(true, Ordering::Relaxed);
                    let stream = tls.connect(host, stream).await?;
                    shaking.store(false, Ordering::Relaxed);
                    Box::new(stream)
                }
                None => Box::new(stream),
            }
        }
    };
    Ok(Watched { stream, signs: Signs::default(), is_full: false })
}

fn keep_alive(stream: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    let Keepalive { idle, interval, retries, unacknowledged } = keepalive;
    let socket = socket2::SockRef::from(stream);
    let keepalive =
        socket2::TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(retries);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(unacknowledged))?;
    Ok(())
}

/// What a connection reads and writes.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// When the other side last gave or took bytes, and how many in all.
#[derive(Clone)]
pub(super) struct Signs {
    begin: Instant,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Milliseconds since the beginning.
    last: AtomicU64,
    bytes: AtomicU64,
}

impl Default for Signs {
    fn default() -> Self {
        Self { begin: Instant::now(), seen: Arc::default() }
    }
}

impl Signs {
    /// The last moment at which it did.
    pub(super) fn last(&self) -> Instant {
        self.begin + Duration::from_millis(self.seen.last.load(Ordering::Relaxed))
    }

    /// How many bytes it has given and taken.
    pub(super) fn bytes(&self) -> u64 {
        self.seen.bytes.load(Ordering::Relaxed)
    }

    fn note(&self, bytes: usize) {
        let elapsed = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.seen.last.store(elapsed, Ordering::Relaxed);
        self.seen.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A stream whose signs of life are seen from outside.
pub(super) struct Watched {
    stream: Box<dyn Stream>,
    signs: Signs,
    /// Whether the kernel takes no more bytes until the other side has taken some.
    is_full: bool,
}

impl Watched {
    pub(super) fn signs(&self) -> Signs {
        self.signs.clone()
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.signs.note(buffer.filled().len() - before);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        // What only waits in the kernel says nothing of the other side: heartbeats would hide its silence.
        if let Poll::Ready(written) = &polled
            && self.is_full
        {
            self.signs.note(*written.as_ref().unwrap_or(&0));
        }
        self.is_full = polled.is_pending();
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
