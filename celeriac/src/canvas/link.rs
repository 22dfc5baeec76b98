//! Links, error links, and the operator `|` on signature trees.
//!
//! Source: celery 5.7 `celery/canvas.py`, the `link`, `link_error`, `__or__` and `unchain_tasks` of its classes.

use super::node::{Kind, Node, append, maybe_list, merge_options};
use crate::message::{Map, Value};

/// Options of a chain that it uses itself; the others go to its first task (`_CHAIN_RUN_OPTIONS`).
const CHAIN_OPTIONS: [&str; 8] =
    ["chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"];

impl Node {
    /// Adds a callback: to a group's first task, to a chord's body.
    pub(super) fn link(&mut self, callback: Value) {
        match &mut self.kind {
            Kind::Task | Kind::Chain(_) => append(&mut self.options, "link", callback),
            Kind::Chord(chord) => chord.body.iter_mut().for_each(|body| body.link(callback.clone())),
            Kind::Group(tasks) => {
                if let Some(first) = tasks.first_mut() {
                    first.link(with_entry(callback, "immutable", Value::Bool(true)));
                }
            }
        }
    }

    /// Adds an errback: to each task of a group, to a chord's body, and with `on_headers`
    /// (`task_allow_error_cb_on_chord_header`) to its header too.
    pub(super) fn link_error(&mut self, errback: &Value, on_headers: bool) {
        match &mut self.kind {
            Kind::Task | Kind::Chain(_) => append(&mut self.options, "link_error", errback.clone()),
            Kind::Group(tasks) => tasks.iter_mut().for_each(|task| task.link_error(errback, on_headers)),
            Kind::Chord(chord) => {
                for task in &mut chord.header {
                    if on_headers {
                        task.link_error(&with_option(errback.clone(), "immutable", Value::Bool(true)), true);
                    }
                    if task.is_chord() && chord.header_options.is_none() {
                        task.link_error(errback, on_headers);
                    }
                }
                chord.body.iter_mut().for_each(|body| body.link_error(errback, on_headers));
            }
        }
    }

    /// The tasks of a chain with the chain's own links: callbacks on the last, errbacks on each.
    pub(super) fn unchain(self, on_headers: bool) -> Vec<Node> {
        let Kind::Chain(mut tasks) = self.kind else { return vec![self] };
        if let Some(last) = tasks.last_mut() {
            maybe_list(self.options.get("link").cloned())
                .into_iter()
                .for_each(|callback| last.link(callback));
        }
        for errback in maybe_list(self.options.get("link_error").cloned()) {
            tasks.iter_mut().for_each(|task| task.link_error(&errback, on_headers));
        }
        tasks
    }

    /// A chord with a chain for a body becomes a chord with the chain's first task, and the rest of the chain.
    pub(super) fn unroll_body(mut self, on_headers: bool) -> Vec<Node> {
        let Kind::Chord(chord) = &mut self.kind else { return vec![self] };
        let Some(body) = chord.body.take() else { return vec![self] };
        let mut first_options = body.options.clone();
        first_options.retain(|name, _| !CHAIN_OPTIONS.contains(&name.as_str()));
        let mut tasks = body.unchain(on_headers).into_iter();
        chord.body = tasks.next().map(|mut first| {
            merge_options(&mut first.options, first_options);
            first
        });
        std::iter::once(self).chain(tasks).collect()
    }

    /// Splits the bodies of a chain's chords, as [`Node::unroll_body`] does (`_unroll_chords`).
    pub(super) fn unroll_chords(&mut self, on_headers: bool) {
        let Kind::Chain(tasks) = &mut self.kind else { return };
        let mut pending: Vec<Node> = std::mem::take(tasks).into_iter().rev().collect();
        while let Some(mut task) = pending.pop() {
            task.unroll_chords(on_headers);
            if task.is_chord_with_task_led_chain() {
                pending.extend(task.unroll_body(on_headers).into_iter().rev());
            } else {
                tasks.push(task);
            }
        }
    }

    /// Celery's `self | other`.
    pub(super) fn or(self, other: Node) -> Node {
        match &self.kind {
            Kind::Chain(_) => self.chain_or(other),
            Kind::Group(_) if other.is_empty_group() => self,
            Kind::Group(_) => Node::chord(self.into_members(), Some(other)),
            Kind::Chord(_) => self.chord_or(other),
            Kind::Task => self.task_or(other),
        }
    }

