//! Tasks that send others, or return signatures and take them apart.

use celeriac::canvas::{chain, chord, group};
use celeriac::message::Signature;
use celeriac::prelude::*;

use super::numbers::add;

pub(super) fn register(worker: Worker) -> Worker {
    worker
        .task(chain_add)
        .task(chord_add)
        .task(build_chain_inside_task)
        .task(return_nested_signature_chain_chain)
        .task(return_nested_signature_chain_group)
        .task(return_nested_signature_chain_chord)
        .task(return_nested_signature_group_chain)
        .task(return_nested_signature_group_group)
        .task(return_nested_signature_group_chord)
        .task(return_nested_signature_chord_chain)
        .task(return_nested_signature_chord_group)
        .task(return_nested_signature_chord_chord)
        .task(rebuild_signature)
}

#[celeriac::task(name = "t.integration.tasks.chain_add")]
async fn chain_add(ctx: Context, x: Value, y: Value) -> TaskResult<()> {
    ctx.send(chain([adding([x.clone(), x]), adding([y])])).await?;
    Ok(())
}

#[celeriac::task(name = "t.integration.tasks.chord_add")]
async fn chord_add(ctx: Context, x: Value, y: Value) -> TaskResult<()> {
    ctx.send(chord([adding([x.clone(), x])], adding([y]))).await?;
    Ok(())
}

#[celeriac::task(name = "t.integration.tasks.build_chain_inside_task")]
async fn build_chain_inside_task(ctx: Context) -> TaskResult<Value> {
    let steps = [adding([1, 1]), adding([2]), group([adding([3]), adding([4])]), adding([5])];
    Ok(ctx.send(chain(steps)).await?.handle().to_value())
}

fn adding<const N: usize>(args: [impl Into<Value>; N]) -> Signature {
    Signature::new(add::NAME).args(args)
}

fn one() -> [Signature; 1] {
    [Signature::new(add::NAME)]
}

/// A chain as it is written: `chain(..)` would splice the chains in it.
fn nested_chain(step: Signature) -> Signature {
    let mut chain = Signature::new("celery.chain").kwarg("tasks", vec![step]);
    chain.subtask_type = Some("chain".to_owned());
    chain
}

macro_rules! returns {
    ($($name:ident, $wire:literal => $signature:expr;)*) => {
        $(#[celeriac::task(name = $wire)]
        async fn $name() -> Value {
            $signature.to_value()
        })*
    };
}

returns! {
    return_nested_signature_chain_chain, "t.integration.tasks.return_nested_signature_chain_chain" =>
        nested_chain(chain(one()));
    return_nested_signature_chain_group, "t.integration.tasks.return_nested_signature_chain_group" =>
        nested_chain(group(one()));
    return_nested_signature_chain_chord, "t.integration.tasks.return_nested_signature_chain_chord" =>
        nested_chain(chord(one(), Signature::new(add::NAME)));
    return_nested_signature_group_chain, "t.integration.tasks.return_nested_signature_group_chain" =>
        group([chain(one())]);
    return_nested_signature_group_group, "t.integration.tasks.return_nested_signature_group_group" =>
        group(one());
    return_nested_signature_group_chord, "t.integration.tasks.return_nested_signature_group_chord" =>
        group([chord(one(), Signature::new(add::NAME))]);
    return_nested_signature_chord_chain, "t.integration.tasks.return_nested_signature_chord_chain" =>
        chord(one(), Signature::new(add::NAME));
    return_nested_signature_chord_group, "t.integration.tasks.return_nested_signature_chord_group" =>
        chord(one(), Signature::new(add::NAME));
    return_nested_signature_chord_chord, "t.integration.tasks.return_nested_signature_chord_chord" =>
        chord([chord(one(), Signature::new(add::NAME))], Signature::new(add::NAME));
}

#[celeriac::task(name = "t.integration.tasks.rebuild_signature")]
async fn rebuild_signature(sig_dict: Value) -> TaskResult<()> {
    rebuild(&sig_dict)
}

/// Fails unless the value is a signature, and so is everything in it.
fn rebuild(value: &Value) -> TaskResult<()> {
    let signature =
        Signature::from_value(value).map_err(|error| TaskError::builtin("TypeError", error.to_string()))?;
    let tasks = match signature.subtask_type.as_deref() {
        Some("chain" | "group") => signature.kwargs.get("tasks"),
        Some("chord") => {
            if let Some(body) = signature.kwargs.get("body") {
                rebuild(body)?;
            }
            signature.kwargs.get("header")
        }
        _ => None,
    };
    match tasks {
        Some(Value::List(tasks)) => tasks.iter().try_for_each(rebuild),
        Some(header) => rebuild(header),
        None => Ok(()),
    }
}
