//! The services outside: e-mail through Resend, push messages through Expo, an OpenAI-compatible model.

mod support;

use chrono::Utc;
use companion::{
    chat::{self, Reply},
    reminders::{Delivery, deliver},
};
use support::{EVERYTHING, On, Setup, ago, peer::Peer};

const TAKEN: &str = r#"{"data": {"status": "ok", "id": "x"}}"#;

async fn with_channels(resend: Option<&Peer>, expo: Option<&Peer>) -> Setup {
    let urls = (resend.map(Peer::url), expo.map(Peer::url));
    let mut vars = vec![("NOTIFY_FILE", "")];
    if let Some(url) = &urls.0 {
        vars.extend([
            ("RESEND_BASE_URL", url.as_str()),
            ("RESEND_API_KEY", "re_s3cret"),
            ("RESEND_FROM_EMAIL", "me@example.com"),
        ]);
    }
    if let Some(url) = &urls.1 {
        vars.extend([("EXPO_PUSH_URL", url.as_str()), ("EXPO_ACCESS_TOKEN", "expo_s3cret")]);
    }
    let setup = Setup::with(On::Sqlite, &vars).await;
    let user = setup.demo_user().await;
    setup.companion.store.set_push_token(user.id, Some("ExponentPushToken[x]")).await.expect("token");
    setup
}

async fn delivery(setup: &Setup, id: uuid::Uuid) -> Delivery {
    deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver")
}

