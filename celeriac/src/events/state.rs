//! What the fleet looks like, as far as events tell.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::event::Event;
use super::task_record::TaskRecord;
use super::worker_record::WorkerRecord;

/// Most workers that are remembered (`max_workers_in_memory`).
const MAX_WORKERS: usize = 5_000;
/// Most tasks that are remembered (`max_tasks_in_memory`).
const MAX_TASKS: usize = 10_000;

/// Workers and tasks in memory, bounded: the oldest give way.
///
/// Source: celery 5.7 `celery/events/state.py`.
#[derive(Debug)]
pub struct State {
    workers: Bounded<WorkerRecord>,
    tasks: Bounded<TaskRecord>,
    /// Children whose parents are not known, by the parent.
    orphans: Bounded<Vec<String>>,
    task_types: BTreeSet<String>,
    event_count: u64,
    task_count: u64,
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A worker was seen for the first time, or came (back) online.
    WorkerJoined,
    /// A worker said goodbye.
    WorkerLeft,
    /// A known worker told something.
    Worker,
    /// A task was seen for the first time.
    NewTask,
    /// A known task went on.
    Task,
    /// Nothing that is kept.
    Nothing,
}

impl Default for State {
    fn default() -> Self {
        Self::with_limits(MAX_WORKERS, MAX_TASKS)
    }
}

impl State {
    /// A state that remembers at most so many workers and tasks.
    pub fn with_limits(max_workers: usize, max_tasks: usize) -> Self {
        Self {
            workers: Bounded::new(max_workers),
            tasks: Bounded::new(max_tasks),
            orphans: Bounded::new(max_tasks),
            task_types: BTreeSet::new(),
            event_count: 0,
            task_count: 0,
        }
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event) -> Change {
        self.event_count += 1;
        match event.group() {
            ("worker", subject) => self.worker_event(subject, event),
            ("task", subject) => self.task_event(subject, event),
            _ => Change::Nothing,
        }
    }

    /// How many events were taken.
    pub fn event_count(&self) -> u64 {
        self.event_count
    }

    /// How many tasks were received by workers.
    pub fn task_count(&self) -> u64 {
        self.task_count
    }

    /// The worker of that node name.
    pub fn worker(&self, hostname: &str) -> Option<&WorkerRecord> {
        self.workers.get(hostname)
    }

