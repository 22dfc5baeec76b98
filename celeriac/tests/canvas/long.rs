//! Chains so long that whatever recursed along them would overflow the stack.

use celeriac::canvas::{self, Effect, Ending, ErrbackStyle, Outbox, chain, chord};
use celeriac::message::{Signature, Value};
use celeriac::value;

use crate::desk::{Desk, body, messages, only_message, request, s, s0};

const STEPS: usize = 30_000;

fn long_chain() -> Signature {
    chain((0..STEPS).map(|_| s0("noop")))
}

#[test]
fn a_chain_of_thousands_of_steps_is_applied_gone_on_with_and_ended() {
    let desk = Desk::new();
    let (result, outbox) = desk.try_apply(long_chain(), value!({})).unwrap();
    let parents = std::iter::successors(result.parent.as_deref(), |result| result.parent.as_deref());
    assert_eq!(parents.count(), STEPS - 1);
    let first = request(&only_message(&outbox));
    assert_eq!(first.body.embed.chain.len(), STEPS - 1);

    let mut outbox = Outbox::new();
    desk.with(None, |sender| canvas::on_success(&first, &Value::Null, sender, &mut outbox)).unwrap();
    assert_eq!(body(&only_message(&outbox)).embed.chain.len(), STEPS - 2);

    let mut outbox = Outbox::new();
    let style = |_: &Signature| ErrbackStyle::Message;
    desk.with(None, |sender| {
        canvas::never_completes(&first, &Ending::revoked("revoked"), &style, sender, &mut outbox)
    });
    let stored = outbox.effects.iter().filter(|effect| matches!(effect, Effect::Store(_))).count();
    assert_eq!(stored, STEPS - 1);
}

#[test]
fn a_link_that_is_a_chain_of_thousands_of_steps_is_applied() {
    let desk = Desk::new();
    let mut link = Signature::new("celery.chain");
    link.subtask_type = Some("chain".to_owned());
    let step = s0("noop").to_value();
    let link = link.kwarg("tasks", vec![step; STEPS]);
    let first = request(&only_message(&desk.apply(s("add", [1, 1]).link(link), value!({}))));
    let mut outbox = Outbox::new();
    desk.with(None, |sender| canvas::on_success(&first, &Value::Int(2), sender, &mut outbox)).unwrap();
    assert_eq!(body(&only_message(&outbox)).embed.chain.len(), STEPS - 1);
}

#[test]
fn a_long_chain_in_a_chord_is_applied() {
    let desk = Desk::new();
    let (result, outbox) =
        desk.try_apply(chord([long_chain(), s0("noop")], long_chain()), value!({})).unwrap();
    assert_eq!(messages(&outbox).len(), 2);
    assert!(result.parent.is_some());
}
