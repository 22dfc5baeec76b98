//! Reading the arguments of remote control's commands from a command line.

use celeriac::control::{ArgumentKind, COMMANDS, CommandKind, CommandSpec};
use celeriac::message::{Map, Value, json};

use crate::failure::Failure;

/// The commands of a group that are meant for people.
pub(crate) fn commands(kind: CommandKind) -> impl Iterator<Item = &'static CommandSpec> {
    COMMANDS.iter().filter(move |spec| spec.kind == kind && spec.is_visible)
}

/// How many arguments a usage names without brackets, as in `<task_name> <soft_secs> [hard_secs]`.
fn required(usage: &str) -> usize {
    usage.split('[').next().unwrap_or_default().matches('<').count()
}

/// Reads the arguments in the words after a command.
///
/// # Errors
/// The command is not one of that group, or it takes other arguments.
pub(crate) fn arguments(kind: CommandKind, command: &str, words: &[String]) -> Result<Map, Failure> {
    let Some(spec) = commands(kind).find(|spec| spec.name == command) else {
        let names: Vec<&str> = commands(kind).map(|spec| spec.name).collect();
        return Err(Failure::usage(format!(
            "unknown command '{command}'\nhint: {} are known; --custom sends one that the workers' program has added",
            names.join(", ")
        )));
    };
    let wrong = || Failure::usage(format!("Command '{command}' takes arguments: {}", spec.usage));
    if words.len() < required(spec.usage) {
        return Err(wrong());
    }
    let mut arguments = Map::new();
    let (by_place, rest) = words.split_at(spec.places.len().min(words.len()));
    for (name, word) in spec.places.iter().zip(by_place) {
        let kind = spec.argument(name).map_or(ArgumentKind::Text, |argument| argument.kind);
        arguments.insert((*name).to_owned(), read(kind, name, word)?);
    }
    match spec.rest {
        Some(name) => {
            arguments.insert(name.to_owned(), rest.iter().map(|word| Value::from(word.as_str())).collect());
        }
        None if rest.is_empty() => {}
        None => return Err(wrong()),
    }
    Ok(arguments)
}

/// Arguments as `name=value`, the value as JSON or else as text.
pub(crate) fn pairs(words: &[String]) -> Result<Map, Failure> {
    let pair = |word: &String| {
        let (name, text) = word.split_once('=').ok_or_else(|| {
            Failure::usage(format!("the arguments of a custom command are NAME=VALUE, not '{word}'"))
        })?;
        Ok((name.to_owned(), json::loads(text.as_bytes()).unwrap_or_else(|_| text.into())))
    };
    words.iter().map(pair).collect()
}

fn read(kind: ArgumentKind, name: &str, word: &str) -> Result<Value, Failure> {
    let wrong = |expected: &str| Failure::usage(format!("{name} is to be {expected}, not '{word}'"));
    match kind {
        ArgumentKind::Integer => word.parse::<i64>().map(Value::from).map_err(|_| wrong("a whole number")),
        ArgumentKind::Float => match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number.into()),
            _ => Err(wrong("a number")),
        },
        ArgumentKind::Flag => match word.to_lowercase().as_str() {
            "true" | "yes" | "1" | "on" => Ok(true.into()),
            "false" | "no" | "0" | "off" => Ok(false.into()),
            _ => Err(wrong("true or false")),
        },
        _ => Ok(word.into()),
    }
}