    /// All workers that are remembered, in the order in which they were seen first.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerRecord> {
        self.workers.values()
    }

    /// The workers of whom a sign of life came not too long ago.
    pub fn alive_workers(&self) -> impl Iterator<Item = &WorkerRecord> {
        let now = super::unix_now();
        self.workers.values().filter(move |worker| worker.is_alive_at(now))
    }

    /// Forgets the workers of whom no sign of life came for too long, and returns them.
    pub fn remove_lost_workers(&mut self) -> Vec<WorkerRecord> {
        let now = super::unix_now();
        let lost: Vec<String> = self
            .workers()
            .filter(|worker| !worker.is_alive_at(now))
            .map(|worker| worker.hostname.clone())
            .collect();
        lost.iter().filter_map(|hostname| self.workers.remove(hostname)).collect()
    }

    /// The task of that id.
    pub fn task(&self, uuid: &str) -> Option<&TaskRecord> {
        self.tasks.get(uuid)
    }

    /// All tasks that are remembered, in the order in which they were seen first.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskRecord> {
        self.tasks.values()
    }

    /// The tasks by their latest event, latest first.
    pub fn tasks_by_time(&self) -> Vec<&TaskRecord> {
        let mut tasks: Vec<_> = self.tasks().collect();
        tasks.sort_by(|a, b| b.order.0.cmp(&a.order.0).then(b.order.1.total_cmp(&a.order.1)));
        tasks
    }

    /// The names of all tasks that were ever seen.
    pub fn task_types(&self) -> impl Iterator<Item = &str> {
        self.task_types.iter().map(String::as_str)
    }

    /// Forgets tasks: those that are done, or all.
    pub fn clear_tasks(&mut self, only_ready: bool) {
        self.tasks.retain(|task| only_ready && !task.is_ready());
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.workers.retain(|_| false);
        self.tasks.retain(|_| false);
        self.orphans.retain(|_| false);
        (self.event_count, self.task_count) = (0, 0);
    }

    fn worker_event(&mut self, subject: &str, event: &Event) -> Change {
        let (Some(hostname), Some(_)) = (event.hostname(), event.timestamp()) else { return Change::Nothing };
        if subject == "offline" {
            self.workers.remove(hostname);
            return Change::WorkerLeft;
        }
        let (worker, created) = self.workers.get_or_insert(hostname, || WorkerRecord::new(hostname));
        worker.update(subject, event);
        if created || subject == "online" { Change::WorkerJoined } else { Change::Worker }
    }

    fn task_event(&mut self, subject: &str, event: &Event) -> Change {
        let (Some(uuid), Some(hostname), Some(_), Some(_)) =
            (event.uuid(), event.hostname(), event.timestamp(), event.clock())
        else {
            log::warn!(event_type = event.kind(); "An event of a task lacks uuid, hostname, timestamp or clock and was left out");
            return Change::Nothing;
        };
        if subject != "sent" {
            self.workers.get_or_insert(hostname, || WorkerRecord::new(hostname)).0.heard(event);
        }
        if subject == "received" {
            self.task_count += 1;
        }
        let (task, created) = self.tasks.get_or_insert(uuid, || TaskRecord::new(uuid));
        match subject {
            "sent" => task.client = Some(hostname.to_owned()),
            _ => task.worker = Some(hostname.to_owned()),
        }
        task.update(subject, event);
        if let Some(name) = task.name().filter(|name| !self.task_types.contains(*name)) {
            self.task_types.insert(name.to_owned());
        }
        let children = self.orphans.remove(uuid).unwrap_or_default();
        task.children
            .extend(children.into_iter().filter(|child| !task.children.contains(child)).collect::<Vec<_>>());
        let parent = task.get("parent_id").and_then(|parent| parent.as_str()).map(str::to_owned);
        if let Some(parent) = parent {
            self.add_child(&parent, uuid);
        }
        if created { Change::NewTask } else { Change::Task }
    }

    fn add_child(&mut self, parent: &str, child: &str) {
        let children = match self.tasks.get_mut(parent) {
            Some(parent) => &mut parent.children,
            None => self.orphans.get_or_insert(parent, Vec::new).0,
        };
        if !children.iter().any(|known| known == child) {
            children.push(child.to_owned());
        }
    }
}

/// A map that forgets the entry that was added first when it is full.
#[derive(Debug)]
struct Bounded<T> {
    limit: usize,
    entries: HashMap<String, (u64, T)>,
    /// Keys in the order of their numbers; those of removed entries stay until their turn comes.
    order: VecDeque<(u64, String)>,
    next: u64,
}

