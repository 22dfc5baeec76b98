//! A TCP path that can be broken.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Forwards TCP connections to a port of this machine until told otherwise. Ends on drop.
pub struct Proxy {
    port: u16,
    path: Arc<Path>,
}

#[derive(Default)]
struct Path {
    /// Nothing is forwarded; connections are taken and stay open.
    swallows: AtomicBool,
    /// Connections of an earlier generation are never forwarded again.
    generation: AtomicUsize,
    /// Connections of an earlier one are closed.
    cut: AtomicUsize,
    /// How many connections there were so far, and how many of them drip.
    connections: AtomicUsize,
    dripping: AtomicUsize,
    ended: AtomicBool,
}

impl Proxy {
    /// Starts one that forwards to that port.
    ///
    /// # Panics
    /// When no port is free.
    #[track_caller]
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        listener.set_nonblocking(true).expect("sockets can be non-blocking");
        let path = Arc::<Path>::default();
        let accepting = Arc::clone(&path);
        std::thread::spawn(move || accepting.accept(&listener, target));
        Self { port, path }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing is forwarded and nothing is closed.
    pub fn black_hole(&self) {
        self.path.swallows.store(true, Ordering::SeqCst);
    }

    /// New connections are forwarded again; those that were open stay dead, as behind a router that has forgotten them.
    pub fn forget(&self) {
        self.path.generation.fetch_add(1, Ordering::SeqCst);
        self.path.swallows.store(false, Ordering::SeqCst);
    }

    /// All connections are forwarded again.
    pub fn resume(&self) {
        self.path.swallows.store(false, Ordering::SeqCst);
    }

    /// From now on the connections that are open forward one byte at a time, twenty a second.
    pub fn drip(&self) {
        self.path.dripping.store(self.path.connections.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.path.cut.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.path.ended.store(true, Ordering::SeqCst);
    }
}

/// How long a connection that drips takes for a byte.
const DRIP: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(5);

impl Path {
    fn accept(self: Arc<Self>, listener: &TcpListener, target: u16) {
        while !self.ended.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((client, _)) => {
                    let path = Arc::clone(&self);
                    std::thread::spawn(move || path.connect(client, target));
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    fn connect(self: Arc<Self>, client: TcpStream, target: u16) {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let generation = self.generation.load(Ordering::SeqCst);
        let cut = self.cut.load(Ordering::SeqCst);
        while self.is_dead(generation) && self.is_open(cut) {
            std::thread::sleep(LOOK);
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
        let (Ok(client_again), Ok(server_again)) = (client.try_clone(), server.try_clone()) else { return };
        let path = Arc::clone(&self);
        std::thread::spawn(move || path.pump(client_again, server_again, number, generation, cut));
        self.pump(server, client, number, generation, cut);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, number: usize, generation: usize, cut: usize) {
        let mut buffer = vec![0; 64 * 1024];
        let _ = from.set_nodelay(true);
        let _ = to.set_nodelay(true);
        let _ = from.set_read_timeout(Some(LOOK));
        while self.is_open(cut) {
            if self.is_dead(generation) {
                std::thread::sleep(LOOK);
                continue;
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    // What came while this was reading may have been sent after the path broke.
                    while self.is_dead(generation) && self.is_open(cut) {
                        std::thread::sleep(LOOK);
                    }
                    let mut rest = &buffer[..count];
                    while self.drips(number)
                        && self.is_open(cut)
                        && let Some((byte, others)) = rest.split_first()
                    {
                        if to.write_all(&[*byte]).is_err() {
                            break;
                        }
                        rest = others;
                        std::thread::sleep(DRIP);
                    }
                    if !self.is_open(cut) || to.write_all(rest).is_err() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn is_open(&self, cut: usize) -> bool {
        self.cut.load(Ordering::SeqCst) == cut && !self.ended.load(Ordering::SeqCst)
    }

    fn drips(&self, number: usize) -> bool {
        number < self.dripping.load(Ordering::SeqCst)
    }

    fn is_dead(&self, generation: usize) -> bool {
        self.swallows.load(Ordering::SeqCst) || self.generation.load(Ordering::SeqCst) != generation
    }
}
