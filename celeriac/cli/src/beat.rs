//! `celeriac beat`, and its commands.

use std::path::PathBuf;

use celeriac::Celery;
use celeriac_beat::{Beat, BeatError, Source};

use crate::failure::Failure;

/// Runs beat, or carries out one of its commands.
pub(crate) async fn run(beat: Beat, app: Celery, config: Option<PathBuf>) -> Result<(), Failure> {
    let source = Source::settings(app.config(), config);
    match beat.command {
        None => Ok(beat.options.run(app, source).await?),
        Some(command) => {
            let mut text = Vec::new();
            command.carry_out(&beat.options, &app, source, &mut text).await?;
            crate::out::write(&text)
        }
    }
}

impl From<BeatError> for Failure {
    fn from(error: BeatError) -> Self {
        Self::with_status(&error, error.exit_code())
    }
}
