//! Tasks that tell what they know of their own call.

use celeriac::message::Map;
use celeriac::prelude::*;
use celeriac::value;

pub(super) fn register(worker: Worker) -> Worker {
    worker
        .task(ids)
        .task(collect_ids)
        .task(return_priority)
        .task(return_request_eta)
        .task(return_properties)
        .task(return_request_time_limits)
        .task(task_with_declared_time_limits)
}

#[celeriac::task(name = "t.integration.tasks.ids")]
async fn ids(ctx: Context, i: Value) -> (Value, Value, Value) {
    place(&ctx, i)
}

#[celeriac::task(name = "t.integration.tasks.collect_ids")]
async fn collect_ids(ctx: Context, res: Value, i: Value) -> (Value, (Value, Value, Value)) {
    (res, place(&ctx, i))
}

fn place(ctx: &Context, i: Value) -> (Value, Value, Value) {
    let headers = &ctx.request().headers;
    (headers.root_id.clone().into(), headers.parent_id.clone().into(), i)
}

#[celeriac::task(name = "t.integration.tasks.return_priority")]
async fn return_priority(ctx: Context, #[args] _args: Vec<Value>) -> String {
    match ctx.request().properties.priority {
        Some(priority) => format!("Priority: {priority}"),
        None => "Priority: None".to_owned(),
    }
}

#[celeriac::task(name = "t.integration.tasks.return_request_eta")]
async fn return_request_eta(ctx: Context) -> Value {
    ctx.request().headers.eta.clone().into()
}

#[celeriac::task(name = "t.integration.tasks.return_properties")]
async fn return_properties(ctx: Context) -> Value {
    let properties = &ctx.request().properties;
    let to = &properties.delivery_info;
    let mut all = Map::new();
    let mut add = |name: &str, value: Value| all.insert(name.to_owned(), value);
    add("correlation_id", properties.correlation_id.clone().into());
    add("reply_to", properties.reply_to.clone().into());
    add("delivery_mode", properties.delivery_mode.into());
    add("delivery_info", value!({"exchange": to.exchange, "routing_key": to.routing_key}));
    add("priority", properties.priority.into());
    add("delivery_tag", properties.delivery_tag.as_str().into());
    all.extend(properties.extra.clone());
    Value::Map(all)
}

#[celeriac::task(name = "t.integration.tasks.return_request_time_limits")]
async fn return_request_time_limits(ctx: Context) -> Value {
    time_limits(&ctx)
}

#[celeriac::task(
    name = "t.integration.tasks.task_with_declared_time_limits",
    time_limit = 60,
    soft_time_limit = 45
)]
async fn task_with_declared_time_limits(ctx: Context) -> Value {
    time_limits(&ctx)
}

fn time_limits(ctx: &Context) -> Value {
    let limits = ctx.request().headers.timelimit;
    value!({"time_limit": limits.hard, "soft_time_limit": limits.soft})
}
