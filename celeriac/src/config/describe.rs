//! The page `docs/settings.md`, written from the table.

use std::fmt::Write;

use super::known_options;
use super::setting::Setting;
use super::table::settings;

/// All settings as a Markdown page.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut section = "";
    for setting in settings() {
        if setting.section != section {
            section = setting.section;
            // Writing into a `String` cannot fail.
            let _ = write!(
                page,
                "\n## {section}\n\n| setting | default | takes | what it does |\n|---|---|---|---|\n"
            );
        }
        page.push_str(&row(&setting));
    }
    page.push_str(TRANSPORT_OPTIONS);
    page.push_str(&known_options::rows());
    page
}

fn row(setting: &Setting) -> String {
    let default = if setting.default.is_null() {
        String::new()
    } else {
        format!("`{}`", cell(&setting.default.to_string()))
    };
    format!("| `{}` | {default} | {} | {} |\n", setting.name, cell(&setting.expected), cell(&setting.doc))
}

/// A text as a cell of a table.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

const TRANSPORT_OPTIONS: &str = "
## Transport options

Those of `broker_transport_options` and of `result_backend_transport_options`. A worker names at its start each option
that has no effect, and each that is not known.

| option | takes | what it does |
|---|---|---|
";

const INTRODUCTION: &str = "\
<!-- Written from celeriac/src/config/table.rs by `UPDATE_DOCS=1 cargo test -p celeriac --test settings`. -->
# Settings

Names and defaults are those of Celery 5.7. Every setting can be given, a later one winning,

1. in a TOML file, named by `--config FILE` or the environment variable `CELERY_CONFIG_FILE`:
   `task_acks_late = true`;
2. as an environment variable, `CELERY_` and the name in upper case: `CELERY_TASK_ACKS_LATE=1`,
   `CELERY_BROKER_TRANSPORT_OPTIONS='{\"visibility_timeout\": 5}'`, `CELERY_ACCEPT_CONTENT=json,msgpack`;
3. as an option of every worker: `--task-acks-late=1` (a switch alone means true).

Times are in seconds, at most 10,000,000,000. Empty text, `none` and `null` unset a setting that can be unset. A setting that is not known or
not valid ends the program with a message that names it, its value, and what is expected; secrets are not printed.

`CELERY_` variables of Celery's own programs (`CELERY_APP`, `CELERY_LOADER`, `CELERY_CONFIG_MODULE`, ...) and those that
Kubernetes makes for a service called `celery` are passed over.

A setting that is marked \"Without effect\", or that stands in a section of that name, is taken so that one configuration
can serve workers in Python and in Rust. A worker names at its start those that were given.

0 means \"no limit\" or \"the default\" wherever it does in Celery. Time limits that are 0 or nothing count as not given,
and the next source decides: the call, the task (or what remote control has set for it), the setting.
";
