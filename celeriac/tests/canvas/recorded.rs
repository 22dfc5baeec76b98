//! What real Celery does with many canvases, recorded by `compat-tests/capture/canvas_cases.py`: each canvas is applied
//! here too, each of its tasks ends as it did there, and the effects are compared one by one.
//!
//! `CANVAS_CASES` names another recording, to try more of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::BufReader;

use celeriac::backend::{ChordPart, ExceptionInfo, ResultRef, TaskState};
use celeriac::canvas::{self, Effect, Ending, ErrbackStyle, Outbox};
use celeriac::message::{Map, Message, Signature, Value, json};
use celeriac::task::Request;
use flate2::read::GzDecoder;
use serde_json::{Value as Json, json};

use crate::desk::{Desk, request};
use crate::same::SameIds;

fn plain(value: &Value) -> Json {
    serde_json::from_str(&json::dumps(value)).unwrap()
}

fn signature(value: &Json) -> Signature {
    Signature::from_value(&Value::from(value.clone())).unwrap()
}

fn style(errback: &Signature) -> ErrbackStyle {
    if errback.task == "vec.errback_new" { ErrbackStyle::InProcess } else { ErrbackStyle::Message }
}

#[derive(Default)]
struct Parts {
    size: Option<usize>,
    more: usize,
    returned: BTreeMap<(i64, String), (TaskState, Value)>,
    is_done: bool,
}

/// A worker and its backend in memory.
struct Worker {
    desk: Desk,
    chords: HashMap<String, Parts>,
    events: Vec<Json>,
    published: Vec<Message>,
    failed: HashSet<String>,
}

impl Worker {
    fn take(&mut self) -> Vec<Json> {
        std::mem::take(&mut self.events)
    }

    fn commit(&mut self, outbox: Outbox, running: Option<&Request>) {
        for effect in outbox.effects {
            match effect {
                Effect::Publish(message) => {
                    self.events.push(json!(["publish", shown(&message)]));
                    self.published.push(*message);
                }
                Effect::ChordSize { group_id, size } => {
                    self.events.push(json!(["size", group_id, size]));
                    self.chords.entry(group_id).or_default().size = Some(size);
                }
                Effect::ChordGrow { group_id, by } => {
                    self.events.push(json!(["grow", group_id]));
                    self.chords.entry(group_id).or_default().more += by;
                }
                Effect::SaveGroup(group) => self.events.push(json!(["save", plain(&group.to_value())])),
                Effect::Store(meta) => {
                    self.store(
                        &meta.task_id,
                        meta.status.as_str(),
                        &meta.result,
                        &[],
                        &meta.group_id,
                        &meta.parent_id,
                    );
                }
                Effect::ChordPart(part) => self.part(*part, running.unwrap()),
                Effect::Revoke(ids) => self.events.push(json!(["revoke", ids])),
                other => panic!("{other:?}"),
            }
        }
    }

    fn store(
        &mut self,
        id: &str,
        state: &str,
        result: &Value,
        children: &[ResultRef],
        group_id: &Option<String>,
        parent_id: &Option<String>,
    ) {
        let children: Vec<Json> = children.iter().map(|child| plain(&child.to_value())).collect();
        self.events.push(json!(["store", id, state, plain(result), children, group_id, parent_id]));
    }

    fn part(&mut self, part: ChordPart, running: &Request) {
        if part.state != TaskState::Success
            && running.id != part.task_id
            && !self.failed.insert(part.task_id.clone())
        {
            return;
        }
        let ChordPart { group_id, task_id, group_index, state, result, body } = part;
        self.events.push(json!(["part", group_id, task_id, group_index, state.as_str()]));
        let parts = self.chords.entry(group_id).or_default();
        if parts.is_done {
            return;
        }
        parts.returned.entry((group_index.unwrap_or(i64::MAX), task_id)).or_insert((state, result));
        if parts.size.is_none_or(|size| size + parts.more != parts.returned.len()) {
            return;
        }
        parts.is_done = true;
        let failed = parts.returned.iter().find(|(_, (state, _))| *state != TaskState::Success);
        let failed = failed.map(|((_, id), (_, result))| (id.clone(), ExceptionInfo::from_value(result)));
        let mut outbox = Outbox::new();
        let body = body.unwrap();
        if let Some((id, cause)) = failed {
            let exception = canvas::dependency_error(&id, &cause);
            let called = self.desk.with(None, |sender| {
                canvas::chord_error(&body, &exception, &cause, running, &style, sender, &mut outbox)
            });
            for call in called.unwrap().in_process {
                self.events.push(json!(["errback", call.id, plain(&call.exception.to_value())]));
            }
        } else {
            let results = parts.returned.values().map(|(_, result)| result.clone()).collect();
            self.desk
                .with(None, |sender| canvas::chord_ready(&body, results, running, sender, &mut outbox))
                .unwrap();
        }
        self.commit(outbox, Some(running));
    }

