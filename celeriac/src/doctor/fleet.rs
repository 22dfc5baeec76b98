//! Asking the workers about themselves.

use std::time::Duration;

use indexmap::IndexMap;

use crate::Celery;
use crate::broker::BrokerError;
use crate::config::Config;
use crate::control::{Answers, ScheduledTask, TaskInfo};
use crate::finding::Finding;
use crate::message::Map;

/// Most workers that are asked for everything; the others are like some of these.
const ASKED: usize = 200;

/// The workers of an application.
#[derive(Default)]
pub(super) struct Fleet {
    pub(super) nodes: IndexMap<String, Node>,
    /// All that answered.
    count: usize,
}

/// One worker.
#[derive(Default)]
pub(super) struct Node {
    /// True for a worker of celeriac, which renews what it holds.
    pub(super) renews: bool,
    /// Its settings as far as they could be read.
    pub(super) config: Config,
    /// The settings that could not be read, as it tells them.
    pub(super) unread: Vec<String>,
    /// The queues that it consumes.
    pub(super) queues: Vec<String>,
    pub(super) active: Vec<TaskInfo>,
    pub(super) scheduled: Vec<ScheduledTask>,
    /// The longest time limit among its late-acknowledged tasks, with the name of the task.
    pub(super) longest_limit: Option<(Duration, String)>,
}

impl Fleet {
    /// Asks the workers.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(super) async fn ask(app: &Celery, patience: Duration) -> Result<Self, BrokerError> {
        let inspect = || app.control().inspect().timeout(patience);
        let mut names = inspect().ping().await?;
        let count = names.len();
        names.sort();
        names.truncate(ASKED);
        let mut nodes: IndexMap<String, Node> =
            names.iter().map(|name| (name.clone(), Node::default())).collect();
        if names.is_empty() {
            return Ok(Self { nodes, count });
        }
        let inspect = || inspect().destination(&names).limit(names.len());
        let mut each = |name: String, note: &mut dyn FnMut(&mut Node)| {
            if let Some(node) = nodes.get_mut(&name) {
                note(node);
            }
        };
        for (name, page) in answered(inspect().report().await?) {
            each(name, &mut |node| node.renews = page.contains("(celeriac "));
        }
        for (name, settings) in answered(inspect().conf(false).await?) {
            each(name, &mut |node| (node.config, node.unread) = read(&settings));
        }
        for (name, queues) in answered(inspect().active_queues().await?) {
            each(name, &mut |node| node.queues = queues.iter().map(|queue| queue.name.clone()).collect());
        }
        for (name, tasks) in answered(inspect().active().await?) {
            each(name, &mut |node| node.active.clone_from(&tasks));
        }
        for (name, tasks) in answered(inspect().scheduled().await?) {
            each(name, &mut |node| node.scheduled.clone_from(&tasks));
        }
        for (name, tasks) in answered(inspect().registered(&["acks_late", "time_limit"]).await?) {
            each(name, &mut |node| node.longest_limit = longest_limit(&tasks));
        }
        Ok(Self { nodes, count })
    }

    /// Returns how many workers there are.
    pub(super) fn presence(&self) -> Finding {
        const SUBJECT: &str = "workers";
        let ours = self.nodes.values().filter(|node| node.renews).count();
        match self.count {
            0 => Finding::warning(
                SUBJECT,
                "no worker answers",
                "start one, or give them longer with --timeout",
            ),
            count if count > ASKED => {
                Finding::good(SUBJECT, format!("{count} worker(s) answer; the first {ASKED} are looked at"))
            }
            count => Finding::good(
                SUBJECT,
                format!("{count} worker(s) answer, {ours} of celeriac and {} of Celery", count - ours),
            ),
        }
    }

    /// Returns the longest visibility timeout among the workers and the one given.
    pub(super) fn longest_visibility(&self, own: Duration) -> Duration {
        self.nodes.values().map(Node::visibility).fold(own, Duration::max)
    }
}

impl Node {
    /// Returns the time after which others take what it holds.
    pub(super) fn visibility(&self) -> Duration {
        self.config.broker_transport_options.visibility_timeout()
    }
}

fn answered<T>(answers: Answers<T>) -> impl Iterator<Item = (String, T)> {
    answers.into_iter().filter_map(|(name, answer)| Some((name, answer.ok()?)))
}

/// Reads settings as `inspect conf` tells them, under their old or new names.
fn read(settings: &Map) -> (Config, Vec<String>) {
    let (mut config, mut unread) = (Config::default(), Vec::new());
    for (name, value) in settings {
        let name = name.to_ascii_lowercase();
        let value = serde_json::to_value(value).unwrap_or_default();
        if !value.is_null() && config.set_value(&name, &value).is_err() {
            unread.push(name);
        }
    }
    (config, unread)
}

/// The longest time limit in answers to `registered`, of tasks that are acknowledged late:
/// `name [acks_late=True time_limit=30]`.
fn longest_limit(tasks: &[String]) -> Option<(Duration, String)> {
    let limit = |task: &String| {
        let (name, attributes) = task.strip_suffix(']')?.split_once(" [")?;
        let of = |wanted: &str| {
            attributes.split(' ').find_map(|attribute| attribute.strip_prefix(wanted)?.strip_prefix('='))
        };
        let seconds = of("time_limit")?.parse().ok()?;
        (of("acks_late") == Some("True"))
            .then(|| Some((Duration::try_from_secs_f64(seconds).ok()?, name.to_owned())))?
    };
    tasks.iter().filter_map(limit).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_workers_tell_them() {
        let tasks = ["a [acks_late=True time_limit=30]", "b [acks_late=False time_limit=90]", "c"];
        let longest = longest_limit(&tasks.map(str::to_owned));
        assert_eq!(longest, Some((Duration::from_secs(30), "a".to_owned())));
    }

    #[test]
    fn settings_are_read_under_both_kinds_of_names() {
        let told = crate::value!({
            "BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 60},
            "task_acks_late": true,
            "result_expires": "1 day, 0:00:00",
            "unheard_of": 1,
        });
        let (config, mut unread) = read(told.as_map().unwrap());
        assert_eq!(config.broker_transport_options.visibility_timeout(), Duration::from_secs(60));
        assert!(config.task_acks_late);
        unread.sort();
        assert_eq!(unread, ["result_expires", "unheard_of"]);
    }
}
