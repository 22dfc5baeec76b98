//! The suite's own control commands.

use celeriac::control::{Commands, Failed};

/// Celery's commands and those of the suite.
pub(super) fn commands() -> Commands {
    Commands::default().with("pidbox_reset_error", |_| async {
        Err(Failed::raised("RuntimeError", "pidbox reset integration test"))
    })
}
