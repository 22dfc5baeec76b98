//! What every broker promises.

use std::collections::BTreeSet;

use celeriac::broker::{DeadLetter, DeadReason, Fate, Start};
use celeriac::message::Message;
use celeriac::testing::seam::{BrokerSeam, Delivered, Settle, TestConsumer};
use chrono::{TimeDelta, Utc};
use compat_tests::eventually_async;

use crate::place::{NEVER, Place, SOON, message, to, urgent};

promises! {
    what_is_published_waits_until_it_is_purged,
    messages_come_in_their_order_and_by_rank,
    an_exchange_leads_to_the_queues_bound_to_it,
    a_consumer_is_handed_what_it_has_room_for,
    a_consumer_is_handed_no_more_bytes_than_it_has_room_for,
    a_consumer_follows_the_queues_it_is_told,
    what_is_acknowledged_never_comes_again,
    what_is_acknowledged_as_it_comes_never_comes_again,
    what_is_requeued_comes_last_and_is_marked,
    what_is_restored_comes_next_and_is_marked,
    what_is_held_comes_to_nobody_else,
    what_is_parked_comes_when_it_is_due,
    what_a_dead_consumer_held_comes_back_marked,
    a_settlement_publishes_what_follows,
    a_settlement_holds_the_result_where_both_are_joined,
    what_is_given_up_is_kept_as_it_came,
    what_was_given_up_goes_back_or_away,
    a_sweep_leaves_alone_what_a_living_consumer_holds,
    what_cannot_be_read_is_handed_over_as_that,
    starts_are_counted_until_they_are_forgotten,
    a_mark_lets_a_chords_body_be_sent_once,
    who_listens_hears_its_routing_keys,
}

async fn ids(consumer: &TestConsumer, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(next(consumer).await.id().to_owned());
    }
    ids
}

async fn next(consumer: &TestConsumer) -> Delivered {
    consumer.next(SOON).await.expect("a message")
}

async fn publish(place: &Place, ids: &[&str]) {
    let messages: Vec<_> = ids.iter().map(|id| message(id, "q")).collect();
    place.app.broker().publish(&messages).await.unwrap();
}

async fn length(place: &Place) -> u64 {
    place.app.broker().length("q").await.unwrap()
}

async fn what_is_published_waits_until_it_is_purged(place: Place) {
    assert_eq!(length(&place).await, 0, "a queue that nobody knows is empty");
    publish(&place, &["1", "2"]).await;
    place.app.broker().publish(&[urgent("3", "q", 9), message("4", "other")]).await.unwrap();
    assert_eq!(length(&place).await, 3);
    assert_eq!(place.app.broker().purge("q").await.unwrap(), 3);
    assert_eq!(length(&place).await, 0);
    assert_eq!(place.app.broker().length("other").await.unwrap(), 1);
}

async fn messages_come_in_their_order_and_by_rank(place: Place) {
    let priorities = [0, 9, 3, 0, 9, 6];
    let messages: Vec<_> = priorities
        .iter()
        .enumerate()
        .map(|(place, priority)| urgent(&place.to_string(), "q", *priority))
        .collect();
    place.app.broker().publish(&messages).await.unwrap();
    let seam = BrokerSeam::of(&place.app);
    let mut expected: Vec<usize> = (0..priorities.len()).collect();
    expected.sort_by_key(|place| seam.rank(priorities[*place]));
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    let consumer = TestConsumer::open(&place.app, &["q"], 10);
    assert_eq!(ids(&consumer, priorities.len()).await, expected);
}

async fn an_exchange_leads_to_the_queues_bound_to_it(place: Place) {
    let broker = place.app.broker();
    broker.bind("direct", "direct", "key", "q").await.unwrap();
    broker.bind("topic", "topic", "a.*", "q").await.unwrap();
    broker.bind("topic", "topic", "a.b", "other").await.unwrap();
    broker.bind("topic", "topic", "#.b", "other").await.unwrap();
    let messages = [
        to("direct", "key", "1"),
        to("direct", "other", "nowhere"),
        to("nobody", "key", "nowhere"),
        to("topic", "a.b", "2"),
        to("topic", "a.c", "3"),
        to("topic", "c", "nowhere"),
    ];
    broker.publish(&messages).await.unwrap();
    let consumer = TestConsumer::open(&place.app, &["q"], 10);
    assert_eq!(ids(&consumer, 3).await, ["1", "2", "3"]);
    assert!(consumer.next(NEVER).await.is_none());
    assert_eq!(broker.length("other").await.unwrap(), 1, "bound twice, it gets one copy");
}

