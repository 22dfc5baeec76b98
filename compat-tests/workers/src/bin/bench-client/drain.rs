//! Designs of taking messages from kombu's keys, reduced to their traffic.

use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::wire::{Reply, Wire};

const QUEUE: &[u8] = b"celery";
const IN_FLIGHT: [&[u8]; 2] = [b"bench.inflight.0", b"bench.inflight.1"];

/// Pops messages and records them in `unacked` and `unacked_index`.
const POP_AND_RECORD: &str = r#"
local taken = redis.call('RPOP', KEYS[1], ARGV[1]) or {}
for _, message in ipairs(taken) do
    local tag = string.match(message, '"delivery_tag": "([^"]+)"')
    redis.call('ZADD', KEYS[2], ARGV[2], tag)
    redis.call('HSET', KEYS[3], tag, message)
end
return taken"#;

/// Moves messages to an in-flight list.
const MOVE: &str = r#"
local taken = {}
for number = 1, tonumber(ARGV[1]) do
    local message = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
    if not message then break end
    taken[number] = message
end
return taken"#;

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long, value_enum)]
    design: Design,
    /// Store and publish a result for each message.
    #[arg(long)]
    results: bool,
    /// Messages in one round trip.
    #[arg(long, default_value_t = 256)]
    batch: usize,
}

/// How messages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Design {
    /// `RPOP n`, then `unacked` in a second step: what a crash between the two holds is lost.
    Rpop,
    /// A script that pops and records.
    Script,
    /// A script that moves messages to an in-flight list.
    ScriptMove,
    /// `LMOVE`s in a pipeline to an in-flight list, which the transaction that settles them deletes.
    Lmove,
    /// `BLMOVE`, one message at a time.
    Blmove,
}

impl Design {
    fn records(self) -> bool {
        matches!(self, Design::Rpop | Design::Script)
    }
}

/// What is needed to settle a message.
struct Taken {
    id: Vec<u8>,
    tag: Vec<u8>,
    raw: Vec<u8>,
}

/// Moves all messages of the queue and reports how fast.
pub(crate) fn run(broker: &str, options: &Options) -> anyhow::Result<String> {
    let mut wire = Wire::connect(broker)?;
    let script = match options.design {
        Design::Script => Some(load(&mut wire, POP_AND_RECORD)?),
        Design::ScriptMove => Some(load(&mut wire, MOVE)?),
        _ => None,
    };
    let batch = if options.design == Design::Blmove { 1 } else { options.batch };
    let mut held: Vec<Taken> = Vec::new();
    let (mut count, mut round, mut began) = (0, 0, None);
    loop {
        // One round trip settles what the one before has brought, and brings more.
        let settling = settle(&mut wire, options, &held, IN_FLIGHT[(round + 1) % 2]);
        fetch(&mut wire, options.design, batch, script.as_deref(), IN_FLIGHT[round % 2]);
        wire.flush()?;
        wire.skip(settling)?;
        count += held.len();
        held.clear();
        take(&mut wire, options.design, batch, &mut held)?;
        if held.is_empty() {
            break;
        }
        began.get_or_insert_with(Instant::now);
        round += 1;
    }
    let seconds = began.context("the queue is empty")?.elapsed().as_secs_f64();
    Ok(format!("{{\"tasks\": {count}, \"seconds\": {seconds:.6}, \"rate\": {:.1}}}", count as f64 / seconds))
}

fn load(wire: &mut Wire, script: &str) -> anyhow::Result<Vec<u8>> {
    wire.command(&[b"SCRIPT", b"LOAD", script.as_bytes()]);
    wire.flush()?;
    match wire.reply()? {
        Reply::Bulk(digest) => Ok(digest.to_vec()),
        reply => anyhow::bail!("unexpected reply {reply:?}"),
    }
}

