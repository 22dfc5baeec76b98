//! Claims, deliveries and cancellations, with many hands at once.

mod support;

use std::collections::HashSet;

use chrono::{Duration, Utc};
use companion::{
    reminders::{self, Canceled, Delivery, Requeued, cancel, claim_due, deliver},
    store::ReminderStatus,
};
use support::{On, Setup, ago};
use uuid::Uuid;

on_both! {
    scans_at_once_hand_each_due_reminder_out_once
    a_claim_ends_so_that_nothing_is_lost
    only_due_and_scheduled_reminders_are_claimed
    deliveries_at_once_send_once
    a_delivery_says_why_nothing_was_sent
    a_canceled_reminder_stays_canceled
    failed_attempts_are_repeated_and_then_given_up
    the_file_never_hides_that_other_channels_fail
    what_a_dead_worker_left_is_taken_over_without_a_second_line
    an_operator_queues_chosen_reminders_again
    the_metrics_of_a_day_are_computed_from_what_users_did
}

async fn scans_at_once_hand_each_due_reminder_out_once(on: On) {
    let setup = Setup::new(on).await;
    for number in 0..200 {
        setup.reminder(&format!("reminder {number}"), ago(60)).await;
    }
    let scans: Vec<_> = (0..8)
        .map(|_| {
            let companion = setup.another(&[]);
            tokio::spawn(async move {
                let mut claimed = Vec::new();
                loop {
                    let batch = claim_due(&companion, Utc::now(), 7).await.expect("claim");
                    if batch.is_empty() {
                        return claimed;
                    }
                    claimed.extend(batch.into_iter().map(|due| due.id));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for scan in scans {
        all.extend(scan.await.expect("no panic"));
    }
    assert_eq!(all.len(), 200);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 200);
}

async fn a_claim_ends_so_that_nothing_is_lost(on: On) {
    let setup = Setup::new(on).await;
    let id = setup.reminder("x", ago(60)).await;
    let store = &setup.companion.store;
    let claimed = store.claim_due_reminders(Utc::now(), ago(1), 10).await.expect("claim");
    assert_eq!(claimed.len(), 1, "a claim whose time is over");
    assert_eq!(claim_due(&setup.companion, Utc::now(), 10).await.expect("claim").len(), 1);
    assert_eq!(claim_due(&setup.companion, Utc::now(), 10).await.expect("claim").len(), 0);
    store.release_claim(id).await.expect("release");
    assert_eq!(claim_due(&setup.companion, Utc::now(), 10).await.expect("claim").len(), 1);
}

async fn only_due_and_scheduled_reminders_are_claimed(on: On) {
    let setup = Setup::new(on).await;
    let user = setup.demo_user().await;
    let later = setup.reminder("later", Utc::now() + Duration::hours(1)).await;
    let canceled = setup.reminder("canceled", ago(1)).await;
    cancel(&setup.companion, &user, canceled).await.expect("cancel");
    assert!(claim_due(&setup.companion, Utc::now(), 10).await.expect("claim").is_empty());
    let in_two_hours = Utc::now() + Duration::hours(2);
    let claimed = claim_due(&setup.companion, in_two_hours, 10).await.expect("claim");
    assert_eq!(claimed.iter().map(|due| due.id).collect::<Vec<_>>(), [later]);
}

async fn deliveries_at_once_send_once(on: On) {
    let setup = Setup::new(on).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(setup.reminder(&format!("reminder {number}"), ago(5)).await);
    }
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        let companion = setup.another(&[]);
        for id in ids.clone() {
            let companion = companion.clone();
            deliveries.push(tokio::spawn(async move {
                deliver(&companion, id, Utc::now(), 0).await.expect("deliver")
            }));
        }
    }
    let mut sent = 0;
    for delivery in deliveries {
        match delivery.await.expect("no panic") {
            Delivery::Sent => sent += 1,
            Delivery::NotScheduled(ReminderStatus::Sent) | Delivery::Busy { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, 20);
    let outbox = setup.outbox();
    assert_eq!(outbox.len(), 20);
    assert_eq!(outbox.into_iter().collect::<HashSet<_>>(), ids.into_iter().collect());
    let counted = setup.companion.metrics.snapshot().await.expect("metrics");
    assert_eq!(counted.counters["reminder_sent"], 20.0);
    assert_eq!(counted.counters["reminder_latency_count"], 20.0);
    assert_eq!(counted.histogram[0], ("le_30s", 20.0));
    assert_eq!(counted.histogram[5], ("le_inf", 20.0));
}

async fn a_delivery_says_why_nothing_was_sent(on: On) {
    let setup = Setup::new(on).await;
    let due = Utc::now() + Duration::hours(1);
    let later = setup.reminder("later", due).await;
    let now = Utc::now();
    assert_eq!(deliver(&setup.companion, Uuid::new_v4(), now, 0).await.expect("deliver"), Delivery::NotFound);
    match deliver(&setup.companion, later, now, 0).await.expect("deliver") {
        Delivery::NotDue { due: said } => assert_eq!(said.timestamp_micros(), due.timestamp_micros()),
        other => panic!("{other:?}"),
    }
    let in_two_hours = now + Duration::hours(2);
    assert_eq!(deliver(&setup.companion, later, in_two_hours, 0).await.expect("deliver"), Delivery::Sent);
    let again = deliver(&setup.companion, later, in_two_hours, 0).await.expect("deliver");
    assert_eq!(again, Delivery::NotScheduled(ReminderStatus::Sent));
    assert_eq!(setup.outbox(), [later]);
}

async fn a_canceled_reminder_stays_canceled(on: On) {
    let setup = Setup::new(on).await;
    let store = &setup.companion.store;
    let user = setup.demo_user().await;
    store.insert_user("other@example.com", None).await.expect("a user");
    let other = store.user_by_email("other@example.com").await.expect("database").expect("the user");
    let id = setup.reminder("x", ago(1)).await;
    let canceling = async |user, id| cancel(&setup.companion, user, id).await.expect("cancel");
    assert_eq!(canceling(&other, id).await, Canceled::NotFound);
    assert_eq!(canceling(&user, Uuid::new_v4()).await, Canceled::NotFound);
    assert_eq!(canceling(&user, id).await, Canceled::Canceled);
    assert_eq!(canceling(&user, id).await, Canceled::Noop(ReminderStatus::Canceled));
    let delivered = deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver");
    assert_eq!(delivered, Delivery::NotScheduled(ReminderStatus::Canceled));
    assert!(setup.outbox().is_empty());
    let sent = setup.reminder("y", ago(1)).await;
    deliver(&setup.companion, sent, Utc::now(), 0).await.expect("deliver");
    assert_eq!(canceling(&user, sent).await, Canceled::Noop(ReminderStatus::Sent));
}

async fn failed_attempts_are_repeated_and_then_given_up(on: On) {
    // Nothing listens on port 1.
    let setup = Setup::with(on, &[("NOTIFY_FILE", ""), ("EXPO_PUSH_URL", "http://127.0.0.1:1/push")]).await;
    let user = setup.demo_user().await;
    setup.companion.store.set_push_token(user.id, Some("ExponentPushToken[x]")).await.expect("token");
    let id = setup.reminder("x", ago(1)).await;
    for (attempt, seconds) in [(1, 60), (2, 120), (3, 240), (4, 480)] {
        match deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver") {
            Delivery::Retry { attempt: said, after, reason } => {
                assert_eq!((said, after.as_secs()), (attempt, seconds));
                assert!(reason.contains("expo is not available: cannot connect"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert!(
            claim_due(&setup.companion, Utc::now(), 10).await.expect("claim").is_empty(),
            "its retry is queued"
        );
    }
    assert!(matches!(
        deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver"),
        Delivery::Failed { .. }
    ));
    let reminder = setup.companion.store.reminder(id).await.expect("database").expect("the reminder");
    assert_eq!(reminder.status, ReminderStatus::Error);
    assert_eq!(setup.companion.store.failed_jobs().await.expect("database"), 1);
    let again = deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver");
    assert_eq!(again, Delivery::NotScheduled(ReminderStatus::Error));
    let counted = setup.companion.metrics.snapshot().await.expect("metrics");
    assert_eq!((counted.counters["reminder_error"], counted.counters["reminder_sent"]), (1.0, 0.0));
}

async fn the_file_never_hides_that_other_channels_fail(on: On) {
    let dead = [("EXPO_PUSH_URL", "http://127.0.0.1:1/push"), ("RESEND_BASE_URL", "http://127.0.0.1:1")];
    let resend = [("RESEND_API_KEY", "re"), ("RESEND_FROM_EMAIL", "me@example.com")];
    let setup = Setup::with(on, &[dead, resend].concat()).await;
    let user = setup.demo_user().await;
    let id = setup.reminder("x", ago(1)).await;
    // Without a push token only Resend is tried.
    for token in [None, Some("ExponentPushToken[x]")] {
        setup.companion.store.set_push_token(user.id, token).await.expect("token");
        match deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver") {
            Delivery::Retry { reason, .. } => {
                assert!(reason.contains("resend is not available"), "{reason}");
                assert_eq!(reason.contains("expo is not available"), token.is_some(), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(setup.outbox(), [id], "the file keeps a copy, once");
    let pushing = setup.another(&dead[..1]);
    setup.companion.store.set_push_token(user.id, None).await.expect("token");
    match deliver(&pushing, setup.reminder("y", ago(1)).await, Utc::now(), 0).await.expect("deliver") {
        Delivery::Retry { reason, .. } => assert!(reason.contains("no configured channel"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

async fn what_a_dead_worker_left_is_taken_over_without_a_second_line(on: On) {
    let setup = Setup::new(on).await;
    let store = &setup.companion.store;
    let user = setup.demo_user().await;
    store.set_push_token(user.id, Some("ExponentPushToken[x]")).await.expect("token");
    let id = setup.reminder("x", ago(60)).await;
    // A worker took the right to deliver, began to send, wrote the line, and died. Its right is over.
    let (token, now) = (Uuid::new_v4(), Utc::now());
    let begun = store.begin_delivery(id, token, now + Duration::milliseconds(300), now).await.expect("begin");
    assert!(begun.is_some());
    assert!(store.begin_channel(id, token, "file", now).await.expect("begin"));
    std::fs::write(setup.folder.path().join("outbox.jsonl"), format!("{{\"reminder_id\":\"{id}\"}}\n"))
        .expect("write");
    let busy = deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver");
    assert!(matches!(busy, Delivery::Busy { .. }), "{busy:?}");
    let taken_over =
        compat_tests::eventually_async("the dead worker's right to end", compat_tests::secs(5), async || {
            match deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver") {
                Delivery::Busy { .. } => None,
                other => Some(other),
            }
        })
        .await;
    assert_eq!(taken_over, Delivery::Sent);
    assert_eq!(setup.outbox(), [id]);
    assert!(!store.mark_sent(id, token, now).await.expect("database"), "the dead worker wakes up too late");

    // By Expo alone nobody can know: it is not sent again, and the operator is told.
    let pushing = setup.another(&[("EXPO_PUSH_URL", "http://127.0.0.1:1/push"), ("NOTIFY_FILE", "")]);
    let id = setup.reminder("y", ago(60)).await;
    store.begin_delivery(id, token, now, Utc::now()).await.expect("begin").expect("due");
    assert!(store.begin_channel(id, token, "expo", now - Duration::hours(1)).await.expect("begin"));
    match deliver(&pushing, id, Utc::now(), 0).await.expect("deliver") {
        Delivery::Failed { reason } => assert!(reason.contains("may have arrived"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.failed_jobs().await.expect("database"), 1);
}

async fn an_operator_queues_chosen_reminders_again(on: On) {
    let setup = Setup::with(on, &[("NOTIFY_FILE", "")]).await;
    let id = setup.reminder("x", ago(1)).await;
    // No channel reaches the user, and four attempts are known already.
    let failed = deliver(&setup.companion, id, Utc::now(), 4).await.expect("deliver");
    assert!(matches!(failed, Delivery::Failed { .. }), "{failed:?}");
    let with_outbox = setup.another(&[]);
    match reminders::requeue(&with_outbox, id).await.expect("requeue") {
        Requeued::Ready(due) => assert_eq!(due.id, id),
        other => panic!("{other:?}"),
    }
    assert!(
        claim_due(&with_outbox, Utc::now(), 10).await.expect("claim").is_empty(),
        "its delivery is queued"
    );
    assert_eq!(deliver(&with_outbox, id, Utc::now(), 0).await.expect("deliver"), Delivery::Sent);
    for (id, expected) in [(id, "already sent"), (Uuid::new_v4(), "not found")] {
        match reminders::requeue(&with_outbox, id).await.expect("requeue") {
            Requeued::Skipped(reason) => assert_eq!(reason, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(setup.outbox(), [id]);
}

async fn the_metrics_of_a_day_are_computed_from_what_users_did(on: On) {
    let setup = Setup::new(on).await;
    let user = setup.demo_user().await;
    let today = Utc::now().date_naive();
    let compute = async |date| {
        companion::analytics::compute_daily_metrics(&setup.companion, date).await.expect("metrics")
    };
    let quiet = compute(today).await;
    assert_eq!((quiet.cohort_size, quiet.active_users, quiet.retention_rate_day1), (1, 0, None));
    for _ in 0..3 {
        let properties = serde_json::json!({});
        setup.companion.store.insert_event(user.id, "chat_message", properties).await.expect("event");
    }
    assert_eq!(compute(today).await.active_users, 1);
    let kept = setup.companion.store.daily_metrics(today).await.expect("database").expect("a row");
    assert_eq!((kept.cohort_size, kept.active_users), (1, 1));
}
