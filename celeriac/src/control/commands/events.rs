//! Switching events on and off.

use super::{Answer, Arguments, Panel, ok};
use crate::message::Value;

pub(super) fn enable(panel: &Panel, _: &Arguments) -> Answer {
    if panel.events().set_task_events(true) {
        return Ok(ok("task events already enabled"));
    }
    log::info!("Events of group {{task}} enabled by remote.");
    Ok(ok("task events enabled"))
}

pub(super) fn disable(panel: &Panel, _: &Arguments) -> Answer {
    if !panel.events().set_task_events(false) {
        return Ok(ok("task events already disabled"));
    }
    log::info!("Events of group {{task}} disabled by remote.");
    Ok(ok("task events disabled"))
}

pub(super) fn heartbeat(panel: &Panel, _: &Arguments) -> Answer {
    log::debug!("Heartbeat requested by remote.");
    panel.events().prompted_heartbeat();
    Ok(Value::Null)
}
