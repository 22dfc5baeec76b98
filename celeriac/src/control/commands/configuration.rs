//! The settings of a worker, and a page about it for bug reports.

use std::fmt::Write;

use super::{Answer, Arguments, Panel, ok};
use crate::message::{Map, Value, repr};

pub(super) fn conf(panel: &Panel, arguments: &Arguments) -> Answer {
    let settings = panel.worker().config().to_map(arguments.flag("with_defaults"), true);
    Ok(Value::from(serde_json::Value::Object(settings)))
}

pub(super) fn report(panel: &Panel, _: &Arguments) -> Answer {
    let Value::Map(settings) =
        Value::from(serde_json::Value::Object(panel.worker().config().to_map(false, true)))
    else {
        return Ok(ok(""));
    };
    Ok(ok(page(&settings)))
}

fn page(settings: &Map) -> String {
    let text = |name: &str| settings.get(name).and_then(Value::as_str).unwrap_or("disabled");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let transport = text("broker_url").split("://").next().unwrap_or_default();
    let mut page = format!(
        "\nsoftware -> celeriac:{} rust:{}\nplatform -> system:{} arch:{}\n            kernel version:{}\n\
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
