//! Canvases of any depth are applied or refused; none uses up the stack of a thread.

use std::sync::atomic::{AtomicU64, Ordering};

use celeriac::canvas::{self, Outbox, Sender};
use celeriac::config::Config;
use celeriac::message::{Codecs, Map, Signature, json};

fn task(options: &str) -> String {
    format!(
        r#"{{"task": "t", "args": [], "kwargs": {{}}, "options": {{{options}}}, "subtask_type": null, "immutable": true}}"#
    )
}

fn canvas(kind: &str, kwargs: &str) -> String {
    format!(
        r#"{{"task": "celery.{kind}", "args": [], "kwargs": {{{kwargs}}}, "options": {{}}, "subtask_type": "{kind}", "immutable": false}}"#
    )
}

/// Freezes the signature and applies it; tells whether it can be applied.
fn apply(text: &str) -> bool {
    let Ok(value) = json::loads(text.as_bytes()) else { return false };
    let signature = Signature::from_value(&value).expect("a signature");
    let (config, codecs, ids) = (Config::default(), Codecs::default(), AtomicU64::new(0));
    let sender = Sender {
        config: &config,
        codecs: &codecs,
        tasks: &|_| None,
        origin: "test",
        reply_to: "test",
        now: chrono::DateTime::UNIX_EPOCH,
        new_id: &|| ids.fetch_add(1, Ordering::Relaxed).to_string(),
        parent: None,
    };
    let mut frozen = signature.clone();
    let _ = canvas::freeze(&mut frozen, &sender);
    canvas::apply(signature, Vec::new(), Map::new(), Map::new(), &sender, &mut Outbox::new()).is_ok()
}

#[test]
fn canvases_of_any_depth_leave_the_stack_alone() {
    let inner = task("");
    let shapes = [
        ("bodies of chords", canvas("chord", &format!(r#""header": [{inner}], "body": @"#))),
        ("headers of chords", canvas("chord", &format!(r#""header": [@], "body": {inner}"#))),
        ("groups of one", canvas("group", r#""tasks": [@]"#)),
        ("groups", canvas("group", &format!(r#""tasks": [@, {inner}]"#))),
        ("chains", canvas("chain", &format!(r#""tasks": [{inner}, @]"#))),
        ("links", task(r#""link": [@]"#)),
        ("error links", task(r#""link_error": [@]"#)),
        ("bodies in options", task(r#""chord": @"#)),
    ];
    let run = move || {
        for (what, shape) in shapes {
            let (before, after) = shape.split_once('@').expect("a place for the next level");
            let nested = |depth: usize| format!("{}{inner}{}", before.repeat(depth), after.repeat(depth));
            assert!(apply(&nested(40)), "{what}");
            for depth in [128, 129, 590] {
                apply(&nested(depth));
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(run).expect("a thread");
    thread.join().expect("no panic");
}
