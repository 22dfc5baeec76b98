//! What a worker and its child processes say to each other: frames of a kind (one byte), a length (`u32`, big-endian)
//! and that many bytes.
//!
//! Between the same program's processes only; no other program depends on it.

use std::io::{self, Read, Write};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the worker: the child can run tasks. Empty.
    Ready = b'y' as isize,
    /// To the child: the soft limit in seconds (`f64`, big-endian, NaN for none), and the message as in a queue.
    Run = b'r' as isize,
    /// To the worker: the child has received the run. Empty.
    Begun = b'b' as isize,
    /// To the worker: how the run ended, see [`super::answer`].
    Done = b'd' as isize,
}

/// A frame that was read.
pub(super) type Frame = (Kind, Vec<u8>);

const HEADER: usize = 5;

/// A frame of that content.
pub(super) fn frame(kind: Kind, content: &[&[u8]]) -> io::Result<Vec<u8>> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "more than 4 GiB for one frame"))?;
    let mut bytes = vec![kind as u8];
    bytes.extend_from_slice(&length.to_be_bytes());
    content.iter().for_each(|part| bytes.extend_from_slice(part));
    Ok(bytes)
}

/// Sends a frame.
pub(super) async fn send(stream: &mut (impl AsyncWriteExt + Unpin), frame: &[u8]) -> io::Result<()> {
    stream.write_all(frame).await?;
    stream.flush().await
}

/// Receives a frame.
pub(super) async fn receive(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Frame> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let (kind, length) = parse(header)?;
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await?;
    Ok((kind, content))
}

/// As [`send`], blocking.
pub(super) fn send_blocking(mut stream: impl Write, frame: &[u8]) -> io::Result<()> {
    stream.write_all(frame)?;
    stream.flush()
}

/// As [`receive`], blocking.
pub(super) fn receive_blocking(mut stream: impl Read) -> io::Result<Frame> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let (kind, length) = parse(header)?;
    let mut content = vec![0; length];
    stream.read_exact(&mut content)?;
    Ok((kind, content))
}

fn parse([kind, length @ ..]: [u8; HEADER]) -> io::Result<(Kind, usize)> {
    let kind = match kind {
        b'y' => Kind::Ready,
        b'r' => Kind::Run,
        b'b' => Kind::Begun,
        b'd' => Kind::Done,
        other => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no frame begins with {other}")));
        }
    };
    Ok((kind, u32::from_be_bytes(length) as usize))
}
