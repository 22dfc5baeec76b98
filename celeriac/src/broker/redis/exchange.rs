//! Commands that a script carries out: on a condition, or at a server that has reached its `maxmemory`, which is made to
//! take what frees memory, and what is paid for by that.
//!
//! Such a server refuses every command that may need memory, and in `MULTI` every command at all, an acknowledgement
//! too. In a script only the first write decides: when that one frees memory, the others may follow
//! (`scriptVerifyOOM` in Redis 7 `script.c`, `luaRedisGenericCommand` in Redis 6.2 `scripting.c`).

use redis::{Arg, Cmd};

use super::script::eval;
use crate::broker::refusal::{self, RefusalKind};

/// Carries commands out like `EXEC`: all of them, with one reply each. A script among them is loaded, since scripts
/// cannot be nested. Without a key to delete, the first command decides whether the others follow, and a command that
/// fails ends it: what removes stands behind what pushes, and a mark that was set is taken back.
///
/// `SELECT` has no reply. The first one names the database in which the script was called; one that fails ends it with the
/// error [`UNSELECTED`](refusal::UNSELECTED), and nothing was done if those stand in front.
const EXCHANGE: &str = r"
if KEYS[1] then redis.call('DEL', KEYS[1]) end
local replies, at, home = {}, 1, nil
local function done(result)
  if home then redis.call('SELECT', home) end
  return result
end
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  while ARGV[at + 1] == 'SELECT' do
    local selected = redis.pcall('SELECT', ARGV[at + 2])
    if selected.err then return done({err = 'UNSELECTED ' .. selected.err}) end
    home = home or ARGV[at + 2]
    at = last + 1
    last = at + tonumber(ARGV[at])
  end
  local reply
  if ARGV[at + 1] == 'EVAL' then
    local arguments = at + 4 + tonumber(ARGV[at + 3])
    local script = loadstring('local KEYS, ARGV = ... ' .. ARGV[at + 2])
    local done, result = pcall(script, {unpack(ARGV, at + 4, arguments - 1)}, {unpack(ARGV, arguments, last)})
    reply = result
    if not done and type(result) ~= 'table' then reply = {err = 'ERR ' .. tostring(result)} end
  else
    reply = redis.pcall(unpack(ARGV, at + 1, last))
  end
  if reply == nil then reply = false end
  if #replies == 0 and not KEYS[1] and (not reply or reply == 0) then return done(0) end
  if type(reply) == 'table' and reply.err and not KEYS[1] then
    if at > 1 and ARGV[2] == 'SET' then redis.call('DEL', ARGV[3]) end
    if ARGV[at + 1] == 'EVAL' then return done(reply) end
    return done({err = reply.err .. ' (' .. ARGV[at + 1] .. ' ' .. ARGV[at + 2] .. ')'})
  end
  replies[#replies + 1] = reply
  at = last + 1
end
return done(replies)";

/// Moves one message from a queue to an in-flight list, as `LMOVE` does.
const MOVE: &str = r"
local message = redis.call('RPOP', KEYS[1])
if message then redis.call('LPUSH', KEYS[2], message) end
return message";

/// All commands in one step; `scratch` is a key that is deleted.
pub(crate) fn exchange<'a>(scratch: &str, commands: impl Iterator<Item = &'a Cmd>) -> Cmd {
    carry_out(&[&scratch.to_owned()], commands)
}

/// All commands in one step, if the reply to the first is neither nothing nor 0; else the reply is 0.
pub(crate) fn guarded<'a>(commands: impl IntoIterator<Item = &'a Cmd>) -> Cmd {
    carry_out(&[], commands.into_iter())
}

fn carry_out<'a>(scratch: &[&String], commands: impl Iterator<Item = &'a Cmd>) -> Cmd {
    let mut all = eval(EXCHANGE, scratch, &[]);
    for command in commands {
        all.arg(command.args_iter().count());
        for argument in arguments(command) {
            all.arg(argument);
        }
    }
    all
}

/// The command that moves one message from a queue to an in-flight list.
pub(crate) fn move_one(from: &str, to: &str) -> Cmd {
    eval(MOVE, &[&from.to_owned(), &to.to_owned()], &[])
}

/// Whether the server's words say that its memory is full.
pub(crate) fn is_full(reason: &str) -> bool {
    refusal::kind(reason) == RefusalKind::Memory
}

/// About how many bytes the commands put onto the server.
pub(crate) fn weight<'a>(commands: impl IntoIterator<Item = &'a Cmd>) -> usize {
    let weigh = |command: &Cmd| {
        // The text of a script is not kept.
        let script = arguments(command).next() == Some(b"EVAL");
        arguments(command).skip(if script { 3 } else { 1 }).map(<[u8]>::len).sum::<usize>()
    };
    commands.into_iter().map(weigh).sum()
}

/// The command with the largest argument, and the bytes of that.
pub(crate) fn largest<'a>(commands: impl IntoIterator<Item = &'a Cmd>) -> Option<(&'a Cmd, usize)> {
    let size = |command: &'a Cmd| (command, arguments(command).map(<[u8]>::len).max().unwrap_or(0));
    let sizes = commands.into_iter().map(size);
    sizes.max_by_key(|(_, bytes)| *bytes)
}

/// The arguments of a command, its name in front.
pub(crate) fn arguments(command: &Cmd) -> impl Iterator<Item = &[u8]> {
    command.args_iter().filter_map(|argument| match argument {
        Arg::Simple(bytes) => Some(bytes),
        _ => None,
    })
}