impl<T> Bounded<T> {
    fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), entries: HashMap::new(), order: VecDeque::new(), next: 0 }
    }

    fn get(&self, key: &str) -> Option<&T> {
        self.entries.get(key).map(|(_, value)| value)
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    fn get_or_insert(&mut self, key: &str, make: impl FnOnce() -> T) -> (&mut T, bool) {
        let created = !self.entries.contains_key(key);
        if created {
            while self.entries.len() >= self.limit || self.order.len() >= 2 * self.limit {
                self.forget_oldest();
            }
            self.order.push_back((self.next, key.to_owned()));
        }
        let number = self.next;
        self.next += u64::from(created);
        (&mut self.entries.entry(key.to_owned()).or_insert_with(|| (number, make())).1, created)
    }

    fn remove(&mut self, key: &str) -> Option<T> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        self.order.iter().filter_map(|(number, key)| {
            let (current, value) = self.entries.get(key)?;
            (current == number).then_some(value)
        })
    }

    fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.entries.retain(|_, (_, value)| keep(value));
        self.order
            .retain(|(number, key)| self.entries.get(key).is_some_and(|(current, _)| current == number));
    }

    fn forget_oldest(&mut self) {
        let Some((number, key)) = self.order.pop_front() else { return };
        if self.entries.get(&key).is_some_and(|(current, _)| *current == number) {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::unix_now;
    use crate::message::Value;

    fn event(fields: Value) -> Event {
        let Value::Map(mut fields) = fields else { panic!("not a map") };
        let now = unix_now();
        fields.entry("timestamp".to_owned()).or_insert(now.into());
        fields.entry("hostname".to_owned()).or_insert("w1@host".into());
        Event::new(fields, now).unwrap()
    }

    #[test]
    fn a_worker_lives_as_long_as_its_heartbeats_say() {
        let mut state = State::default();
        let online = crate::value!({"type": "worker-online", "freq": 2.0, "active": 0, "processed": 7, "sw_ident": "celeriac"});
        assert_eq!(state.event(&event(online)), Change::WorkerJoined);
        let worker = state.worker("w1@host").unwrap();
        let heard = worker.heartbeats[0];
        assert_eq!((worker.processed, worker.frequency), (Some(7), 2.0));
        assert!(worker.is_alive_at(heard + 3.9));
        assert!(!worker.is_alive_at(heard + 4.0));
        for _ in 0..9 {
            state.event(&event(crate::value!({"type": "worker-heartbeat", "freq": 2.0})));
        }
        assert_eq!(state.worker("w1@host").unwrap().heartbeats.len(), 4);
        assert_eq!(state.event(&event(crate::value!({"type": "worker-offline"}))), Change::WorkerLeft);
        assert!(state.worker("w1@host").is_none());
    }

    #[test]
    fn a_late_task_received_tells_the_arguments_and_changes_no_state() {
        let mut state = State::default();
        state.event(&event(
            crate::value!({"type": "task-succeeded", "uuid": "a", "clock": 5, "result": "3", "runtime": 0.5}),
        ));
        let received = crate::value!({"type": "task-received", "uuid": "a", "clock": 3, "name": "add", "args": "(1, 2)", "result": "wrong"});
        assert_eq!(state.event(&event(received)), Change::Task);
        let task = state.task("a").unwrap();
        assert_eq!((task.state.as_str(), task.name(), task.clock), ("SUCCESS", Some("add"), 5));
        assert_eq!(task.get("result").unwrap().as_str(), Some("3"));
        assert!(task.time_of("received").is_some());
        assert_eq!((state.task_count(), state.event_count()), (1, 2));
        assert!(state.alive_workers().any(|worker| worker.hostname == "w1@host"));
    }

    #[test]
    fn a_retried_task_starts_over_and_custom_states_are_kept() {
        let mut state = State::default();
        for (kind, expected) in [
            ("task-sent", "PENDING"),
            ("task-received", "RECEIVED"),
            ("task-started", "STARTED"),
            ("task-retried", "RETRY"),
            ("task-received", "RECEIVED"),
            ("task-progress", "PROGRESS"),
            ("task-failed", "FAILURE"),
        ] {
            state.event(&event(crate::value!({"type": kind, "uuid": "a", "clock": 1})));
            assert_eq!(state.task("a").unwrap().state, expected, "{kind}");
        }
    }

    #[test]
    fn children_find_their_parents_in_any_order() {
        let mut state = State::default();
        state.event(&event(
            crate::value!({"type": "task-received", "uuid": "child", "clock": 1, "parent_id": "root"}),
        ));
        state.event(&event(crate::value!({"type": "task-received", "uuid": "root", "clock": 2})));
        state.event(&event(
            crate::value!({"type": "task-received", "uuid": "other", "clock": 3, "parent_id": "root"}),
        ));
        assert_eq!(state.task("root").unwrap().children, ["child", "other"]);
    }

    #[test]
    fn the_oldest_tasks_are_forgotten() {
        let mut state = State::with_limits(10, 3);
        for number in 0..5 {
            state.event(&event(
                crate::value!({"type": "task-received", "uuid": number.to_string(), "clock": 10 - number}),
            ));
        }
        assert_eq!(state.tasks().map(|task| task.uuid.as_str()).collect::<Vec<_>>(), ["2", "3", "4"]);
        assert_eq!(
            state.tasks_by_time().iter().map(|task| task.uuid.as_str()).collect::<Vec<_>>(),
            ["2", "3", "4"]
        );
        state.event(&event(crate::value!({"type": "task-succeeded", "uuid": "3", "clock": 20})));
        state.clear_tasks(true);
        assert_eq!(state.tasks().map(|task| task.uuid.as_str()).collect::<Vec<_>>(), ["2", "4"]);
    }
}
