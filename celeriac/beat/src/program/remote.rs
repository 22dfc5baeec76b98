//! `beat_enable_remote_control`: beat answers `inspect ping`, and is silent while it stalls.
//!
//! Source: `BeatPidbox` in `celery/beat.py`, celery 5.7.

use std::time::Duration;

use celeriac::Celery;

use super::BeatOptions;
use super::keeper::node_name;
use crate::health::Health;

/// The age of the last tick above which beat is silent, where `beat_remote_control_max_tick_age` does not say it. Celery's
/// is twice the longest sleep, but no less than this; here no sleep is longer than a heartbeat.
const MAX_TICK_AGE: Duration = Duration::from_secs(60);

impl BeatOptions {
    /// Answers pings if options or settings ask for it.
    pub(super) fn answer_pings(&self, app: &Celery, health: Health) -> Option<tokio::task::JoinHandle<()>> {
        let config = app.config();
        let is_wanted =
            self.enable_remote_control || config.beat_enable_remote_control && !self.no_enable_remote_control;
        if !is_wanted {
            return None;
        }
        let limit = config.beat_remote_control_max_tick_age.unwrap_or(MAX_TICK_AGE);
        let (control, node) = (app.control(), node_name(self));
        log::info!("remote control: {node} answers pings");
        Some(tokio::spawn(async move { control.answer_pings(&node, || health.stalls(limit)).await }))
    }
}
