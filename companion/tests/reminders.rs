//! Claims, deliveries and cancellations, with many hands at once.

mod support;

use std::collections::HashSet;

use chrono::{Duration, SubsecRound, Utc};
use companion::{
    reminders::{self, Canceled, Closed, Delivery, Requeued, cancel, deliver, queue_due},
    store::{Begun, ChannelDelivery, ChannelStatus, Ended, Outcome, ReminderStatus, Store, Wanted},
};
use support::{On, Setup, ago};
use uuid::Uuid;

on_both! {
    scans_at_once_queue_each_due_reminder_once
    a_reminder_and_its_message_come_and_go_together
    only_due_and_scheduled_reminders_are_queued
    a_reminder_that_was_moved_is_queued_by_the_scan
    deliveries_at_once_send_once
    a_delivery_says_why_nothing_was_sent
    a_canceled_reminder_stays_canceled
    a_cancellation_waits_for_a_sending
    failed_attempts_are_repeated_and_then_given_up
    the_file_never_hides_that_other_channels_fail
    what_a_dead_worker_left_is_taken_over_without_a_second_line
    an_operator_queues_chosen_reminders_again
    an_engineer_decides_what_may_have_been_delivered
    a_failed_job_is_closed_when_its_reminder_is_sent
    the_metrics_of_a_day_are_computed_from_what_users_did
}

async fn scans_at_once_queue_each_due_reminder_once(on: On) {
    let setup = Setup::new(on).await;
    for number in 0..200 {
        setup.reminder(&format!("reminder {number}"), ago(60)).await;
    }
    // As the previous release writes them: without a message.
    setup.forget_messages().await;
    let scans: Vec<_> = (0..8)
        .map(|_| {
            let companion = setup.another(&[]);
            tokio::spawn(async move { queue_due(&companion, Utc::now(), None).await.expect("scan") })
        })
        .collect();
    let mut queued = 0;
    for scan in scans {
        queued += scan.await.expect("no panic");
    }
    assert_eq!(queued, 200);
    assert_eq!(setup.messages().await.len(), 200);
    assert_eq!(queue_due(&setup.companion, Utc::now(), None).await.expect("scan"), 0);
}

async fn a_reminder_and_its_message_come_and_go_together(on: On) {
    let setup = Setup::new(on).await;
    let due = (Utc::now() + Duration::hours(1)).trunc_subsecs(6);
    let id = setup.reminder("x", due).await;
    let message = setup.messages().await.pop().expect("a message");
    assert_eq!(message.key, format!("reminder/{}", id.simple()));
    assert_eq!(message.eta, Some(due));
    assert_eq!(message.publish_at, due - Duration::minutes(2), "ahead of time, not before");
    let user = setup.demo_user().await;
    assert_eq!(cancel(&setup.companion, &user, id).await.expect("cancel"), Canceled::Canceled);
    assert!(setup.messages().await.is_empty());
    let sent = setup.reminder("y", ago(1)).await;
    assert_eq!(setup.messages().await.len(), 1);
    assert_eq!(deliver(&setup.companion, sent, Utc::now(), 0).await.expect("deliver"), Delivery::Sent);
    assert!(setup.messages().await.is_empty(), "nothing is left to do");
}

async fn only_due_and_scheduled_reminders_are_queued(on: On) {
    let setup = Setup::new(on).await;
    let user = setup.demo_user().await;
    let later = setup.reminder("later", Utc::now() + Duration::hours(1)).await;
    let soon = setup.reminder("soon", Utc::now() + Duration::minutes(1)).await;
    let canceled = setup.reminder("canceled", ago(1)).await;
    let due = setup.reminder("due", ago(1)).await;
    cancel(&setup.companion, &user, canceled).await.expect("cancel");
    setup.forget_messages().await;
    let scan = async |at, as_of| queue_due(&setup.companion, at, as_of).await.expect("scan");
    assert_eq!(scan(Utc::now(), None).await, 1, "those that will be due are not counted");
    let queued: HashSet<String> = setup.messages().await.into_iter().map(|message| message.key).collect();
    let key = |id: Uuid| format!("reminder/{}", id.simple());
    assert_eq!(queued, HashSet::from([key(due), key(soon)]), "what is due soon is queued ahead");
    let in_two_hours = Utc::now() + Duration::hours(2);
    assert_eq!(scan(in_two_hours, Some(&in_two_hours.to_rfc3339())).await, 1);
    assert!(setup.messages().await.iter().any(|message| message.key == key(later) && message.eta.is_none()));
}