async fn a_consumer_is_handed_what_it_has_room_for(place: Place) {
    publish(&place, &["1", "2", "3"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 2);
    assert_eq!(ids(&consumer, 2).await, ["1", "2"]);
    assert!(consumer.next(NEVER).await.is_none());
    assert_eq!(length(&place).await, 1, "the third waits for whoever has room");
    consumer.make_room(1);
    assert_eq!(ids(&consumer, 1).await, ["3"]);
}

async fn a_consumer_is_handed_no_more_bytes_than_it_has_room_for(place: Place) {
    const SIZE: usize = 100_000;
    let large = |id: &str| Message { body: vec![b'x'; SIZE].into(), ..message(id, "q") };
    let messages: Vec<_> = (0..40).map(|number| large(&number.to_string())).collect();
    place.app.broker().publish(&messages).await.unwrap();
    let consumer = TestConsumer::open_within(&place.app, &["q"], 1000, 10 * SIZE);
    // A broker may only guess the size of the next ones from the ones before.
    assert_eq!(ids(&consumer, 10).await.last().unwrap(), "9");
    assert!(consumer.next(NEVER).await.is_none());
    assert_eq!(length(&place).await, 30, "they wait for whoever has room");
    let narrow = TestConsumer::open_within(&place.app, &["q"], 1000, 1);
    assert_eq!(ids(&narrow, 1).await, ["10"], "one that is larger than the room is taken");
    assert!(narrow.next(NEVER).await.is_none());
}

async fn a_consumer_follows_the_queues_it_is_told(place: Place) {
    let consumer = TestConsumer::open(&place.app, &["q"], 10);
    place.app.broker().publish(&[message("1", "other")]).await.unwrap();
    assert!(consumer.next(NEVER).await.is_none());
    consumer.set_queues(&["other"]);
    let delivered = next(&consumer).await;
    assert_eq!((delivered.id(), delivered.queue.as_str()), ("1", "other"));
    publish(&place, &["2"]).await;
    assert!(consumer.next(NEVER).await.is_none());
    assert_eq!(length(&place).await, 1);
}

async fn what_is_acknowledged_never_comes_again(place: Place) {
    publish(&place, &["1"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 10);
    let delivered = next(&consumer).await;
    assert!(!delivered.is_redelivered() && !delivered.was_parked);
    consumer.settle(delivered.serial, Settle::Ack, &[]).await.unwrap();
    consumer.leave().await.unwrap();
    let consumer = TestConsumer::open(&place.app, &["q"], 10);
    assert!(consumer.next(NEVER).await.is_none());
    assert_eq!(length(&place).await, 0);
}

async fn what_is_acknowledged_as_it_comes_never_comes_again(place: Place) {
    publish(&place, &["1"]).await;
    let consumer = TestConsumer::open_early(&place.app, &["q"], 10);
    next(&consumer).await;
    consumer.leave().await.unwrap();
    let consumer = TestConsumer::open(&place.app, &["q"], 10);
    assert!(consumer.next(NEVER).await.is_none());
    assert_eq!(length(&place).await, 0);
}

async fn what_is_requeued_comes_last_and_is_marked(place: Place) {
    publish(&place, &["1", "2"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 1);
    let delivered = next(&consumer).await;
    consumer.settle(delivered.serial, Settle::Requeue, &[]).await.unwrap();
    consumer.make_room(2);
    assert_eq!(ids(&consumer, 1).await, ["2"]);
    let again = next(&consumer).await;
    assert_eq!((again.id(), again.is_redelivered()), ("1", true));
}

async fn what_is_restored_comes_next_and_is_marked(place: Place) {
    publish(&place, &["1", "2", "3"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 2);
    let (first, second) = (next(&consumer).await, next(&consumer).await);
    // The last one first, so that their order is the old one.
    consumer.settle(second.serial, Settle::Restore, &[]).await.unwrap();
    consumer.settle(first.serial, Settle::Restore, &[]).await.unwrap();
    consumer.make_room(3);
    let again = next(&consumer).await;
    assert_eq!((again.id(), again.is_redelivered()), ("1", true));
    assert_eq!(ids(&consumer, 2).await, ["2", "3"]);
}

async fn what_is_held_comes_to_nobody_else(place: Place) {
    publish(&place, &["1"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 10);
    let delivered = next(&consumer).await;
    consumer.hold(delivered.serial);
    let other = TestConsumer::open(&place.app, &["q"], 10);
    assert!(other.next(NEVER).await.is_none());
    consumer.settle(delivered.serial, Settle::Ack, &[]).await.unwrap();
    consumer.leave().await.unwrap();
    assert!(other.next(NEVER).await.is_none(), "it can still be acknowledged");
}

async fn what_is_parked_comes_when_it_is_due(place: Place) {
    publish(&place, &["1"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 1);
    let delivered = next(&consumer).await;
    let due = Utc::now() + TimeDelta::milliseconds(1500);
    consumer.settle(delivered.serial, Settle::Park(due), &[]).await.unwrap();
    consumer.leave().await.unwrap();
    // Whoever consumes from the queue then is handed it.
    let other = TestConsumer::open(&place.app, &["q"], 1);
    let again = next(&other).await;
    assert!(Utc::now() + TimeDelta::milliseconds(100) >= due, "it came too early");
    assert_eq!((again.id(), again.was_parked), ("1", true));
    other.settle(again.serial, Settle::Ack, &[]).await.unwrap();
    other.leave().await.unwrap();
    assert_eq!(length(&place).await, 0);
}

async fn what_a_dead_consumer_held_comes_back_marked(place: Place) {
    publish(&place, &["1", "2"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 2);
    assert_eq!(ids(&consumer, 2).await, ["1", "2"]);
    consumer.die().await;
    let back = || async {
        place.app.recover().await.unwrap();
        length(&place).await == 2
    };
    eventually_async("its messages are back", SOON * 6, back).await;
    let other = TestConsumer::open(&place.app, &["q"], 2);
    let back = [next(&other).await, next(&other).await];
    assert_eq!(BTreeSet::from(["1", "2"]), back.iter().map(Delivered::id).collect());
    assert!(back.iter().all(Delivered::is_redelivered));
}

async fn a_settlement_publishes_what_follows(place: Place) {
    publish(&place, &["1"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 1);
    let delivered = next(&consumer).await;
    let follow = [message("2", "q"), message("3", "other")];
    consumer.settle(delivered.serial, Settle::Ack, &follow).await.unwrap();
    assert_eq!((length(&place).await, place.app.broker().length("other").await.unwrap()), (1, 1));
    consumer.make_room(1);
    assert_eq!(ids(&consumer, 1).await, ["2"]);
}

async fn a_settlement_holds_the_result_where_both_are_joined(place: Place) {
    use celeriac::backend::{TaskMeta, TaskState};

    if !BrokerSeam::of(&place.app).joins(&place.app) {
        return;
    }
    publish(&place, &["1"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 1);
    let delivered = next(&consumer).await;
    let meta = TaskMeta::new("1", TaskState::Success, 7.into());
    consumer.settle_with_result(&place.app, delivered.serial, &meta).await.unwrap();
    let stored = place.app.backend().unwrap().fetch("1").await.unwrap().unwrap();
    assert_eq!((stored.status, stored.result), (TaskState::Success, 7.into()));
}

async fn what_was_given_up_goes_back_or_away(place: Place) {
    let seam = BrokerSeam::of(&place.app);
    for id in ["1", "2", "3", "4"] {
        seam.bury(&message(id, "q"), "q").await.unwrap();
    }
    let letters = place.dead_letters();
    let ids = async || {
        let all = letters.list().await.unwrap();
        all.iter().map(|letter| letter.task().0.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(
        (ids().await, letters.count().await.unwrap()),
        (["4", "3", "2", "1"].map(str::to_owned).to_vec(), 4)
    );
    let (mut seen, mut progress) = (Vec::new(), 0);
    let decide = |letter: &DeadLetter| {
        let id = letter.task().0.unwrap();
        seen.push(id.clone());
        match id.as_str() {
            "1" | "3" => Fate::Requeue,
            "2" => Fate::Drop,
            _ => Fate::Keep,
        }
    };
    assert_eq!(letters.sift(decide, |decided| progress += decided).await.unwrap(), 3);
    assert_eq!((seen, progress), (["1", "2", "3", "4"].map(str::to_owned).to_vec(), 4));
    assert_eq!(ids().await, ["4"]);
    let consumer = TestConsumer::open(&place.app, &["q"], 3);
    for id in ["1", "3"] {
        let back = next(&consumer).await;
        assert_eq!((back.id(), back.is_redelivered()), (id, false), "as it was delivered, in the old order");
        consumer.settle(back.serial, Settle::Ack, &[]).await.unwrap();
    }
    let last = letters.list().await.unwrap().remove(0);
    assert!(letters.requeue(&last.id).await.unwrap());
    assert_eq!(next(&consumer).await.id(), "4");
    assert!(!letters.requeue(&last.id).await.unwrap() && !letters.drop(&last.id).await.unwrap());
    seam.bury(&message("5", "q"), "q").await.unwrap();
    let last = letters.list().await.unwrap().remove(0);
    assert!(letters.drop(&last.id).await.unwrap());
    assert_eq!(letters.count().await.unwrap(), 0);
    let place = place.again(|config| config.celeriac_dead_letter_queue = None);
    assert!(place.app.broker().dead_letters().is_none());
}

async fn a_sweep_leaves_alone_what_a_living_consumer_holds(place: Place) {
    publish(&place, &["1"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 1);
    let delivered = next(&consumer).await;
    let swept = place.app.recover().await.unwrap();
    assert_eq!((swept.restored, swept.refused), (0, Vec::new()));
    assert_eq!(length(&place).await, 0);
    consumer.settle(delivered.serial, Settle::Ack, &[]).await.unwrap();
}

async fn what_is_given_up_is_kept_as_it_came(place: Place) {
    place.inject("q", b"no message").await;
    let consumer = TestConsumer::open(&place.app, &["q"], 1);
    let delivered = next(&consumer).await;
    consumer.settle(delivered.serial, Settle::Dead(DeadReason::Malformed), &[]).await.unwrap();
    let seam = BrokerSeam::of(&place.app);
    seam.bury(&message("2", "q"), "q").await.unwrap();
    let mut letters = place.dead_letters().list().await.unwrap();
    letters.reverse();
    assert_eq!(letters.len(), 2);
    assert_eq!((letters[0].message(), letters[0].reason), (b"no message".to_vec(), DeadReason::Malformed));
    assert_eq!((letters[0].list.as_str(), letters[0].deliveries), ("q", 1));
    let kept = celeriac::message::envelope::decode(&letters[1].message()).unwrap();
    assert_eq!(kept.headers.id.as_deref(), Some("2"));
    consumer.leave().await.unwrap();
    assert_eq!(length(&place).await, 0);

    let place = place.again(|config| config.celeriac_dead_letter_queue = None);
    place.inject("q", b"no message").await;
    let consumer = TestConsumer::open(&place.app, &["q"], 1);
    let delivered = next(&consumer).await;
    consumer.settle(delivered.serial, Settle::Dead(DeadReason::Malformed), &[]).await.unwrap();
    consumer.leave().await.unwrap();
    assert_eq!(length(&place).await, 0, "without dead letters it is dropped");
}

async fn what_cannot_be_read_is_handed_over_as_that(place: Place) {
    place.inject("q", b"{\"body\": 7}").await;
    publish(&place, &["2"]).await;
    let consumer = TestConsumer::open(&place.app, &["q"], 2);
    assert!(next(&consumer).await.message.is_err());
    assert_eq!(ids(&consumer, 1).await, ["2"], "the others go on");
}

async fn starts_are_counted_until_they_are_forgotten(place: Place) {
    let seam = BrokerSeam::of(&place.app);
    let names = |starts: Vec<Start>| starts.into_iter().map(|start| start.hostname).collect::<Vec<_>>();
    let Some(first) = seam.count_start("tag", "a@h").await.unwrap() else {
        assert!(seam.count_start("tag", "a@h").await.unwrap().is_none(), "who keeps none never does");
        seam.forget_starts("tag").await.unwrap();
        return;
    };
    assert_eq!(names(first), ["a@h"]);
    assert_eq!(names(seam.count_start("tag", "b@h").await.unwrap().unwrap()), ["a@h", "b@h"]);
    assert_eq!(names(seam.count_start("other", "c@h").await.unwrap().unwrap()), ["c@h"]);
    seam.forget_starts("tag").await.unwrap();
    assert_eq!(names(seam.count_start("tag", "d@h").await.unwrap().unwrap()), ["d@h"]);
}

async fn a_mark_lets_a_chords_body_be_sent_once(place: Place) {
    let seam = BrokerSeam::of(&place.app);
    let body = [message("body", "q")];
    let Some(sent) = seam.publish_once("g", "tag", &body).await.unwrap() else { return };
    assert!(sent);
    assert_eq!(seam.publish_once("g", "tag", &body).await.unwrap(), Some(false));
    assert_eq!(seam.publish_once("other", "tag", &body).await.unwrap(), Some(true));
    assert_eq!(length(&place).await, 2);
}

async fn who_listens_hears_its_routing_keys(place: Place) {
    let exchange = place.app.config().event_exchange.clone();
    let seam = BrokerSeam::of(&place.app);
    let mut all = seam.subscribe(&exchange, "#").await;
    let mut tasks = seam.subscribe(&exchange, "task.#").await;
    let messages = [to(&exchange, "worker.online", "1"), to(&exchange, "task.multi", "2")];
    place.app.broker().publish(&messages).await.unwrap();
    let id = |message: celeriac::message::Message| message.headers.id.unwrap();
    assert_eq!(id(tasks.next().await.unwrap()), "2");
    assert_eq!([id(all.next().await.unwrap()), id(all.next().await.unwrap())], ["1", "2"]);
}