    fn run(&mut self, request: &Request, outcome: &Json) {
        let value = &outcome[1];
        match outcome[0].as_str().unwrap() {
            "return" => self.succeed(request, Value::from(value.clone()), Vec::new()),
            "fail" => self.fail(request),
            "grow" => {
                let mut outbox = Outbox::new();
                self.desk
                    .with(None, |sender| canvas::add_to_chord(request, signature(value), sender, &mut outbox))
                    .unwrap();
                let children = std::mem::take(&mut outbox.children);
                self.commit(outbox, Some(request));
                self.succeed(request, Value::Int(7), children);
            }
            "replace" => {
                let mut outbox = Outbox::new();
                self.desk
                    .with(None, |sender| canvas::replace(request, signature(value), sender, &mut outbox))
                    .unwrap();
                self.commit(outbox, Some(request));
            }
            other => panic!("{other}"),
        }
    }

    fn succeed(&mut self, request: &Request, value: Value, mut children: Vec<ResultRef>) {
        let mut outbox = Outbox::new();
        self.desk.with(None, |sender| canvas::on_success(request, &value, sender, &mut outbox)).unwrap();
        children.append(&mut outbox.children);
        self.commit(outbox, Some(request));
        let headers = &request.headers;
        self.store(&request.id, "SUCCESS", &value, &children, &headers.group, &headers.parent_id);
        if let Some(part) = canvas::chord_part(request, TaskState::Success, value) {
            self.part(part, request);
        }
    }

    fn fail(&mut self, request: &Request) {
        let exception = ExceptionInfo::builtin("ValueError", "boom");
        let headers = &request.headers;
        self.store(&request.id, "FAILURE", &exception.to_value(), &[], &headers.group, &headers.parent_id);
        let mut outbox = Outbox::new();
        let ending = Ending::failed(exception.clone(), None);
        let called = self
            .desk
            .with(None, |sender| canvas::never_completes(request, &ending, &style, sender, &mut outbox));
        self.commit(outbox, Some(request));
        for _ in called.in_process {
            self.events.push(json!(["errback", request.id, plain(&exception.to_value())]));
        }
    }
}

fn shown(message: &Message) -> Json {
    json!({
        "headers": plain(&Value::Map(message.headers.to_map())),
        "body": serde_json::from_slice::<Json>(&message.body).unwrap(),
        "exchange": message.properties.delivery_info.exchange,
        "routing_key": message.properties.delivery_info.routing_key,
        "priority": message.properties.priority,
        "reply_to": message.properties.reply_to,
        "correlation_id": message.properties.correlation_id,
    })
}

/// Errbacks called in process come before or after what is sent and stored: only their set counts.
fn sorted(events: Vec<Json>) -> Vec<Json> {
    let (errbacks, mut others): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|event| event[0] == "errback");
    others.extend(errbacks);
    others
}

/// Drops what differs without a meaning.
fn neutral(value: &mut Json, reply_to: &str) {
    match value {
        Json::Object(entries) => {
            for shown in ["argsrepr", "kwargsrepr", "origin"] {
                entries.remove(shown);
            }
            // A null option means what a missing one means, and an empty chain what none means.
            entries.retain(|name, value| !(value.is_null() || (name == "chain" && *value == json!([]))));
            entries.iter_mut().for_each(|(_, value)| neutral(value, reply_to));
            match entries.get("subtask_type").and_then(Json::as_str) {
                Some("chain") => splice_chains(&mut entries["kwargs"]["tasks"]),
                // Known from the running task, if it is not here.
                Some("chord") => {
                    drop(entries["options"].as_object_mut().and_then(|own| own.remove("root_id")))
                }
                _ => {}
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| neutral(item, reply_to)),
        Json::String(text) if text == reply_to => *text = "the reply id".to_owned(),
        Json::String(text) if text.starts_with("Dependency ") => *text = without_ids(text),
        _ => {}
    }
}

fn without_ids(text: &str) -> String {
    let mut words =
        text.split(' ').map(|word| if word.starts_with("00000000-") { "of some id" } else { word });
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| text + " " + word)
}

/// A chain in a chain is one chain.
fn splice_chains(tasks: &mut Json) {
    let mut spliced = Vec::new();
    for mut task in std::mem::take(tasks.as_array_mut().unwrap()) {
        match task["subtask_type"].as_str() {
            Some("chain") => spliced.append(task["kwargs"]["tasks"].as_array_mut().unwrap()),
            _ => spliced.push(task),
        }
    }
    *tasks = Json::Array(spliced);
}

