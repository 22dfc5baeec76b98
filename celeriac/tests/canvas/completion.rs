//! What follows the end of a task.

use celeriac::backend::{ChordPart, ExceptionInfo, TaskMeta, TaskState};
use celeriac::canvas::{self, CanvasError, Effect, Ending, ErrbackStyle, Outbox, chain, chord, group};
use celeriac::message::{Message, Signature, Value};
use celeriac::task::Request;
use celeriac::value;

use crate::desk::{Desk, body, messages, only_message, request, s, s0};

fn succeed(desk: &Desk, request: &Request, result: Value) -> Outbox {
    let mut outbox = Outbox::new();
    desk.with(None, |sender| canvas::on_success(request, &result, sender, &mut outbox)).unwrap();
    outbox
}

fn fail(desk: &Desk, request: &Request) -> (Outbox, Vec<Signature>) {
    let mut outbox = Outbox::new();
    let exception = ExceptionInfo::builtin("ValueError", "boom");
    let style = |errback: &Signature| match errback.task.as_str() {
        "vec.errback_new" => ErrbackStyle::InProcess,
        _ => ErrbackStyle::Message,
    };
    let ending = Ending::failed(exception, Some("trace".to_owned()));
    let errbacks =
        desk.with(None, |sender| canvas::never_completes(request, &ending, &style, sender, &mut outbox));
    assert_eq!(errbacks.unsent, []);
    (outbox, errbacks.in_process)
}

fn stored(outbox: &Outbox) -> Vec<TaskMeta> {
    let metas = outbox.effects.iter().filter_map(|effect| match effect {
        Effect::Store(meta) => Some((**meta).clone()),
        _ => None,
    });
    metas.collect()
}

fn parts(outbox: &Outbox) -> Vec<ChordPart> {
    let parts = outbox.effects.iter().filter_map(|effect| match effect {
        Effect::ChordPart(part) => Some((**part).clone()),
        _ => None,
    });
    parts.collect()
}

fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.headers.id.as_deref().unwrap()).collect()
}

#[test]
fn each_step_of_a_chain_sends_the_next_under_its_frozen_id() {
    let desk = Desk::new();
    let first =
        only_message(&desk.apply(chain([s("add", [2, 2]), s("add", [4]), s("add", [8])]), value!({})));
    let frozen: Vec<String> =
        body(&first).embed.chain.iter().rev().map(|step| id_of(&step.options)).collect();

    let outbox = succeed(&desk, &request(&first), Value::Int(4));
    let second = only_message(&outbox);
    assert_eq!(second.headers.id.as_ref(), Some(&frozen[0]));
    assert_eq!(second.headers.parent_id, first.headers.id);
    assert_eq!(second.headers.root_id, first.headers.id);
    assert_eq!(body(&second).args, [Value::Int(4), Value::Int(4)]);
    assert_eq!(outbox.children[0].id, frozen[0]);

    let third = only_message(&succeed(&desk, &request(&second), Value::Int(8)));
    assert_eq!(third.headers.id.as_ref(), Some(&frozen[1]));
    assert_eq!(third.headers.root_id, first.headers.id);
    assert_eq!(body(&third).embed.chain, []);
    assert_eq!(succeed(&desk, &request(&third), Value::Int(16)), Outbox::new());
}

#[test]
fn several_callbacks_are_sent_as_one_group_and_one_alone_as_itself() {
    let desk = Desk::new();
    let alone = s("add", [1, 2]).link(s("mul", [10]));
    let message =
        only_message(&succeed(&desk, &request(&only_message(&desk.apply(alone, value!({})))), Value::Int(3)));
    assert_eq!(message.headers.group, None);
    assert_eq!(body(&message).args, [Value::Int(3), Value::Int(10)]);

    let several = s("add", [1, 2]).link(s("mul", [10])).link(s("noop", ["x"]).immutable(true));
    let outbox = succeed(&desk, &request(&only_message(&desk.apply(several, value!({})))), Value::Int(3));
    let sent = messages(&outbox);
    assert_eq!(sent.len(), 2);
    assert!(sent[0].headers.group.is_some());
    assert_eq!(sent[0].headers.group, sent[1].headers.group);
    assert_eq!(body(&sent[1]).args, [Value::from("x")]);
    assert_eq!(outbox.children.len(), 1, "the group is the child, not its members");
}

