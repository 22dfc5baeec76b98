//! Pieces of text as Python writes them, for replies that show them.

use crate::message::{Value, repr};

/// The `repr` of a set of texts, in their order.
pub(super) fn set(items: &[String]) -> String {
    if items.is_empty() {
        return "set()".to_owned();
    }
    format!("{{{}}}", quoted(items).join(", "))
}

/// Names as a `TypeError` lists them: `'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`.
pub(super) fn listed(names: &[String]) -> String {
    let names = quoted(names);
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first, second] => format!("{first} and {second}"),
        [most @ .., last] => format!("{}, and {last}", most.join(", ")),
    }
}

/// The `repr` of an exception with one text.
pub(super) fn exception(class: &str, text: &str) -> String {
    format!("{class}({})", repr(&Value::from(text)))
}

/// Whether a value counts as true.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Int(number) => *number != 0,
        Value::Float(number) => *number != 0.0,
        Value::Str(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
        _ => true,
    }
}

/// The `str` of a value.
pub(super) fn str(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        Value::Surrogates(text) => text.to_string(),
        other => repr(other),
    }
}

fn quoted(items: &[String]) -> Vec<String> {
    items.iter().map(|item| repr(&Value::from(item.as_str()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_look_as_pythons() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(set(&names[..2]), "{'a', 'b'}");
        assert_eq!(set(&[]), "set()");
        assert_eq!(listed(&names), "'a', 'b', and 'c'");
        assert_eq!(listed(&names[..2]), "'a' and 'b'");
        assert_eq!(exception("TypeError", "f() got 'x'"), "TypeError(\"f() got 'x'\")");
    }
}
