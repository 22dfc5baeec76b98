//! A connection to Redis with nothing in between: one buffer out, one buffer in, replies read where they lie.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};

/// A connection; commands wait in a buffer until [`Wire::flush`].
pub(crate) struct Wire {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    start: usize,
    end: usize,
}

/// One reply; the elements of an array follow as replies of their own.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply<'a> {
    Status,
    Int(i64),
    Nil,
    Bulk(&'a [u8]),
    Array(usize),
}

impl Wire {
    /// Connects to `redis://HOST:PORT/DB` with DB 0.
    pub(crate) fn connect(url: &str) -> anyhow::Result<Self> {
        let address = url.strip_prefix("redis://").and_then(|rest| rest.split('/').next());
        let stream = TcpStream::connect(address.context("expected redis://HOST:PORT/0")?)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, out: Vec::new(), input: vec![0; 1 << 20], start: 0, end: 0 })
    }

    /// Adds a command.
    pub(crate) fn command(&mut self, arguments: &[&[u8]]) {
        self.begin(arguments.len());
        arguments.iter().for_each(|argument| self.argument(argument));
    }

    /// Begins a command of that many arguments, each to be added with [`Wire::argument`].
    pub(crate) fn begin(&mut self, arguments: usize) {
        self.out.push(b'*');
        self.number(arguments);
    }

    /// Adds an argument.
    pub(crate) fn argument(&mut self, argument: &[u8]) {
        self.out.push(b'$');
        self.number(argument.len());
        self.out.extend_from_slice(argument);
        self.out.extend_from_slice(b"\r\n");
    }

    fn number(&mut self, number: usize) {
        self.out.extend_from_slice(number.to_string().as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Sends what was added.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for the next reply; one that is an error fails.
    pub(crate) fn reply(&mut self) -> anyhow::Result<Reply<'_>> {
        let line = loop {
            match self.input[self.start..self.end].iter().position(|byte| *byte == b'\n') {
                Some(length) => break self.start..self.start + length - 1,
                None => self.fill()?,
            }
        };
        let kind = self.input[line.start];
        let text = std::str::from_utf8(&self.input[line.start + 1..line.end])?;
        let number = || text.parse::<i64>().context("expected a number");
        match kind {
            b'-' => bail!("the server said {text}"),
            b'+' => {
                self.start = line.end + 2;
                Ok(Reply::Status)
            }
            b':' => {
                let number = number()?;
                self.start = line.end + 2;
                Ok(Reply::Int(number))
            }
            b'*' | b'>' => {
                let length = number()?;
                self.start = line.end + 2;
                Ok(usize::try_from(length).map_or(Reply::Nil, Reply::Array))
            }
            b'$' => {
                let Ok(length) = usize::try_from(number()?) else {
                    self.start = line.end + 2;
                    return Ok(Reply::Nil);
                };
                // The buffer may move while the rest comes in: from here on offsets count from the line's start.
                let offset = line.end + 2 - line.start;
                while self.end - self.start < offset + length + 2 {
                    self.fill()?;
                }
                let begin = self.start + offset;
                self.start = begin + length + 2;
                Ok(Reply::Bulk(&self.input[begin..begin + length]))
            }
            _ => bail!("unknown reply {}", char::from(kind)),
        }
    }

    /// Waits for that many replies that say no more than that all went well.
    pub(crate) fn skip(&mut self, replies: usize) -> anyhow::Result<()> {
        for _ in 0..replies {
            if let Reply::Array(length) = self.reply()? {
                self.skip(length)?;
            }
        }
        Ok(())
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.input.len() {
            self.input.resize(self.input.len() * 2, 0);
        }
        match self.stream.read(&mut self.input[self.end..])? {
            0 => bail!("the server closed the connection"),
            count => self.end += count,
        }
        Ok(())
    }
}
