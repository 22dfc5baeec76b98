//! What a worker says of its settings when it starts: what was given and has no effect.

use super::Config;
use super::table::settings;

impl Config {
    /// Settings that were given although celeriac does not act on them.
    pub fn without_effect(&self) -> Vec<&'static str> {
        settings()
            .into_iter()
            .filter(|setting| !setting.has_effect() && self.given.contains(setting.name))
            .map(|setting| setting.name)
            .collect()
    }

    /// One sentence for each thing in the settings that is accepted and has no effect: settings, options of the
    /// transports, unknown types of content. A worker logs them once, when it starts.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let settings = self.without_effect();
        if !settings.is_empty() {
            remarks.push(format!(
                "{} {} no effect in celeriac; docs/settings.md says why",
                settings.join(", "),
                if settings.len() == 1 { "has" } else { "have" }
            ));
        }
        if self.is_given("worker_pool")
            && let Some(mapped) = self.worker_pool.mapped()
        {
            remarks.push(format!("worker_pool {}: {mapped}", self.worker_pool.as_str()));
        }
        remarks.extend(self.broker_transport_options.remarks("broker_transport_options"));
        remarks.extend(self.result_backend_transport_options.remarks("result_backend_transport_options"));
        let lists = [
            ("accept_content", Some(&self.accept_content)),
            ("result_accept_content", self.result_accept_content.as_ref()),
        ];
        for (setting, list) in lists {
            for name in list.into_iter().flat_map(|list| list.unknown()) {
                let reason = if is_pickle(name) {
                    "is never decoded, since it could run any code"
                } else {
                    "is not known; json, msgpack, yaml, auth and encrypted are"
                };
                remarks.push(format!("{setting}: {name} {reason}: messages of that type are refused"));
            }
        }
        remarks
    }
}

fn is_pickle(name: &str) -> bool {
    name.contains("pickle") || name == "application/x-python-serialize"
}
