//! `celeriac schema`: what the tasks of the workers take and return.

use std::time::Duration;

use celeriac::Celery;
use celeriac::config::SettingValue;
use celeriac::schema::Schemas;
use clap::Args;

use crate::failure::Failure;
use crate::out::{complain, say};

/// What the tasks of the workers take and return, as JSON schemas.
#[derive(Args)]
pub(crate) struct Schema {
    /// As a Python module with a typed object for each task
    #[arg(long)]
    python: bool,
    /// Ask these workers only
    #[arg(short, long, value_delimiter = ',')]
    destination: Vec<String>,
    /// Seconds to wait for answers
    #[arg(short, long, value_name = "SECONDS", default_value = "1.0", value_parser = Duration::from_text)]
    timeout: Duration,
}

impl Schema {
    pub(crate) async fn run(self, app: &Celery) -> Result<(), Failure> {
        let mut inspect = app.control().inspect().timeout(self.timeout);
        if !self.destination.is_empty() {
            inspect = inspect.destination(self.destination);
        }
        let mut schemas = Schemas::default();
        let mut answers = 0;
        for (node, answer) in inspect.schema().await? {
            match answer {
                Ok(answer) => {
                    answers += 1;
                    for name in schemas.merge(answer) {
                        complain(format_args!(
                            "{node} has another {name} than those that answered before it"
                        ));
                    }
                }
                // Celery's workers know no such command.
                Err(error) => complain(format_args!("{node}: {error}")),
            }
        }
        if answers == 0 {
            return Err(Failure::no_nodes());
        }
        if self.python {
            say(schemas.python().trim_end())
        } else {
            say(serde_json::to_string_pretty(&schemas).map_err(Failure::failed)?)
        }
    }
}