fn fetch(wire: &mut Wire, design: Design, batch: usize, script: Option<&[u8]>, list: &[u8]) {
    let number = batch.to_string();
    let (number, script) = (number.as_bytes(), script.unwrap_or_default());
    match design {
        Design::Rpop => wire.command(&[b"RPOP", QUEUE, number]),
        Design::Script => {
            let keys: [&[u8]; 3] = [QUEUE, b"unacked_index", b"unacked"];
            wire.command(&[b"EVALSHA", script, b"3", keys[0], keys[1], keys[2], number, b"1790000000.5"]);
        }
        Design::ScriptMove => wire.command(&[b"EVALSHA", script, b"2", QUEUE, list, number]),
        Design::Lmove => {
            (0..batch).for_each(|_| wire.command(&[b"LMOVE", QUEUE, list, b"RIGHT", b"LEFT"]));
        }
        Design::Blmove => wire.command(&[b"BLMOVE", QUEUE, list, b"RIGHT", b"LEFT", b"0.05"]),
    }
}

fn take(wire: &mut Wire, design: Design, batch: usize, held: &mut Vec<Taken>) -> anyhow::Result<()> {
    let replies = match design {
        Design::Lmove => batch,
        Design::Blmove => 1,
        _ => match wire.reply()? {
            Reply::Array(length) => length,
            _ => 0,
        },
    };
    for _ in 0..replies {
        if let Reply::Bulk(raw) = wire.reply()? {
            let raw_copy = if design == Design::Rpop { raw.to_vec() } else { Vec::new() };
            held.push(Taken {
                id: text(raw, b"\"id\": \"")?,
                tag: text(raw, b"\"delivery_tag\": \"")?,
                raw: raw_copy,
            });
        }
    }
    Ok(())
}

/// The text that begins after that mark.
fn text(raw: &[u8], mark: &[u8]) -> anyhow::Result<Vec<u8>> {
    let start =
        raw.windows(mark.len()).position(|window| window == mark).context("not a task message")? + mark.len();
    let end = raw[start..].iter().position(|byte| *byte == b'"').context("not a task message")?;
    Ok(raw[start..start + end].to_vec())
}

/// Adds the transaction that settles the messages and returns how many replies it has.
fn settle(wire: &mut Wire, options: &Options, held: &[Taken], list: &[u8]) -> usize {
    if held.is_empty() {
        return 0;
    }
    let mut replies = 2;
    wire.command(&[b"MULTI"]);
    if options.design == Design::Rpop {
        wire.begin(2 + 2 * held.len());
        wire.argument(b"ZADD");
        wire.argument(b"unacked_index");
        for taken in held {
            wire.argument(b"1790000000.5");
            wire.argument(&taken.tag);
        }
        wire.begin(2 + 2 * held.len());
        wire.argument(b"HSET");
        wire.argument(b"unacked");
        for taken in held {
            wire.argument(&taken.tag);
            wire.argument(&taken.raw);
        }
        replies += 2;
    }
    if options.results {
        for Taken { id, .. } in held {
            let key = [b"celery-task-meta-", id.as_slice()].concat();
            let meta = [
                b"{\"status\": \"SUCCESS\", \"result\": null, \"traceback\": null, \"children\": [], \"date_done\": \"2026-11-25T22:00:00.000000+00:00\", \"task_id\": \"".as_slice(),
                id,
                b"\"}",
            ]
            .concat();
            wire.command(&[b"SETEX", &key, b"86400", &meta]);
            wire.command(&[b"PUBLISH", &key, &meta]);
            replies += 2;
        }
    }
    if options.design.records() {
        for (name, key) in [(b"ZREM", b"unacked_index".as_slice()), (b"HDEL", b"unacked")] {
            wire.begin(2 + held.len());
            wire.argument(name);
            wire.argument(key);
            held.iter().for_each(|taken| wire.argument(&taken.tag));
        }
        replies += 2;
    } else {
        wire.command(&[b"DEL", list]);
        replies += 1;
    }
    wire.command(&[b"EXEC"]);
    replies
}