fn compare(same: &mut SameIds, path: &str, ours: Vec<Json>, theirs: &Json, reply_to: &str) {
    let mut ours = Json::Array(sorted(ours));
    let mut theirs = Json::Array(sorted(theirs.as_array().unwrap().clone()));
    neutral(&mut ours, crate::desk::REPLY_TO);
    neutral(&mut theirs, reply_to);
    let kinds = |events: &Json| -> Vec<String> {
        let events = events.as_array().unwrap().iter();
        events
            .map(|event| {
                format!(
                    "{} {}",
                    event[0],
                    if event[1].is_string() { &event[1] } else { &event[1]["headers"]["id"] }
                )
            })
            .collect()
    };
    let mut own = ours.as_array().unwrap().as_slice();
    for event in theirs.as_array().unwrap() {
        // Where Celery leaves what waits for a failed task PENDING there is more here: its end.
        let further =
            own.iter().take_while(|own| is_end(own) && same.clone().check(path, own, event).is_err());
        let further = further.count();
        let checked = match own.get(further) {
            Some(own) => same.check(path, own, event),
            None => Err("nothing more here".to_owned()),
        };
        // An errback that the chord around this one has too is called when that fails.
        let is_called_later =
            event[0] == "errback" && own[..further].iter().any(|own| own[0] == "part" && own[4] == "FAILURE");
        match checked {
            Ok(()) => own = &own[further + 1..],
            Err(_) if is_called_later => {}
            Err(difference) => {
                panic!("{path}: {difference}\nours {:#?}\ntheirs {:#?}", kinds(&ours), kinds(&theirs))
            }
        }
    }
    let further: Vec<_> = own.iter().filter(|own| !is_end(own)).collect();
    assert!(further.is_empty(), "{path}: more than expected: {further:#?}");
}

/// Whether an event tells of something that will never complete: a failure that is stored or counted, an errback.
fn is_end(event: &Json) -> bool {
    match event[0].as_str() {
        Some("store") => event[2] == "FAILURE",
        Some("part") => event[4] == "FAILURE",
        Some("publish") => event[1]["headers"]["task"].as_str().is_some_and(|task| task.contains("errback")),
        kind => matches!(kind, Some("errback" | "revoke")),
    }
}

#[test]
fn canvases_and_what_follows_their_tasks_are_as_recorded_from_celery() {
    let default = format!("{}/tests/fixtures/canvas_cases.json.gz", env!("CARGO_MANIFEST_DIR"));
    let path = std::env::var("CANVAS_CASES").unwrap_or(default);
    let file = fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let recorded: Json = serde_json::from_reader(BufReader::new(GzDecoder::new(file))).unwrap();
    let reply_to = recorded["reply_to"].as_str().unwrap();
    let mut wrong = Vec::new();
    let cases = recorded["cases"].as_array().unwrap();
    for case in cases {
        if let Err(panic) = std::panic::catch_unwind(|| run_case(case, reply_to)) {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            wrong.push(format!("case {}: {}", case["seed"], text.chars().take(3000).collect::<String>()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn run_case(case: &Json, reply_to: &str) {
    let mut worker = Worker {
        desk: Desk::new(),
        chords: HashMap::new(),
        events: Vec::new(),
        published: Vec::new(),
        failed: HashSet::new(),
    };
    let mut same = SameIds::default();
    let mut outbox = Outbox::new();
    let args = case["args"].as_array().unwrap().iter().cloned().map(Value::from).collect();
    let options = match Value::from(case["options"].clone()) {
        Value::Map(options) => options,
        _ => Map::new(),
    };
    let result = worker.desk.with(None, |sender| {
        canvas::apply(signature(&case["signature"]), args, Map::new(), options, sender, &mut outbox)
    });
    worker.commit(outbox, None);
    compare(&mut same, "applied", worker.take(), &case["applied"], reply_to);
    match result {
        Ok(result) => same.assert("result", &plain(&result.to_value()), &case["result"]),
        Err(error) => assert!(case["result"].is_null(), "{error}"),
    }
    let mut next = 0;
    for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        while worker.published[next].headers.task.as_deref() != Some("vec.add") {
            next += 1;
        }
        let running = request(&worker.published[next]);
        next += 1;
        worker.run(&running, &step["outcome"]);
        let path = format!("step {index} {}", step["outcome"][0]);
        compare(&mut same, &path, worker.take(), &step["events"], reply_to);
    }
}
