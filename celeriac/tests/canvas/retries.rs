//! Retries, routes, and options of sending.

use celeriac::backend::ExceptionInfo;
use celeriac::canvas::{self, CanvasError, Outbox, RetryError, group};
use celeriac::message::{Message, Value};
use celeriac::task::{Request, Retry, TaskOptions};
use celeriac::value;
use chrono::TimeDelta;

use crate::desk::{Desk, body, map, now, only_message, request, s, s0};

fn retry(desk: &Desk, request: &Request, retry: &Retry) -> Result<Message, RetryError> {
    let mut outbox = Outbox::new();
    desk.with(None, |sender| canvas::retry(request, retry, &desk.options, None, sender, &mut outbox))?;
    assert_eq!(outbox.children[0].id, request.id, "a retried task lists itself as a child");
    Ok(only_message(&outbox))
}

#[test]
fn a_retry_keeps_everything_but_the_count_and_the_time() {
    let desk = Desk::new();
    let options = value!({"priority": 3, "expires": "2026-01-02T00:00:00+00:00", "time_limit": 60, "queue": "slow",
        "headers": {"x-custom": 1, "x-death": [1]}, "stamped_headers": ["tenant"], "tenant": "acme"});
    let first = only_message(&desk.apply(s("retry", [1]).link(s0("noop")), options));
    let again = retry(&desk, &request(&first), &Retry { countdown: Some(2.5), ..Retry::default() }).unwrap();
    let mut expected = first.clone();
    expected.headers.retries = 1;
    expected.headers.eta = Some(Value::from("2026-01-01T12:00:02.500000+00:00"));
    expected.headers.parent_id = first.headers.id.clone();
    expected.headers.extra.shift_remove("x-death");
    expected.properties.extra.insert("origin".to_owned(), Value::from("gen4242@client.example"));
    expected.properties.delivery_tag.clone_from(&again.properties.delivery_tag);
    assert_eq!(again, expected);
}

#[test]
fn a_retry_without_a_time_waits_as_long_as_the_task_says() {
    let desk = Desk::new();
    let first = request(&only_message(&desk.apply(s("retry", [1]), value!({}))));
    let eta = |message: Message| message.headers.eta;
    assert_eq!(
        eta(retry(&desk, &first, &Retry::default()).unwrap()),
        Some(Value::from("2026-01-01T12:03:00+00:00"))
    );
    let at = Retry { eta: Some(now() + TimeDelta::hours(1)), countdown: Some(1.0), ..Retry::default() };
    assert_eq!(eta(retry(&desk, &first, &at).unwrap()), Some(Value::from("2026-01-01T13:00:00+00:00")));
    let at_once = Retry { countdown: Some(0.0), ..Retry::default() };
    assert_eq!(eta(retry(&desk, &first, &at_once).unwrap()), None);
}

#[test]
fn the_last_retry_is_counted_from_the_limit_of_the_retry_or_of_the_task() {
    let desk = Desk::new();
    let mut request = request(&only_message(&desk.apply(s("retry", [1]).kwarg("x", "y"), value!({}))));
    std::sync::Arc::make_mut(&mut request.headers).retries = 2;
    assert!(retry(&desk, &request, &Retry::default()).is_ok(), "the third of three");
    std::sync::Arc::make_mut(&mut request.headers).retries = 3;
    let text = format!("Can't retry vec.retry[{}] args:(1,) kwargs:{{'x': 'y'}}", request.id);
    let exceeded = ExceptionInfo::celery("MaxRetriesExceededError", text);
    assert_eq!(retry(&desk, &request, &Retry::default()), Err(RetryError::MaxRetriesExceeded(exceeded)));
    let own = ExceptionInfo::builtin("ValueError", "own");
    let with_own = Retry { exception: Some(own.clone()), ..Retry::default() };
    assert_eq!(retry(&desk, &request, &with_own), Err(RetryError::MaxRetriesExceeded(own)));
    assert!(retry(&desk, &request, &Retry { max_retries: Some(Some(4)), ..Retry::default() }).is_ok());
    assert!(retry(&desk, &request, &Retry { max_retries: Some(None), ..Retry::default() }).is_ok());
}

#[test]
fn a_retry_goes_back_to_the_exchange_that_it_came_from_unless_it_names_a_queue() {
    let desk = Desk::new();
    let mut request = request(&only_message(&desk.apply(s("retry", [1]), value!({}))));
    let properties = std::sync::Arc::make_mut(&mut request.properties);
    properties.delivery_info.exchange = "topics".to_owned();
    properties.delivery_info.routing_key = "a.b".to_owned();
    let destination = |message: Message| {
        let info = message.properties.delivery_info;
        (info.exchange, info.routing_key)
    };
    let again = retry(&desk, &request, &Retry::default()).unwrap();
    assert_eq!(destination(again), ("topics".to_owned(), "a.b".to_owned()));
    let elsewhere = Retry { options: map(value!({"queue": "other"})), ..Retry::default() };
    assert_eq!(destination(retry(&desk, &request, &elsewhere).unwrap()), (String::new(), "other".to_owned()));
}

