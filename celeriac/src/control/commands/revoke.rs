//! Keeping tasks from running, and ending those that run.

use std::collections::{HashMap, HashSet};

use super::{Answer, Arguments, Failed, Panel, ok};
use crate::control::python;
use crate::control::signal::signum;
use crate::heavy::aside;
use crate::message::{Map, Value, repr};
use crate::node::{Known, Stage, lock};

/// Most ids in one write to the broker, and most that are added without leaving the runtime's thread to others.
const AT_A_TIME: usize = 1000;
/// How many ids a line of the log names.
const SHOWN: usize = 100;

/// Revokes tasks by id, and ends them if told so.
pub(super) async fn revoke(panel: Panel, arguments: Arguments) -> Answer {
    revoke_ids(panel, &arguments, arguments.flag("terminate")).await
}

/// Revokes tasks by id and ends them.
pub(super) async fn terminate(panel: Panel, arguments: Arguments) -> Answer {
    revoke_ids(panel, &arguments, true).await
}

async fn revoke_ids(panel: Panel, arguments: &Arguments, terminate: bool) -> Answer {
    let ids = arguments.texts("task_id");
    // All of them at once, and before the first is written to the broker: a task that arrives meanwhile is dropped.
    let add = || {
        let mut revoked = lock(&panel.state().revoked);
        ids.iter().for_each(|id| revoked.add(id.as_str()));
    };
    if ids.len() > AT_A_TIME {
        aside(add)
    } else {
        add()
    }
    for some in ids.chunks(AT_A_TIME) {
        if let Err(error) = panel.revocations().add(some).await {
            log::warn!(error:% = error, count = some.len(); "Only this worker's memory keeps what was revoked: {error}");
        }
    }
    let known = requests_of(&panel, &ids);
    let is_active = |id: &String| known.get(id.as_str()).is_some_and(|known| known.is_active);
    let not_started: Vec<String> = ids.iter().filter(|id| !is_active(id)).cloned().collect();
    if !not_started.is_empty() {
        panel.worker().store_revoked(not_started).await;
    }
    if !terminate {
        let (shown, more) = (&ids[..ids.len().min(SHOWN)], ids.len().saturating_sub(SHOWN));
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        log::info!(count = ids.len(); "Tasks flagged as revoked: {}{more}", shown.join(", "));
        return Ok(ok(format!("tasks {} flagged as revoked", python::set(&ids))));
    }
    let signum = signum(arguments.get("signal"))?;
    let mut terminated = Vec::new();
    let known = requests_of(&panel, &ids);
    for id in ids {
        let Some(known) = known.get(&id) else { continue };
        for serial in &known.serials {
            log::info!(task_id = id.as_str(); "Terminating {id} ({signum})");
            panel.worker().terminate(*serial, signum);
        }
        terminated.push(id);
    }
    Ok(match terminated.as_slice() {
        [] => ok("terminate: tasks unknown"),
        ids => ok(format!("terminate: {}", ids.join(", "))),
    })
}

/// Revokes tasks by the values of their stamps, and ends those that run if told so.
pub(super) async fn by_stamped_headers(panel: Panel, arguments: Arguments) -> Answer {
    let signum = signum(arguments.get("signal"))?;
    let headers = stamps(&arguments)?;
    let shown = repr(&Value::Map(headers.clone()));
    {
        let mut revoked = lock(&panel.state().revoked);
        for (name, values) in &headers {
            revoked.add_stamp(name, listed(values).to_vec());
        }
    }
    for (name, values) in &headers {
        if let Err(error) = panel.revocations().add_stamps(name, listed(values)).await {
            log::warn!(error:% = error; "Only this worker's memory keeps the revoked stamp {name}: {error}");
        }
    }
    if !arguments.flag("terminate") {
        return Ok(ok(format!("headers {shown} flagged as revoked, but not terminated")));
    }
    let mut matched: Vec<(String, Vec<String>)> = Vec::new();
    let active: Vec<(u64, Known)> = panel
        .state()
        .requests()
        .iter()
        .filter(|(_, known)| matches!(known.stage, Stage::Active(_)))
        .map(|(serial, known)| (*serial, known.clone()))
        .collect();
    for (serial, known) in active {
        for (name, values) in &headers {
            let Some(stamp) = known.headers.stamps.get(name) else { continue };
            let common: Vec<String> = listed(stamp)
                .iter()
                .filter(|value| listed(values).contains(value))
                .map(python::str)
                .collect();
            if !common.is_empty() {
                panel.worker().terminate(serial, signum);
                add(&mut matched, name, common);
            }
        }
    }
    if matched.is_empty() {
        return Ok(ok(format!("headers {shown} were not terminated")));
    }
    let sets: Vec<String> = matched
        .iter()
        .map(|(name, values)| format!("{}: {}", repr(&name.as_str().into()), python::set(values)))
        .collect();
    Ok(ok(format!("headers defaultdict(<class 'set'>, {{{}}}) revoked", sets.join(", "))))
}

/// The requests of one task.
#[derive(Default)]
struct OfTask {
    serials: Vec<u64>,
    is_active: bool,
}

/// The requests of those tasks that the worker holds.
fn requests_of(panel: &Panel, ids: &[String]) -> HashMap<String, OfTask> {
    let ids: HashSet<&str> = ids.iter().map(String::as_str).collect();
    let mut found = HashMap::<String, OfTask>::new();
    for (serial, known) in panel.state().requests().iter() {
        if let Some(id) = known.headers.id.as_deref().filter(|id| ids.contains(id)) {
            let of_task = found.entry(id.to_owned()).or_default();
            of_task.serials.push(*serial);
            of_task.is_active |= matches!(known.stage, Stage::Active(_));
        }
    }
    found
}

/// Stamp values by name, from a mapping or from `["name=value"]`.
fn stamps(arguments: &Arguments) -> Result<Map, Failed> {
    match arguments.get("headers") {
        Some(Value::Map(headers)) => Ok(headers.clone()),
        Some(Value::List(pairs)) => pairs
            .iter()
            .map(|pair| match pair.as_str().and_then(|pair| pair.split_once('=')) {
                // Celery takes what stands before a second sign.
                Some((name, value)) => {
                    Ok((name.to_owned(), value.split('=').next().unwrap_or_default().into()))
                }
                None => Err(Failed::raised("IndexError", "list index out of range")),
            })
            .collect(),
        other => {
            let kind = other.map_or("NoneType", Value::kind);
            Err(Failed::raised("AttributeError", format!("'{kind}' object has no attribute 'items'")))
        }
    }
}

fn listed(value: &Value) -> &[Value] {
    if let Value::List(items) = value { items } else { std::slice::from_ref(value) }
}

fn add(matched: &mut Vec<(String, Vec<String>)>, name: &str, values: Vec<String>) {
    let position = matched.iter().position(|(known, _)| known == name);
    let entry = match position {
        Some(position) => &mut matched[position].1,
        None => {
            matched.push((name.to_owned(), Vec::new()));
            let last = matched.len() - 1;
            &mut matched[last].1
        }
    };
    entry.extend(values.into_iter().filter(|value| !entry.contains(value)).collect::<Vec<_>>());
}
