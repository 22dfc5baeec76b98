//! The other end of an HTTP exchange: an outside service that does what a test wants of it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let matching = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        self.head.lines().find(matching).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }
}

/// What is answered to the n-th request, from 0: a status and a body; nothing closes the connection.
type Script = fn(usize) -> Option<(u16, &'static str)>;

pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Peer {
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let log = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = log.clone();
                tokio::spawn(answer(stream, script, log));
            }
        });
        Self { address, received }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }
}

async fn answer(mut stream: TcpStream, script: Script, log: Arc<Mutex<Vec<Received>>>) -> Option<()> {
    let mut bytes = Vec::new();
    let request = loop {
        let read = stream.read_buf(&mut bytes).await.ok()?;
        if read == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let request = Received { head: head.to_owned(), body: Value::Null };
        let length: usize =
            request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        if body.len() >= length {
            break Received { body: serde_json::from_str(body).expect("JSON"), ..request };
        }
    };
    let number = {
        let mut log = log.lock().expect("not poisoned");
        log.push(request);
        log.len() - 1
    };
    let (status, body) = script(number)?;
    let answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.ok()
}
