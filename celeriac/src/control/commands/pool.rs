//! How many tasks may run at a time.

use super::{Answer, Arguments, Failed, Panel, nok, ok};

pub(super) fn grow(panel: &Panel, arguments: &Arguments) -> Answer {
    resize(panel, arguments, 1, "grow")
}

pub(super) fn shrink(panel: &Panel, arguments: &Arguments) -> Answer {
    resize(panel, arguments, -1, "shrink")
}

fn resize(panel: &Panel, arguments: &Arguments, direction: i64, verb: &str) -> Answer {
    let worker = panel.worker();
    if worker.autoscaler().is_some() {
        return Ok(nok(format!(
            "pool_{verb} is not supported with autoscale. Adjust autoscale range instead."
        )));
    }
    let count = match (arguments.get("n"), arguments.number("n")) {
        (None, _) => 1,
        (Some(_), Some(count)) if count.is_finite() => count as i64,
        _ => return Err(Failed::raised("TypeError", "n must be a number")),
    };
    let slots = i64::try_from(worker.pool().max_concurrency).unwrap_or(i64::MAX);
    let slots = slots.saturating_add(direction.saturating_mul(count));
    match usize::try_from(slots) {
        Ok(slots) if slots > 0 => worker.resize_pool(slots),
        _ => return Err(Failed::raised("ValueError", "Can't shrink pool. All processes busy!")),
    }
    Ok(ok(format!("pool will {verb}")))
}

pub(super) fn restart(panel: &Panel, _: &Arguments) -> Answer {
    if !panel.worker().config().worker_pool_restarts {
        return Err(Failed::raised("ValueError", "Pool restarts not enabled"));
    }
    panel.worker().restart_pool();
    Ok(ok("reload started"))
}

pub(super) fn autoscale(panel: &Panel, arguments: &Arguments) -> Answer {
    let bound = |name: &str| match (arguments.get(name), arguments.number(name)) {
        (None, _) => Ok(None),
        (Some(_), Some(count)) if count.is_finite() && count >= 0.0 => Ok(Some(count as usize)),
        _ => Err(Failed::raised("ValueError", format!("{name} must be a count"))),
    };
    match panel.worker().set_autoscale(bound("max")?, bound("min")?) {
        Some((max, min)) => Ok(ok(format!("autoscale now max={max} min={min}"))),
        None => Err(Failed::raised("ValueError", "Autoscale not enabled")),
    }
}
