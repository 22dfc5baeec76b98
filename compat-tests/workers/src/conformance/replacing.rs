//! Tasks that let others take their place, or add them to their chord.

use celeriac::canvas::{chain, group};
use celeriac::message::{Map, Signature};
use celeriac::prelude::*;

use super::echo::redis_echo;
use super::failures::{fail, raise_error};
use super::numbers::{add, identity, replaced_with_me, tsum};

pub(super) fn register(worker: Worker) -> Worker {
    worker
        .task(add_replaced)
        .task(record_replaced_task_nesting)
        .task(add_replaced_with_chain)
        .task(replace_with_chain)
        .task(replace_with_chain_which_raises)
        .task(replace_with_empty_chain)
        .task(replace_with_chain_which_contains_a_group)
        .task(add_to_all)
        .task(add_to_all_to_chord)
        .task(add_chord_to_chord)
        .task(fail_replaced)
        .task(replace_with_stamped_task)
}

#[celeriac::task(name = "t.integration.tasks.add_replaced")]
async fn add_replaced(ctx: Context, x: Value, y: Value) -> TaskResult<()> {
    Err(ctx.replace(add::s(x, y, None)))
}

#[celeriac::task(name = "t.integration.tasks.record_replaced_task_nesting")]
async fn record_replaced_task_nesting(
    ctx: Context,
    replacements: i64,
    nesting: Option<Vec<u32>>,
) -> TaskResult<Vec<u32>> {
    let mut nesting = nesting.unwrap_or_default();
    nesting.push(ctx.request().headers.replaced_task_nesting);
    if replacements == 0 {
        return Ok(nesting);
    }
    // Keeps the caller's result queue when results go over RPC.
    let reply_to = ctx.request().properties.reply_to.clone();
    Err(ctx.replace(
        record_replaced_task_nesting::s(replacements - 1, Some(nesting)).option("reply_to", reply_to),
    ))
}

#[celeriac::task(name = "t.integration.tasks.add_replaced_with_chain")]
async fn add_replaced_with_chain(ctx: Context, x: Value, y: Value) -> TaskResult<()> {
    let steps: [Signature; 2] = [add::s(x, y, None).into(), identity::signature()];
    Err(ctx.replace(chain(steps)))
}

#[celeriac::task(name = "t.integration.tasks.replace_with_chain")]
async fn replace_with_chain(
    ctx: Context,
    #[args] args: Vec<Value>,
    #[kwargs] options: Map,
) -> TaskResult<()> {
    let steps = chain([Signature::new(identity::NAME).args(args), identity::signature()]);
    Err(ctx.replace(steps.link(echoing(&options))))
}

#[celeriac::task(name = "t.integration.tasks.replace_with_chain_which_raises")]
async fn replace_with_chain_which_raises(
    ctx: Context,
    #[args] args: Vec<Value>,
    #[kwargs] options: Map,
) -> TaskResult<()> {
    let steps = chain([Signature::new(identity::NAME).args(args), raise_error::signature()]);
    Err(ctx.replace(steps.link_error(echoing(&options))))
}

/// Echoes `link_msg`, or the result when there is none.
fn echoing(options: &Map) -> Signature {
    let echo = Signature::new(redis_echo::NAME);
    match options.get("link_msg") {
        Some(message) if !message.is_null() => echo.arg(message.clone()).immutable(true),
        _ => echo,
    }
}

#[celeriac::task(name = "t.integration.tasks.replace_with_empty_chain")]
async fn replace_with_empty_chain(ctx: Context, #[args] _args: Vec<Value>) -> TaskResult<()> {
    Err(ctx.replace(chain(Vec::<Signature>::new())))
}

#[celeriac::task(name = "t.integration.tasks.replace_with_chain_which_contains_a_group")]
async fn replace_with_chain_which_contains_a_group(ctx: Context) -> TaskResult<()> {
    let adding = |numbers: &[i64]| Signature::new(add::NAME).args(numbers.iter().copied());
    Err(ctx.replace(chain([adding(&[1, 2]), group([adding(&[1]), adding(&[1])])])))
}

#[celeriac::task(name = "t.integration.tasks.add_to_all")]
async fn add_to_all(ctx: Context, nums: Vec<Value>, val: Value) -> TaskResult<()> {
    Err(ctx.replace(group(nums.into_iter().map(|num| add::s(num, val.clone(), None)))))
}

#[celeriac::task(name = "t.integration.tasks.add_to_all_to_chord")]
async fn add_to_all_to_chord(ctx: Context, nums: Vec<Value>, val: Value) -> TaskResult<i64> {
    for num in nums {
        ctx.add_to_chord(add::s(num, val.clone(), None)).await?;
    }
    Ok(0)
}

#[celeriac::task(name = "t.integration.tasks.add_chord_to_chord")]
async fn add_chord_to_chord(ctx: Context, nums: Vec<Value>, val: Value) -> TaskResult<i64> {
    let adding = group(nums.into_iter().map(|num| add::s(num, val.clone(), None)));
    ctx.add_to_chord(adding | tsum::signature()).await?;
    Ok(0)
}

#[celeriac::task(name = "t.integration.tasks.fail_replaced")]
async fn fail_replaced(ctx: Context, #[args] args: Vec<Value>) -> TaskResult<()> {
    Err(ctx.replace(fail::s(args).immutable()))
}

#[celeriac::task(name = "t.integration.tasks.replace_with_stamped_task")]
async fn replace_with_stamped_task(ctx: Context, replace_with: Option<Value>) -> TaskResult<()> {
    let replacement = match &replace_with {
        Some(signature) => Signature::from_value(signature)?,
        None => replaced_with_me::signature(),
    };
    Err(ctx.replace(replacement.stamp([("StampOnReplace", "This is the replaced task")])))
}
