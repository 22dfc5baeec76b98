//! The settings of a worker, and a page about it for bug reports.

use std::fmt::Write;

use super::{Answer, Arguments, Panel, ok};
use crate::message::{Map, Value, repr};

/// The version of Celery whose worker this one behaves as; what reads reports looks for it.
const CELERY: &str = "5.7.0";

pub(super) fn conf(panel: &Panel, arguments: &Arguments) -> Answer {
    Ok(settings(panel, arguments.flag("with_defaults")).into())
}

pub(super) fn report(panel: &Panel, _: &Arguments) -> Answer {
    Ok(ok(page(&settings(panel, false))))
}

/// The settings that were given, or all; `deprecated_settings` and `include` always, as in Celery.
fn settings(panel: &Panel, with_defaults: bool) -> Map {
    let config = panel.worker().config();
    let mut shown = Map::from([("deprecated_settings".to_owned(), Value::Null)]);
    if let Value::Map(given) = serde_json::Value::Object(config.to_map(with_defaults, true)).into() {
        shown.extend(given);
    }
    shown.entry("include".to_owned()).or_insert_with(|| config.include.clone().into());
    shown
}

fn page(settings: &Map) -> String {
    let text = |name: &str| settings.get(name).and_then(Value::as_str).unwrap_or("disabled");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let transport = text("broker_url").split("://").next().unwrap_or_default();
    let mut page = format!(
        "\nsoftware -> celery:{CELERY} (celeriac {}) rust:{}\nplatform -> system:{} arch:{}\n            kernel version:{}\n\
         loader   -> celeriac\nsettings -> transport:{transport} results:{}\n\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_RUST_VERSION"),
        crate::events::system(),
        std::env::consts::ARCH,
        kernel.trim(),
        text("result_backend"),
    );
    for (name, value) in settings {
        // Writing into a `String` cannot fail.
        let _ = writeln!(page, "{name}: {}", repr(value));
    }
    page
}