#[test]
fn a_chord_in_a_chain_is_sent_by_the_worker_and_its_body_goes_on_with_the_chain() {
    let desk = Desk::new();
    let tasks = chain([s("add", [1, 1]), group([s("add", [2]), s("add", [3])]), s0("xsum"), s("mul", [10])]);
    let first = only_message(&desk.apply(tasks, value!({})));
    let outbox = succeed(&desk, &request(&first), Value::Int(2));
    let parts = messages(&outbox);
    assert_eq!(parts.len(), 2);
    let size = outbox.effects.iter().position(|effect| matches!(effect, Effect::ChordSize { size: 2, .. }));
    assert_eq!(size, Some(1), "the size is known before the last part is sent");
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(part.headers.group_index, Some(index as i64));
        assert_eq!(part.headers.root_id, first.headers.id);
        assert_eq!(part.headers.parent_id, first.headers.id);
        assert_eq!(body(part).embed.chain, []);
    }
    let last = request(&parts[1]);
    let part = canvas::chord_part(&last, TaskState::Success, Value::Int(5)).unwrap();
    assert_eq!(Some(&part.group_id), parts[0].headers.group.as_ref());

    let mut outbox = Outbox::new();
    let results = vec![Value::Int(4), Value::Int(5)];
    desk.with(None, |sender| {
        canvas::chord_ready(part.body.as_ref().unwrap(), results, &last, sender, &mut outbox)
    })
    .unwrap();
    let sum = only_message(&outbox);
    assert_eq!(sum.headers.task.as_deref(), Some("vec.xsum"));
    assert_eq!(sum.headers.parent_id, parts[1].headers.id);
    assert_eq!(sum.headers.root_id, first.headers.id);
    assert_eq!(body(&sum).args, [value!([4, 5])]);
    assert!(canvas::chord_part(&request(&sum), TaskState::Success, Value::Null).is_none());
    let product = only_message(&succeed(&desk, &request(&sum), Value::Int(9)));
    assert_eq!(product.headers.task.as_deref(), Some("vec.mul"));
    assert_eq!(body(&product).args, [Value::Int(9), Value::Int(10)]);
}

#[test]
fn a_failure_fails_the_rest_of_the_chain_and_the_chord_that_waits_for_it() {
    let desk = Desk::new();
    let inner = chain([s0("fail"), s("add", [1]), s("add", [2])]);
    let outbox = desk.apply(chord([inner, s("add", [5, 5])], s0("xsum")), value!({}));
    let failed = request(&messages(&outbox)[0]);
    let (outbox, in_process) = fail(&desk, &failed);
    assert_eq!(in_process, []);
    let steps: Vec<String> = failed.body.embed.chain.iter().map(|step| id_of(&step.options)).collect();
    let metas = stored(&outbox);
    assert_eq!(metas.iter().map(|meta| meta.task_id.clone()).collect::<Vec<_>>(), steps);
    assert!(
        metas
            .iter()
            .all(|meta| meta.status == TaskState::Failure && meta.traceback.as_deref() == Some("trace"))
    );
    let parts = parts(&outbox);
    assert_eq!(parts.len(), 1, "only the last step is a part of the chord");
    assert_eq!(parts[0].task_id, steps[0]);
    assert_eq!((parts[0].group_index, parts[0].state.clone()), (Some(0), TaskState::Failure));
    assert_eq!(Some(parts[0].group_id.as_str()), metas[0].group_id.as_deref());
}

#[test]
fn a_failed_chain_reaches_the_body_of_a_chord_in_it() {
    let desk = Desk::new();
    let tasks = chain([s0("fail"), group([s("add", [2]), s("add", [3])]), s0("xsum"), s("mul", [10])]);
    let (result, outbox) = desk.try_apply(tasks, value!({})).unwrap();
    let (outbox, _) = fail(&desk, &request(&only_message(&outbox)));
    let metas = stored(&outbox);
    assert_eq!(metas[0].task_id, result.id, "the end of the chain comes first");
    assert_eq!(metas.len(), 5, "the end, the chord, its header and its body");
    assert_eq!(parts(&outbox), [], "nobody counts the parts of a chord that was never sent");
}

#[test]
fn errbacks_are_sent_as_a_group_with_the_failed_id_or_called_in_process() {
    let desk = Desk::new();
    let guarded = s0("fail").link_error(s0("errback_old")).link_error(s0("errback_new"));
    let failed = request(&only_message(&desk.apply(guarded, value!({}))));
    let (outbox, in_process) = fail(&desk, &failed);
    assert_eq!(in_process, [s0("errback_new")]);
    let errback = only_message(&outbox);
    assert_eq!(body(&errback).args, [Value::from(failed.id.as_str())]);
    assert_eq!(errback.headers.parent_id.as_ref(), Some(&failed.id));
    assert_eq!(Some(&outbox.children[0].id), errback.headers.group.as_ref());
}

