//! Tasks that leave a trace in Redis.

use celeriac::backend::ExceptionInfo;
use celeriac::canvas::chain;
use celeriac::prelude::*;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

use super::python;

/// The Redis in which the tasks leave their traces.
pub struct Echo(redis::Client);

impl Echo {
    /// The server at that host and port.
    ///
    /// # Errors
    /// They make no address.
    pub fn at(host: &str, port: &str) -> redis::RedisResult<Self> {
        redis::Client::open(format!("redis://{host}:{port}/0")).map(Self)
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        self.0.get_multiplexed_async_connection().await
    }

    async fn push(&self, key: &str, message: &Value) -> TaskResult<()> {
        let message = encoded(message)?;
        Ok(self.connection().await?.rpush(key, message).await?)
    }

    async fn count(&self, key: &str) -> TaskResult<()> {
        Ok(self.connection().await?.incr(key, 1).await?)
    }
}

/// As redis-py writes it.
fn encoded(value: &Value) -> TaskResult<Vec<u8>> {
    match value {
        Value::Str(text) => Ok(text.clone().into_bytes()),
        Value::Bytes(bytes) => Ok(bytes.clone()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        Value::Float(number) => Ok(format!("{number:?}").into_bytes()),
        other => {
            let kind = other.kind();
            let text =
                format!("Invalid input of type: '{kind}'. Convert to a bytes, string, int or float first.");
            Err(TaskError::exception(ExceptionInfo::new("redis.exceptions", "DataError", vec![text.into()])))
        }
    }
}

pub(super) fn register(worker: Worker) -> Worker {
    worker
        .task(sum_and_record)
        .task(redis_echo)
        .task(redis_echo_group_id)
        .task(redis_count)
        .task(second_order_replace1)
        .task(second_order_replace2)
        .task(errback_old_style)
        .task(errback_new_style)
        .task(errback_old_style_with_args)
        .task(errback_new_style_with_args)
}

#[celeriac::task(name = "t.integration.tasks.sum_and_record")]
async fn sum_and_record(
    ctx: Context,
    echo: State<Echo>,
    values: Value,
    redis_key: String,
) -> TaskResult<Value> {
    let result = python::sum(&values)?;
    echo.push(&redis_key, &Value::from(ctx.request().id.as_str())).await?;
    Ok(result)
}

#[celeriac::task(name = "t.integration.tasks.redis_echo")]
pub(super) async fn redis_echo(
    echo: State<Echo>,
    message: Value,
    #[default("redis-echo".to_owned())] redis_key: String,
) -> TaskResult<()> {
    echo.push(&redis_key, &message).await
}

#[celeriac::task(name = "t.integration.tasks.redis_echo_group_id")]
async fn redis_echo_group_id(
    ctx: Context,
    echo: State<Echo>,
    _previous: Value,
    #[default("redis-group-ids".to_owned())] redis_key: String,
) -> TaskResult<()> {
    echo.push(&redis_key, &ctx.request().headers.group.clone().into()).await
}

#[celeriac::task(name = "t.integration.tasks.redis_count")]
async fn redis_count(
    echo: State<Echo>,
    #[default("redis-count".to_owned())] redis_key: String,
) -> TaskResult<()> {
    echo.count(&redis_key).await
}

#[celeriac::task(name = "t.integration.tasks.second_order_replace1")]
async fn second_order_replace1(ctx: Context, echo: State<Echo>, #[default] state: bool) -> TaskResult<()> {
    if state {
        return echo.push("redis-echo", &"Out A".into()).await;
    }
    echo.push("redis-echo", &"In A".into()).await?;
    let again = second_order_replace1::signature().kwarg("state", true).immutable(true);
    Err(ctx.replace(chain([second_order_replace2::signature(), again])))
}

#[celeriac::task(name = "t.integration.tasks.second_order_replace2")]
async fn second_order_replace2(ctx: Context, echo: State<Echo>, #[default] state: bool) -> TaskResult<()> {
    if state {
        return echo.push("redis-echo", &"Out B".into()).await;
    }
    echo.push("redis-echo", &"In B".into()).await?;
    let again = second_order_replace2::signature().kwarg("state", true).immutable(true);
    Err(ctx.replace(chain([redis_echo::signature().arg("In/Out C"), again])))
}

#[celeriac::task(name = "t.integration.tasks.errback_old_style")]
async fn errback_old_style(echo: State<Echo>, request_id: String) -> TaskResult<String> {
    echo.count(&request_id).await?;
    Ok(request_id)
}

#[celeriac::task(name = "t.integration.tasks.errback_new_style")]
async fn errback_new_style(echo: State<Echo>, request: Value, _exc: Value, _tb: Value) -> TaskResult<String> {
    let id = id_of(&request);
    echo.count(&id).await?;
    Ok(id)
}

#[celeriac::task(name = "t.integration.tasks.errback_old_style_with_args")]
async fn errback_old_style_with_args(echo: State<Echo>, request_id: String, label: Value) -> TaskResult<()> {
    echo.push(&request_id, &label).await
}

#[celeriac::task(name = "t.integration.tasks.errback_new_style_with_args")]
async fn errback_new_style_with_args(
    echo: State<Echo>,
    request: Value,
    _exc: Value,
    _tb: Value,
    label: Value,
) -> TaskResult<()> {
    echo.push(&id_of(&request), &label).await
}

fn id_of(request: &Value) -> String {
    request.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}