#[tokio::test]
async fn an_email_goes_out_by_resend_under_the_same_key_until_it_is_taken() {
    let resend =
        Peer::start(|number| Some(if number == 0 { (500, "{}") } else { (200, r#"{"id":"x"}"#) })).await;
    let setup = with_channels(Some(&resend), None).await;
    let id = setup.reminder("drink water", ago(5)).await;
    match delivery(&setup, id).await {
        Delivery::Retry { attempt: 1, reason, .. } => assert!(reason.contains("HTTP status 500"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(delivery(&setup, id).await, Delivery::Sent);
    let received = resend.received();
    assert_eq!(received.len(), 2);
    for request in &received {
        assert!(request.head.starts_with("POST /emails "), "{}", request.head);
        assert_eq!(request.header("authorization"), Some("Bearer re_s3cret"));
        assert_eq!(request.header("idempotency-key"), Some(format!("reminder-{id}").as_str()));
        assert_eq!(request.body["to"][0], "demo@example.com");
        assert_eq!(request.body["from"], "me@example.com");
        assert_eq!(request.body["subject"], "Reminder: drink water");
    }
}

#[tokio::test]
async fn a_push_message_is_sent_again_after_an_error_ticket() {
    const REFUSED: &str =
        r#"{"data": {"status": "error", "message": "too big", "details": {"error": "MessageTooBig"}}}"#;
    let expo = Peer::start(|number| Some((200, if number == 0 { REFUSED } else { TAKEN }))).await;
    let setup = with_channels(None, Some(&expo)).await;
    let id = setup.reminder("drink water", ago(5)).await;
    match delivery(&setup, id).await {
        Delivery::Retry { reason, .. } => assert!(reason.contains("too big (MessageTooBig)"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(delivery(&setup, id).await, Delivery::Sent);
    let received = expo.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[1].header("authorization"), Some("Bearer expo_s3cret"));
    assert_eq!(received[1].body["to"], "ExponentPushToken[x]");
    assert_eq!(received[1].body["body"], "drink water");
    assert_eq!(received[1].body["data"]["reminder_id"], id.to_string());
}

#[tokio::test]
async fn one_channel_that_delivers_is_enough() {
    let (resend, expo) =
        (Peer::start(|_| Some((503, "{}"))).await, Peer::start(|_| Some((200, TAKEN))).await);
    let setup = with_channels(Some(&resend), Some(&expo)).await;
    let id = setup.reminder("drink water", ago(5)).await;
    assert_eq!(delivery(&setup, id).await, Delivery::Sent);
    assert!(matches!(delivery(&setup, id).await, Delivery::NotScheduled(_)));
    assert_eq!((resend.received().len(), expo.received().len()), (1, 1));
}

#[tokio::test]
async fn a_push_message_whose_answer_is_lost_is_not_sent_again() {
    let expo = Peer::start(|_| None).await;
    let setup = with_channels(None, Some(&expo)).await;
    let id = setup.reminder("drink water", ago(5)).await;
    match delivery(&setup, id).await {
        Delivery::Failed { reason } => assert!(reason.contains("may have arrived"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(expo.received().len(), 1);
    assert_eq!(setup.companion.store.count_failed_jobs().await.expect("database"), 1);
}

#[tokio::test]
async fn a_device_that_is_not_registered_any_more_is_forgotten() {
    const GONE: &str = r#"{"data": [{"status": "error", "message": "\"ExponentPushToken[x]\" is not a registered push notification recipient",
        "details": {"error": "DeviceNotRegistered"}}]}"#;
    let expo = Peer::start(|_| Some((200, GONE))).await;
    let setup = with_channels(None, Some(&expo)).await;
    let id = setup.reminder("drink water", ago(5)).await;
    match delivery(&setup, id).await {
        Delivery::Retry { reason, .. } => assert!(reason.contains("DeviceNotRegistered"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(setup.demo_user().await.push_token, None);
    match delivery(&setup, id).await {
        Delivery::Retry { reason, .. } => assert!(reason.contains("no configured channel"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(expo.received().len(), 1, "nobody asks in vain");
}

#[tokio::test]
async fn a_channel_that_does_not_work_is_left_alone_and_tried_for_a_last_attempt() {
    let resend = Peer::start(|_| Some((503, "{}"))).await;
    let setup = with_channels(Some(&resend), None).await;
    let mut ids = Vec::new();
    for number in 0..8 {
        ids.push(setup.reminder(&format!("reminder {number}"), ago(5)).await);
    }
    let mut reasons = Vec::new();
    for id in &ids {
        match delivery(&setup, *id).await {
            Delivery::Retry { attempt: 1, reason, .. } => reasons.push(reason),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(resend.received().len(), 5, "{reasons:?}");
    assert!(reasons[7].contains("left alone"), "{reasons:?}");
    let last = deliver(&setup.companion, ids[7], Utc::now(), 4).await.expect("deliver");
    assert!(matches!(&last, Delivery::Failed { reason } if reason.contains("503")), "{last:?}");
    assert_eq!(resend.received().len(), 6, "nothing is given up because of a channel that nobody tried");
}

#[tokio::test]
async fn a_user_whom_no_channel_reaches_is_told_at_once() {
    let expo = Peer::start(|_| Some((200, TAKEN))).await;
    let setup = with_channels(None, Some(&expo)).await;
    for (token, is_reached) in [(Some("ExponentPushToken[x]"), true), (Some(""), false), (None, false)] {
        setup.companion.store.set_push_token(setup.demo_user().await.id, token).await.expect("token");
        let user = setup.demo_user().await;
        let message = "Remind me to sleep in 10 minutes";
        let request =
            chat::Request { user: &user, message, persona_key: None, correlation_id: "c", once: None };
        let reply = chat::chat(&setup.companion, request).await.expect("an answer");
        assert_eq!(reply.actions[0].result.get("warning").is_none(), is_reached, "{reply:?}");
        assert_eq!(
            !reply.assistant_message.contains("No notification can reach you"),
            is_reached,
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn an_email_whose_answer_is_lost_is_sent_again_under_its_key() {
    let resend = Peer::start(|number| (number > 0).then_some((200, "{}"))).await;
    let setup = with_channels(Some(&resend), None).await;
    let id = setup.reminder("drink water", ago(5)).await;
    assert!(matches!(delivery(&setup, id).await, Delivery::Retry { .. }));
    assert_eq!(delivery(&setup, id).await, Delivery::Sent);
    let keys: Vec<_> = resend
        .received()
        .iter()
        .map(|request| request.header("idempotency-key").map(str::to_owned))
        .collect();
    assert_eq!(keys[0], keys[1]);
}

async fn say(model: &Peer, message: &str) -> (Setup, Reply) {
    let url = model.url();
    let vars = [("OPENAI_API_KEY", "sk-s3cret"), ("OPENAI_BASE_URL", url.as_str()), ("OPENAI_MODEL", "tiny")];
    let setup = Setup::with(On::Sqlite, &vars).await;
    let user = setup.demo_user().await;
    let request =
        chat::Request { user: &user, message, persona_key: Some("calm"), correlation_id: "c", once: None };
    let reply = chat::chat(&setup.companion, request).await.expect("an answer");
    (setup, reply)
}

#[tokio::test]
async fn a_model_uses_the_tools_and_answers_in_its_words() {
    const CALL: &str = r#"{"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": [
        {"id": "call_0", "type": "function", "function": {"name": "schedule_reminder", "arguments": "{\"text\": \"sleep\", \"run_ts\": \"soon\"}"}},
        {"id": "call_1", "type": "function", "function": {"name": "schedule_reminder", "arguments": "{\"text\": \"sleep\", \"run_ts\": \"2035-01-01T22:00:00+01:00\"}"}}
    ]}}], "usage": {"total_tokens": 40}}"#;
    const WORDS: &str = r#"{"choices": [{"message": {"role": "assistant", "content": "Sleep well."}}], "usage": {"total_tokens": 2}}"#;
    let model = Peer::start(|number| Some((200, if number == 0 { CALL } else { WORDS }))).await;
    let (setup, reply) = say(&model, "Tell me to go to bed at ten on New Year's Day 2035").await;
    assert_eq!(reply.assistant_message, "Sleep well.");
    assert_eq!(reply.actions.len(), 1);
    assert_eq!(reply.actions[0].result["run_ts"], "2035-01-01T21:00:00+00:00");
    let received = model.received();
    assert_eq!(received.len(), 2);
    assert!(received[0].head.starts_with("POST /chat/completions "));
    assert_eq!(received[0].header("authorization"), Some("Bearer sk-s3cret"));
    assert_eq!(received[0].body["model"], "tiny");
    assert_eq!(received[0].body["tools"].as_array().map(Vec::len), Some(4));
    let answers = received[1].body["messages"].as_array().expect("messages");
    let told: Vec<&str> = answers
        .iter()
        .filter(|message| message["role"] == "tool")
        .filter_map(|message| message["content"].as_str())
        .collect();
    assert!(told[0].contains("\"soon\\\" is not a time") || told[0].contains("is not a time"), "{told:?}");
    assert!(told[1].contains("\"id\""), "{told:?}");
    let user = setup.demo_user().await;
    assert_eq!(
        companion::reminders::list(&setup.companion, &user, &EVERYTHING).await.expect("list").reminders.len(),
        1
    );
}

#[tokio::test]
async fn the_rules_answer_when_the_model_fails() {
    let model = Peer::start(|_| Some((500, "{}"))).await;
    let (_setup, reply) = say(&model, "Remind me to sleep in 10 minutes").await;
    assert_eq!(reply.actions[0].tool, "schedule_reminder");
    assert_eq!(reply.assistant_message, "Okay, I'll remind you to sleep in 10 minutes.");
}

/// An api that stops waits 25 s for the chats under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_slow_in_each_round_does_not_hold_up_the_answer() {
    const AGENDA: &str = r#"{"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": [
        {"id": "call", "type": "function", "function": {"name": "get_agenda", "arguments": "{\"from\": \"2035-01-01T00:00\", \"to\": \"2035-01-02T00:00\"}"}}
    ]}}]}"#;
    let model = Peer::start(|_| {
        std::thread::sleep(std::time::Duration::from_secs(8));
        Some((200, AGENDA))
    })
    .await;
    let started = std::time::Instant::now();
    let (_setup, reply) = say(&model, "What is on my agenda?").await;
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    assert_eq!((reply.assistant_message.as_str(), reply.actions.len()), ("Done.", 2));
}

#[tokio::test]
async fn a_message_that_needs_a_safe_answer_never_reaches_the_model() {
    let model = Peer::start(|_| Some((500, "{}"))).await;
    let (_setup, reply) = say(&model, "I want to end my life").await;
    assert!(reply.assistant_message.contains("988") && reply.actions.is_empty());
    assert!(model.received().is_empty());
}