#[test]
fn a_chord_error_fails_the_body_and_what_follows_it() {
    let desk = Desk::new();
    let sum = s0("xsum").link_error(s0("errback_old"));
    let tasks = chain([s("add", [1, 1]), group([s("add", [1]), s0("fail")]), sum, s("mul", [10])]);
    let (result, outbox) = desk.try_apply(tasks, value!({})).unwrap();
    let header = succeed(&desk, &request(&only_message(&outbox)), Value::Int(2));
    let failed = request(&messages(&header)[1]);
    let cause = ExceptionInfo::builtin("ValueError", "in header");
    let exception = canvas::dependency_error(&failed.id, &cause);
    assert_eq!(
        exception.exc_message,
        [Value::from(format!("Dependency {} raised ValueError('in header')", failed.id))]
    );
    let part = canvas::chord_part(&failed, TaskState::Failure, Value::Null).unwrap();
    let body = part.body.unwrap();
    let mut outbox = Outbox::new();
    let style = |_: &Signature| ErrbackStyle::Message;
    desk.with(None, |sender| {
        canvas::chord_error(&body, &exception, &cause, &failed, &style, sender, &mut outbox)
    })
    .unwrap();
    let errbacks = messages(&outbox);
    let metas = stored(&outbox);
    assert_eq!(metas.len(), 2);
    assert_eq!(metas[0].task_id, id_of(&body.options));
    assert_eq!(metas[1].task_id, result.id);
    assert_eq!(metas[0].result, exception.to_value());
    let children = metas[0].children.clone().unwrap_or_default();
    assert_eq!(
        Some(&children[0].id),
        errbacks[0].headers.group.as_ref(),
        "the errbacks are found by the body's result"
    );
    assert_eq!(crate::desk::body(&errbacks[0]).args, [Value::from(metas[0].task_id.as_str())]);
}

#[test]
fn a_group_as_body_fails_with_the_cause_and_is_revoked() {
    let desk = Desk::new();
    let tasks = chord([s0("fail"), s0("fail")], group([s("add", [1]), s("add", [2])]));
    let (result, outbox) = desk.try_apply(tasks, value!({})).unwrap();
    let failed = request(&messages(&outbox)[0]);
    let part = canvas::chord_part(&failed, TaskState::Failure, Value::Null).unwrap();
    let body = part.body.unwrap();
    let cause = ExceptionInfo::builtin("ValueError", "in header");
    let exception = canvas::dependency_error(&failed.id, &cause);
    let mut outbox = Outbox::new();
    let style = |_: &Signature| ErrbackStyle::Message;
    desk.with(None, |sender| {
        canvas::chord_error(&body, &exception, &cause, &failed, &style, sender, &mut outbox)
    })
    .unwrap();
    let members: Vec<String> = result.children.iter().flatten().map(|child| child.id.clone()).collect();
    let metas = stored(&outbox);
    assert_eq!(
        metas.iter().map(|meta| meta.task_id.as_str()).collect::<Vec<_>>(),
        [&members[0], &members[1], &result.id]
    );
    assert!(metas.iter().all(|meta| meta.result == cause.to_value()));
    assert!(outbox.effects.contains(&Effect::Revoke(members)));
}

