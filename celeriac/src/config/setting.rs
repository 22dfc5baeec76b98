//! What a setting is, and how a table of settings becomes a type.

use serde_json::Value;

use super::value::SettingValue;

/// What is known about one setting.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// Celery's name, lower case.
    pub name: &'static str,
    /// The group that it belongs to.
    pub section: &'static str,
    /// What it does.
    pub doc: String,
    /// What it takes.
    pub expected: String,
    /// Its default.
    pub default: Value,
    /// Whether it takes true or false, so that the option alone (`--task-acks-late`) means true.
    pub is_switch: bool,
}

impl Setting {
    /// Whether celeriac acts on the setting; the others are taken so that a Celery configuration can be used as it is.
    pub fn has_effect(&self) -> bool {
        !self.section.starts_with("Taken without effect") && !self.doc.contains("Without effect")
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("CELERY_{}", self.name.to_ascii_uppercase())
    }

    /// The option of every worker's command line that sets it.
    pub fn option(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }
}

/// Outcome of assigning a value: `None` if no setting has the name, else its real name and the type's verdict.
pub(super) type Assigned = Option<(&'static str, Result<(), String>)>;

/// Where a value comes from: text of the environment or a command line, or a typed value of a file.
pub(super) enum Input<'a> {
    Text(&'a str),
    Json(&'a Value),
}

impl Input<'_> {
    pub(super) fn read<T: SettingValue>(&self) -> Result<T, String> {
        match self {
            Input::Text(text) => T::from_text(text),
            Input::Json(value) => T::from_json(value),
        }
    }
}

/// Makes of a table [`Config`], its defaults, and ways to find a setting by its name.
macro_rules! settings {
    ($($section:literal { $( $(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr; )+ })+) => {
        /// Celery's settings under Celery's names, with Celery's defaults, and celeriac's own (`celeriac_*`).
        ///
        /// Fields may be set directly; secrets are masked in `Debug`.
        #[derive(Clone, PartialEq)]
        pub struct Config {
            $($( $(#[doc = $doc])+ pub $name: $type, )+)+
            /// Settings that a source named, even if with the default's value.
            pub(super) given: BTreeSet<&'static str>,
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($( $name: $default, )+)+ given: BTreeSet::new() }
            }
        }

        /// All settings, in the order of their documentation.
        pub fn settings() -> Vec<Setting> {
            let defaults = Config::default();
            vec![$($( Setting {
                name: stringify!($name),
                section: $section,
                doc: [$($doc.trim()),+].join(" "),
                expected: <$type as SettingValue>::expected(),
                default: defaults.$name.to_json(),
                is_switch: matches!(stringify!($type), "bool" | "Option<bool>" | "AlwaysOff" | "Ssl"),
            }, )+)+]
        }

        impl Config {
            /// The value of the setting of that name, as JSON and unmasked; `None` if there is no such setting.
            pub fn get(&self, name: &str) -> Option<Value> {
                match name {
                    $($( stringify!($name) => Some(self.$name.to_json()), )+)+
                    _ => None,
                }
            }

            pub(super) fn assign(&mut self, name: &str, input: &Input<'_>) -> Assigned {
                match name {
                    $($( stringify!($name) => {
                        let verdict = input.read().map(|value| self.$name = value);
                        Some((stringify!($name), verdict))
                    } )+)+
                    _ => None,
                }
            }
        }
    };
}
pub(super) use settings;
