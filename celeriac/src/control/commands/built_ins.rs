//! What a command of your own can do with the worker.

use std::sync::LazyLock;

use super::{Commands, Failed};
use crate::control::panel::Panel;
use crate::message::Value;

/// The worker's built-in commands, for a command of your own that is made of them; cheap to clone.
#[derive(Clone)]
pub struct BuiltIns {
    panel: Panel,
}

impl BuiltIns {
    pub(super) fn new(panel: Panel) -> Self {
        Self { panel }
    }

    /// Node name of the worker.
    pub fn hostname(&self) -> &str {
        &self.panel.state().hostname
    }

    /// Carries out a built-in command, such as `add_consumer` with `{"queue": "images"}`, and returns its answer.
    ///
    /// If it is cancelled, the command may have taken effect in part.
    ///
    /// # Errors
    /// Those of the command; `KeyError` when there is none of that name.
    pub async fn call(&self, command: &str, arguments: Value) -> Result<Value, Failed> {
        static BUILT_IN: LazyLock<Commands> = LazyLock::new(Commands::default);
        BUILT_IN.call(command, arguments, &self.panel).await
    }
}

impl std::fmt::Debug for BuiltIns {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BuiltIns").field("hostname", &self.hostname()).finish()
    }
}