    fn task_or(self, other: Node) -> Node {
        let mut tasks = vec![self];
        if other.is_chain() {
            tasks.extend(other.unchain(false));
        } else {
            tasks.push(other.unrolled());
        }
        Node::chain(tasks)
    }

    fn chord_or(mut self, other: Node) -> Node {
        let was_group = other.is_group();
        let other = other.unrolled();
        let joins_body = if was_group { !other.is_group() } else { !other.is_chain() };
        if joins_body {
            self.extend_body(other);
            return self;
        }
        self.task_or(other)
    }

    fn chain_or(mut self, other: Node) -> Node {
        if other.is_empty_group() {
            return self;
        }
        let other = other.unrolled();
        if other.is_chain() {
            return other.unchain(false).into_iter().fold(self, Node::or);
        }
        let Kind::Chain(tasks) = &mut self.kind else { return self };
        if other.is_group() {
            let mut tasks = self.unchain(false);
            match tasks.last_mut() {
                None => return other,
                Some(last) if last.is_chord() => last.extend_body(other),
                Some(_) => tasks.push(other),
            }
            return Node::chain(tasks);
        }
        match tasks.last_mut() {
            Some(last) if last.is_group() => {
                let header = std::mem::replace(last, Node::group(Vec::new()));
                *last = Node::chord(header.into_members(), Some(other));
                // Two chords in a row: the later one goes on from the body of the earlier.
                if tasks.len() > 1
                    && tasks[tasks.len() - 2].is_chord()
                    && let Some(chord) = tasks.pop()
                    && let Some(before) = tasks.last_mut()
                {
                    before.extend_body(chord);
                }
                self
            }
            Some(last) if last.is_chord() && !other.is_chord() => {
                last.extend_body(other);
                self
            }
            _ => {
                let mut tasks = self.unchain(false);
                tasks.push(other);
                Node::chain(tasks)
            }
        }
    }

    fn extend_body(&mut self, other: Node) {
        if let Kind::Chord(chord) = &mut self.kind {
            chord.body = Some(match chord.body.take() {
                Some(body) => body.or(other),
                None => other,
            });
        }
    }

    pub(super) fn into_members(self) -> Vec<Node> {
        match self.kind {
            Kind::Group(tasks) | Kind::Chain(tasks) => tasks,
            _ => vec![self],
        }
    }

    /// Moves `link` and `link_error` from a chord's options to its body (`_add_body_callbacks`).
    pub(super) fn add_body_callbacks(&mut self, options: &mut Map) {
        for callback in maybe_list(options.shift_remove("link")) {
            if self.is_empty_group() {
                append(&mut self.options, "link", callback);
            } else {
                self.link(callback);
            }
        }
        for errback in maybe_list(options.shift_remove("link_error")) {
            if self.is_group() {
                self.link_error_to_body_tasks(&errback, true);
            } else {
                append(&mut self.options, "link_error", errback);
            }
        }
    }

    fn link_error_to_body_tasks(&mut self, errback: &Value, runs_as_group: bool) {
        let has_own = self.options.get("link_error").is_some_and(|own| !own.is_null());
        match &mut self.kind {
            Kind::Group(_) if runs_as_group && has_own => {
                append(&mut self.options, "link_error", errback.clone());
            }
            Kind::Group(tasks) => {
                tasks.iter_mut().for_each(|task| task.link_error_to_body_tasks(errback, false));
            }
            Kind::Chord(chord) => {
                chord.body.iter_mut().for_each(|body| body.link_error_to_body_tasks(errback, true));
            }
            Kind::Task | Kind::Chain(_) => self.link_error(errback, false),
        }
    }
}

/// The signature's object with another value of one of its entries.
fn with_entry(mut signature: Value, key: &str, value: Value) -> Value {
    if let Value::Map(entries) = &mut signature {
        entries.insert(key.to_owned(), value);
    }
    signature
}

/// The signature's object with one more option.
fn with_option(mut signature: Value, key: &str, value: Value) -> Value {
    if let Value::Map(entries) = &mut signature
        && let Some(Value::Map(options)) = entries.get_mut("options")
    {
        options.insert(key.to_owned(), value);
    }
    signature
}
