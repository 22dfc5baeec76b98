//! Names of the Python module that is made of schemas: each safe, none twice.

use std::collections::{BTreeMap, BTreeSet};

use super::{Schemas, TaskSchema};

/// Python's reserved words, none of which names a parameter or a variable.
const KEYWORDS: [&str; 36] = [
    "False",
    "None",
    "True",
    "__debug__",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "def",
    "del",
    "elif",
    "else",
    "except",
    "finally",
    "for",
    "from",
    "global",
    "if",
    "import",
    "in",
    "is",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "pass",
    "raise",
    "return",
    "try",
    "while",
    "with",
    "yield",
];

/// Names that the module itself uses: its own, those that it imports, and the built-in types of its annotations.
const TAKEN: [&str; 25] = [
    "Any",
    "Callable",
    "Generic",
    "Literal",
    "NotRequired",
    "P",
    "ParamSpec",
    "Protocol",
    "R",
    "Result",
    "Returned",
    "Task",
    "TypeAlias",
    "TypeVar",
    "TypedDict",
    "annotations",
    "bool",
    "celery",
    "datetime",
    "dict",
    "float",
    "int",
    "list",
    "str",
    "tuple",
];

/// The names of one module.
pub(super) struct Names<'a> {
    /// What each definition is called.
    definitions: BTreeMap<&'a str, String>,
    /// What each task is called, by its variable.
    pub(super) tasks: Vec<(String, &'a str, &'a TaskSchema)>,
}

impl<'a> Names<'a> {
    pub(super) fn of(schemas: &'a Schemas) -> Self {
        let mut used: BTreeSet<String> =
            TAKEN.iter().chain(&["uuid"]).map(|name| (*name).to_owned()).collect();
        let mut definitions = BTreeMap::new();
        for name in schemas.definitions.keys() {
            let unique =
                (0..).map(|number| numbered(&identifier(name), number)).find(|name| !used.contains(name));
            let Some(unique) = unique else { continue };
            used.insert(unique.clone());
            definitions.insert(name.as_str(), unique);
        }
        // A task has the last part of its name if no other one has; else all of it, numbered where that is taken too.
        let last = |name: &str| identifier(name.rsplit('.').next().unwrap_or(name));
        let mut count = BTreeMap::<String, usize>::new();
        schemas.tasks.keys().for_each(|name| *count.entry(last(name)).or_default() += 1);
        let mut variables = BTreeMap::new();
        for is_short in [true, false] {
            for name in schemas.tasks.keys().filter(|name| (count[&last(name)] == 1) == is_short) {
                let base = if is_short { last(name) } else { identifier(name) };
                let variable = (0..).map(|number| numbered(&base, number)).find(|name| {
                    // The function behind the variable `x` is `_x`.
                    ![name, &format!("_{name}")].iter().any(|name| used.contains(*name))
                });
                let Some(variable) = variable else { continue };
                used.extend([variable.clone(), format!("_{variable}")]);
                variables.insert(name.as_str(), variable);
            }
        }
        let tasks = schemas
            .tasks
            .iter()
            .filter_map(|(name, task)| Some((variables.remove(name.as_str())?, name.as_str(), task)));
        Self { tasks: tasks.collect(), definitions }
    }

    /// What a definition is called.
    pub(super) fn definition(&self, name: &str) -> Option<&str> {
        self.definitions.get(name).map(String::as_str)
    }
}

fn numbered(name: &str, number: usize) -> String {
    if number == 0 { name.to_owned() } else { format!("{name}_{}", number + 1) }
}

/// The name as a Python identifier that means nothing else in the module.
fn identifier(name: &str) -> String {
    let mut text: String = name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    if text.is_empty() || text.starts_with(|first: char| first.is_ascii_digit()) {
        text.insert(0, '_');
    }
    if is_reserved(&text) || text.starts_with("__") || TAKEN.contains(&text.as_str()) || text == "uuid" {
        text.push('_');
    }
    text
}

/// The names of parameters, of which no two are the same.
pub(super) fn parameter(name: &str, used: &mut BTreeSet<String>) -> String {
    let mut text: String = name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    if text.is_empty() || text.starts_with(|first: char| first.is_ascii_digit()) {
        text.insert(0, '_');
    }
    while is_reserved(&text) || used.contains(&text) {
        text.push('_');
    }
    used.insert(text.clone());
    text
}

/// Whether Python can give a parameter by that name.
pub(super) fn is_name(name: &str) -> bool {
    !is_reserved(name)
        && !name.is_empty()
        && name.chars().all(is_plain)
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn is_reserved(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

/// Whether Python takes the letter in a name and leaves it as it is (it normalizes names to NFKC).
fn is_plain(letter: char) -> bool {
    let is_simple = matches!(
        letter,
        'À'..='ÿ' | 'Α'..='ω' | 'А'..='я' | 'א'..='ת' | 'ぁ'..='ん' | 'ァ'..='ヺ' | '一'..='鿿' | '가'..='힣'
    );
    letter.is_ascii_alphanumeric() || letter == '_' || is_simple && letter.is_alphabetic()
}