#[test]
fn automatic_retries_follow_class_names_and_back_off() {
    let desk = Desk::new();
    let mut request = request(&only_message(&desk.apply(s0("noop"), value!({}))));
    let mut options = TaskOptions::default();
    let refused = ExceptionInfo::builtin("ConnectionRefusedError", "no");
    assert_eq!(canvas::autoretry(&request, &refused, &options), None);
    options.autoretry_for = vec!["OSError".to_owned()];
    options.retry_backoff = Some(2.0);
    options.retry_jitter = false;
    let countdown = |request: &Request, options: &TaskOptions| {
        canvas::autoretry(request, &refused, options).unwrap().countdown
    };
    assert_eq!(countdown(&request, &options), Some(2.0));
    std::sync::Arc::make_mut(&mut request.headers).retries = 3;
    assert_eq!(countdown(&request, &options), Some(16.0));
    std::sync::Arc::make_mut(&mut request.headers).retries = 60;
    assert_eq!(countdown(&request, &options), Some(600.0));
    options.retry_jitter = true;
    assert!((0.0..=600.0).contains(&countdown(&request, &options).unwrap()));
    options.dont_autoretry_for = vec!["ConnectionRefusedError".to_owned()];
    assert_eq!(canvas::autoretry(&request, &refused, &options), None);
    let other = ExceptionInfo::new("requests.exceptions", "Timeout", Vec::new());
    assert_eq!(canvas::autoretry(&request, &other, &options), None);
    options.autoretry_for = vec!["requests.exceptions.Timeout".to_owned()];
    assert!(canvas::autoretry(&request, &other, &options).is_some());
}

#[test]
fn routes_and_what_the_task_declares_are_defaults_for_the_options() {
    let mut desk = Desk::new()
        .set("task_routes", r#"{"vec.a*": {"queue": "routed", "priority": 4}, "vec.mul": "exact"}"#)
        .set(
            "task_queues",
            r#"{"events": {"exchange": "ev", "exchange_type": "topic", "routing_key": "e.#"}}"#,
        );
    let sent = |desk: &Desk, name: &str, options: Value| {
        let properties = only_message(&desk.apply(s0(name), options)).properties;
        let info = properties.delivery_info;
        (info.exchange, info.routing_key, properties.priority)
    };
    let to = |exchange: &str, key: &str, priority| (exchange.to_owned(), key.to_owned(), Some(priority));
    assert_eq!(sent(&desk, "add", value!({})), to("", "routed", 4));
    assert_eq!(sent(&desk, "add", value!({"queue": "own", "priority": 1})), to("", "own", 1));
    assert_eq!(sent(&desk, "mul", value!({})), to("", "exact", 0));
    assert_eq!(sent(&desk, "noop", value!({})), to("", "celery", 0));
    assert_eq!(sent(&desk, "noop", value!({"queue": "events"})), to("ev", "e.#", 0));
    assert_eq!(sent(&desk, "noop", value!({"queue": "events", "routing_key": "e.x"})), to("ev", "e.x", 0));
    assert_eq!(sent(&desk, "noop", value!({"exchange": "x", "routing_key": "k"})), to("x", "k", 0));
    desk.options.queue = Some("declared".to_owned());
    desk.options.priority = Some(6);
    assert_eq!(sent(&desk, "noop", value!({})), to("", "declared", 6));
    desk.config.task_create_missing_queues = false;
    let refused = desk.try_apply(s0("noop"), value!({})).unwrap_err();
    assert_eq!(refused, CanvasError::UnknownQueue { queue: "declared".to_owned() });
}

#[test]
fn options_that_nobody_knows_become_properties() {
    let message = only_message(&Desk::new().apply(s0("noop"), value!({"x_tenant": "acme", "retry": false})));
    assert_eq!(message.properties.extra, map(value!({"x_tenant": "acme"})));
    assert_eq!(body(&message).args, []);
}

#[test]
fn bad_options_and_links_on_groups_are_refused_by_name() {
    let refused = |options| Desk::new().try_apply(s0("noop"), options).unwrap_err().to_string();
    assert!(refused(value!({"eta": 5})).starts_with("option eta is"));
    assert!(refused(value!({"countdown": "soon"})).starts_with("option countdown is"));
    assert!(refused(value!({"serializer": "pickle"})).contains("pickle"));
    let link = value!({"link": [s0("noop").to_value().get("task").unwrap().as_str().unwrap()]});
    let error = Desk::new().try_apply(group([s0("noop")]), link).unwrap_err();
    assert_eq!(error, CanvasError::GroupLink { option: "link" });
}