#[test]
fn a_replacement_takes_the_id_the_chord_and_the_rest_of_the_chain() {
    let desk = Desk::new();
    let tasks = chord([chain([s("add", [1, 1]), s("mul", [2])]), s("add", [5, 5])], s0("xsum"));
    let outbox = desk.apply(tasks, value!({}));
    let replaced = request(&messages(&outbox)[0]);
    let mut outbox = Outbox::new();
    desk.with(None, |sender| canvas::replace(&replaced, s("add", [7, 7]), sender, &mut outbox)).unwrap();
    let message = only_message(&outbox);
    assert_eq!(message.headers.id.as_ref(), Some(&replaced.id));
    assert_eq!(message.headers.replaced_task_nesting, 1);
    assert_eq!(message.headers.root_id, replaced.headers.root_id);
    let rest = &body(&message).embed.chain;
    assert_eq!(rest.len(), 1);
    assert_eq!(id_of(&rest[0].options), id_of(&replaced.body.embed.chain[0].options));
    assert_eq!(rest[0].options["chord"], replaced.body.embed.chain[0].options["chord"]);

    let part = request(
        &messages(&desk.apply(chord([s("add", [1, 1]), s("add", [5, 5])], s0("xsum")), value!({})))[0],
    );
    let mut outbox = Outbox::new();
    let pair = group([s("add", [1, 2]), s("add", [3, 4])]);
    desk.with(None, |sender| canvas::replace(&part, pair, sender, &mut outbox)).unwrap();
    let header = messages(&outbox);
    assert_eq!(header.len(), 2);
    let accumulate = *body(&header[0]).embed.chord.unwrap();
    assert_eq!(accumulate.task, "celery.accumulate");
    assert_eq!(id_of(&accumulate.options), part.id);
    assert_eq!(accumulate.options["group_id"].as_str(), part.headers.group.as_deref());
    assert_eq!(accumulate.options["chord"], part.body.embed.chord.as_ref().unwrap().to_value());
    assert_ne!(header[0].headers.group, part.headers.group);
}

#[test]
fn what_cannot_replace_a_task_is_refused() {
    let desk = Desk::new();
    let running = request(&only_message(&desk.apply(s("add", [1, 1]), value!({}))));
    let mut outbox = Outbox::new();
    let mut replace = |signature: Signature| {
        desk.with(None, |sender| canvas::replace(&running, signature, sender, &mut outbox))
    };
    assert_eq!(replace(chain(Vec::<Signature>::new())), Err(CanvasError::ReplaceWithEmptyChain));
    assert_eq!(replace(s0("noop").option("chord", s0("xsum"))), Err(CanvasError::ReplaceInChord));
}

#[test]
fn a_task_added_to_a_chord_is_a_part_more() {
    let desk = Desk::new();
    let parts = messages(&desk.apply(chord([s("add", [1, 1]), s("add", [2, 2])], s0("xsum")), value!({})));
    let running = request(&parts[1]);
    let mut outbox = Outbox::new();
    let added =
        desk.with(None, |sender| canvas::add_to_chord(&running, s("add", [9, 9]), sender, &mut outbox));
    let message = only_message(&outbox);
    assert_eq!(ids(std::slice::from_ref(&message)), [added.unwrap().id.as_str()]);
    assert_eq!(message.headers.group, running.headers.group);
    assert_eq!(body(&message).embed.chord, running.body.embed.chord);
    let group_id = running.headers.group.clone().unwrap();
    assert_eq!(outbox.effects[0], Effect::ChordGrow { group_id, by: 1 });

    let several = group([s("add", [1, 2]), group([s("add", [3, 4]), chord([s0("noop")], s0("xsum"))])]);
    let mut outbox = Outbox::new();
    let added = desk.with(None, |sender| canvas::add_to_chord(&running, several, sender, &mut outbox));
    assert_eq!(added.unwrap().children.as_ref().map(Vec::len), Some(3));
    let group_id = running.headers.group.clone().unwrap();
    assert_eq!(outbox.effects[0], Effect::ChordGrow { group_id: group_id.clone(), by: 3 });
    let counted: Vec<_> = messages(&outbox)
        .into_iter()
        .filter(|message| message.headers.group.as_ref() == Some(&group_id))
        .collect();
    assert_eq!(counted.len(), 2, "the chord in it is counted when its body returns");

    let alone = request(&only_message(&desk.apply(s("add", [1, 1]), value!({}))));
    let refused =
        desk.with(None, |sender| canvas::add_to_chord(&alone, s0("noop"), sender, &mut Outbox::new()));
    assert_eq!(refused, Err(CanvasError::NotInChord { id: alone.id }));
}

#[test]
fn priority_is_inherited_only_when_the_setting_says_so() {
    for (setting, expected) in [("false", 0), ("true", 7)] {
        let desk = Desk::new().set("task_inherit_parent_priority", setting);
        let tasks = chain([s("add", [1, 1]), s("add", [2])]);
        let first = only_message(&desk.apply(tasks, value!({"priority": 7})));
        assert_eq!(first.properties.priority, Some(7));
        let next = only_message(&succeed(&desk, &request(&first), Value::Int(2)));
        assert_eq!(next.properties.priority, Some(expected), "{setting}");
    }
}

fn id_of(options: &celeriac::message::Map) -> String {
    options["task_id"].as_str().unwrap().to_owned()
}