async fn a_reminder_that_was_moved_is_queued_by_the_scan(on: On) {
    let setup = Setup::new(on).await;
    let id = setup.reminder("x", Utc::now() + Duration::hours(1)).await;
    setup.sql("UPDATE reminders SET utc_ts = created_at, run_ts = created_at").await;
    assert_eq!(queue_due(&setup.companion, Utc::now(), None).await.expect("scan"), 1);
    assert_eq!(queue_due(&setup.companion, Utc::now(), None).await.expect("scan"), 0);
    let messages = setup.messages().await;
    assert!(messages.len() == 1 && messages[0].publish_at <= Utc::now(), "{messages:?}");
    assert_eq!(deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver"), Delivery::Sent);
}

/// Begins a delivery by these channels, as a worker does.
async fn begin(store: &Store, id: Uuid, lease: std::time::Duration, channels: &[&str]) -> Option<Begun> {
    let wanted = Wanted { reminder: id, token: Uuid::new_v4(), due_at: Utc::now(), lease };
    let plan = |_: &Begun| {
        let sending = |channel: &&str| ChannelDelivery {
            channel: (*channel).to_owned(),
            status: ChannelStatus::Sending,
        };
        channels.iter().map(sending).collect()
    };
    store.begin_deliveries(&[wanted], &plan).await.expect("begin").pop()
}

async fn a_cancellation_waits_for_a_sending(on: On) {
    let setup = Setup::new(on).await;
    let store = &setup.companion.store;
    let user = setup.demo_user().await;
    let id = setup.reminder("x", ago(1)).await;
    let begun = begin(store, id, std::time::Duration::from_secs(30), &["file"]).await.expect("due");
    let (companion, canceling) = (setup.another(&[]), user.clone());
    let mut canceled = tokio::spawn(async move { cancel(&companion, &canceling, id).await.expect("cancel") });
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(300), &mut canceled).await.is_err(),
        "it is being sent"
    );
    let ended = Ended {
        reminder: id,
        token: begun.delivery_token,
        channels: Vec::new(),
        outcome: Some(Outcome::Sent),
    };
    assert_eq!(store.end_deliveries(&[ended]).await.expect("end").0, [id]);
    assert_eq!(canceled.await.expect("no panic"), Canceled::Noop(ReminderStatus::Sent));
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
        let scanned = queue_due(&setup.companion, Utc::now(), None).await.expect("scan");
        assert_eq!(scanned, 0, "its retry is queued");
    }
    assert!(matches!(
        deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver"),
        Delivery::Failed { .. }
    ));
    let reminder = setup.companion.store.reminder(id).await.expect("database").expect("the reminder");
    assert_eq!(reminder.status, ReminderStatus::Error);
    assert_eq!(setup.companion.store.count_failed_jobs().await.expect("database"), 1);
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
    // A worker took the right to deliver, began to send, wrote the line, and died. Its right is over soon.
    let begun = begin(store, id, std::time::Duration::from_millis(300), &["file"]).await.expect("due");
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
    let ended = Ended {
        reminder: id,
        token: begun.delivery_token,
        channels: Vec::new(),
        outcome: Some(Outcome::Sent),
    };
    let (recorded, _) = store.end_deliveries(&[ended]).await.expect("database");
    assert!(recorded.is_empty(), "the dead worker wakes up too late");
}

/// A push message was under way when its worker died.
async fn left_within_a_push(setup: &Setup, pushing: &companion::Companion) -> Uuid {
    let user = setup.demo_user().await;
    setup.companion.store.set_push_token(user.id, Some("ExponentPushToken[x]")).await.expect("token");
    let id = setup.reminder("y", ago(60)).await;
    begin(&setup.companion.store, id, std::time::Duration::ZERO, &["expo"]).await.expect("due");
    match deliver(pushing, id, Utc::now(), 0).await.expect("deliver") {
        Delivery::Failed { reason } => assert!(reason.contains("may have arrived"), "{reason}"),
        other => panic!("{other:?}"),
    }
    id
}

