//! `celeriac schema`: what the tasks of the workers take and return.

use std::time::Duration;

use celeriac::Celery;
use celeriac::schema::Schemas;
use clap::Args;

use crate::failure::Failure;

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
    #[arg(short, long, default_value_t = 1.0)]
    timeout: f64,
}

impl Schema {
    pub(crate) async fn run(self, app: &Celery) -> Result<(), Failure> {
        let mut inspect = app.control().inspect();
        if let Ok(timeout) = Duration::try_from_secs_f64(self.timeout) {
            inspect = inspect.timeout(timeout);
        }
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
                        eprintln!("{node} has another {name} than those that answered before it");
                    }
                }
                // Celery's workers know no such command.
                Err(error) => eprintln!("{node}: {error}"),
            }
        }
        if answers == 0 {
            return Err(Failure::no_nodes());
        }
        if self.python {
            print!("{}", schemas.python());
        } else {
            println!("{}", serde_json::to_string_pretty(&schemas).unwrap_or_default());
        }
        Ok(())
    }
}
