//! Sending a run that was recorded elsewhere, once.

use celeriac::Celery;
use redis::{cmd, pipe};

use crate::client::{failure, signature};
use crate::entry::Run;
use crate::publish::PublishError;

/// Sends the commands of a run unless the mark says that they were sent. Each command comes as its count of arguments and
/// these. A mark whose run the server does not take is taken back; what follows the message itself is an event at most.
const SEND_ONCE: &str = "if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[1]) then return 0 end
     local at = 2
     while at < #ARGV do
       local count = tonumber(ARGV[at])
       local reply = redis.pcall(unpack(ARGV, at + 1, at + count))
       if at == 2 and type(reply) == 'table' and reply.err then redis.call('DEL', KEYS[1]); return reply end
       at = at + count + 1
     end
     return 1";

/// How long the broker knows that a run was sent, in seconds.
const REMEMBERED: u32 = 86_400;

/// Sends a run, unless the broker knows that it was sent before.
pub(crate) async fn send_once(app: &Celery, run: &Run) -> Result<(), PublishError> {
    let link = app.broker().redis().map(|queues| queues.link());
    let Some(link) = link.filter(|link| !link.endpoint().is_cluster()) else {
        return app.apply(signature(run)).await.map(drop).map_err(failure);
    };
    let commands = app.prepare(signature(run)).await.map_err(failure)?;
    let mut send = cmd("EVAL");
    send.arg(SEND_ONCE).arg(1).arg(mark(app, run)).arg(REMEMBERED);
    for command in &commands {
        send.arg(command.len()).arg(command);
    }
    match link.call(pipe().add_command(send)).await {
        Ok(_) => Ok(()),
        Err(refused) if refused.code() == Some("NOPERM") => {
            app.apply(signature(run)).await.map(drop).map_err(failure)
        }
        Err(error) => Err(failure(error.into())),
    }
}

/// The key that says that a run was sent.
fn mark(app: &Celery, run: &Run) -> String {
    let prefix = app.config().broker_transport_options.text("global_keyprefix").unwrap_or_default();
    format!("{prefix}celeriac.beat.sent.{}", run.id)
}
