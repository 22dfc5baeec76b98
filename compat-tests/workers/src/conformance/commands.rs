//! The suite's own control commands.

use celeriac::Value;
use celeriac::control::{Commands, Failed};
use celeriac::value;

/// Celery's commands and those of the suite.
pub(super) fn commands() -> Commands {
    Commands::default()
        .with("pidbox_reset_error", |_| async {
            Err(Failed::raised("RuntimeError", "pidbox reset integration test"))
        })
        .with_built_ins("schedule_add_then_cancel_consumer", |built_ins, arguments| async move {
            let queue = arguments.get("queue").cloned().unwrap_or_default();
            let arguments = || Value::Map([("queue".to_owned(), queue.clone())].into());
            built_ins.call("add_consumer", arguments()).await?;
            built_ins.call("cancel_consumer", arguments()).await?;
            Ok(Value::Map([("scheduled".to_owned(), queue)].into()))
        })
        // Queues are added and cancelled at once: nothing is ever put off.
        .with("pending_operations_count", |_| async { Ok(value!(0)) })
}