async fn an_engineer_decides_what_may_have_been_delivered(on: On) {
    // By Expo alone nobody can know: it is not sent again, and an engineer decides. Nothing listens on port 1.
    let setup = Setup::with(on, &[("NOTIFY_FILE", ""), ("EXPO_PUSH_URL", "http://127.0.0.1:1/push")]).await;
    let (companion, store) = (&setup.companion, &setup.companion.store);
    let status = async |id| store.reminder(id).await.expect("database").expect("the reminder").status;
    let (one, two) =
        (left_within_a_push(&setup, companion).await, left_within_a_push(&setup, companion).await);
    let uncertain = store.uncertain_deliveries(10).await.expect("database");
    assert_eq!(uncertain.iter().map(|delivery| delivery.reminder_id).collect::<Vec<_>>(), [one, two]);
    assert!(uncertain.iter().all(|delivery| delivery.channel == "expo"));
    assert_eq!(store.count_failed_jobs().await.expect("database"), 2);
    assert_eq!(status(one).await, ReminderStatus::Error);

    assert!(reminders::accept_uncertain(companion, one).await.expect("accept"));
    assert!(!reminders::accept_uncertain(companion, one).await.expect("accept"), "decided already");
    assert_eq!(status(one).await, ReminderStatus::Sent);
    assert_eq!(store.count_failed_jobs().await.expect("database"), 1);

    let resent = reminders::resend_uncertain(companion, two).await.expect("resend");
    assert!(matches!(resent, Requeued::Queued(_)), "{resent:?}");
    assert!(store.uncertain_deliveries(10).await.expect("database").is_empty());
    assert_eq!(status(two).await, ReminderStatus::Scheduled);
    match deliver(companion, two, Utc::now(), 0).await.expect("deliver") {
        Delivery::Retry { reason, .. } => assert!(reason.contains("cannot connect"), "sent again: {reason}"),
        other => panic!("{other:?}"),
    }
}

async fn a_failed_job_is_closed_when_its_reminder_is_sent(on: On) {
    let setup = Setup::with(on, &[("NOTIFY_FILE", "")]).await;
    let (companion, store) = (&setup.companion, &setup.companion.store);
    let id = setup.reminder("x", ago(1)).await;
    let fail = async || {
        let failed = deliver(companion, id, Utc::now(), 4).await.expect("deliver");
        assert!(matches!(failed, Delivery::Failed { .. }), "{failed:?}");
    };
    fail().await;
    let job = store.failed_jobs(false, 10).await.expect("database").pop().expect("a job");
    assert_eq!(job.reminder(), Some(id));
    let requeue = async || reminders::requeue_failed_job(companion, job.id).await.expect("requeue");
    assert!(matches!(requeue().await, Closed::Queued(_)));
    assert_eq!(store.count_failed_jobs().await.expect("database"), 1, "nothing was sent yet");
    fail().await;
    let jobs = store.failed_jobs(false, 10).await.expect("database");
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [job.id], "it is still the same job");
    assert_eq!(jobs[0].attempts, 10);

    assert!(matches!(requeue().await, Closed::Queued(_)));
    let sent = deliver(&setup.another(&[]), id, Utc::now(), 0).await.expect("deliver");
    assert_eq!(sent, Delivery::Sent);
    assert_eq!(store.count_failed_jobs().await.expect("database"), 0);
    let closed = store.failed_job(job.id).await.expect("database").expect("the row stays");
    assert_eq!(closed.resolution.as_deref(), Some("sent"));
    assert!(matches!(requeue().await, Closed::Skipped(_)));
}

async fn an_operator_queues_chosen_reminders_again(on: On) {
    let setup = Setup::with(on, &[("NOTIFY_FILE", "")]).await;
    let id = setup.reminder("x", ago(1)).await;
    // No channel reaches the user, and four attempts are known already.
    let failed = deliver(&setup.companion, id, Utc::now(), 4).await.expect("deliver");
    assert!(matches!(failed, Delivery::Failed { .. }), "{failed:?}");
    let with_outbox = setup.another(&[]);
    match reminders::requeue(&with_outbox, id, None).await.expect("requeue") {
        Requeued::Queued(_) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(queue_due(&with_outbox, Utc::now(), None).await.expect("scan"), 0, "its delivery is queued");
    assert_eq!(deliver(&with_outbox, id, Utc::now(), 0).await.expect("deliver"), Delivery::Sent);
    for (id, expected) in [(id, "already sent"), (Uuid::new_v4(), "not found")] {
        match reminders::requeue(&with_outbox, id, None).await.expect("requeue") {
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
