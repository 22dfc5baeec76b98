//! Tasks made by `#[celeriac::task]`, run through their definitions as a worker runs them.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use celeriac::message::{Body, Headers, Map, Properties, Signature, Value};
use celeriac::prelude::*;
use celeriac::task::{Handler, Parameter, ParameterKind, Pool, Request, Retry, States, Task, TaskSignature};
use celeriac::value;
use serde::{Deserialize, Serialize};

fn request(task: &str, args: Value, kwargs: Value) -> Request {
    let (Value::List(args), Value::Map(kwargs)) = (args, kwargs) else { panic!("a list and a mapping") };
    let body = Body { args, kwargs, ..Body::default() };
    let headers = Headers { task: Some(task.to_owned()), id: Some("id-1".to_owned()), ..Headers::default() };
    Request::new(headers, Properties::default(), body, "celery@test")
}

async fn run_with(task: impl Task, args: Value, kwargs: Value, states: States) -> TaskResult<Value> {
    let definition = Arc::new(task.definition());
    let request = request(&definition.name, args, kwargs);
    run_request(definition, request, states).await
}

async fn run_request(
    definition: Arc<celeriac::task::TaskDefinition>,
    request: Request,
    states: States,
) -> TaskResult<Value> {
    let context = Context::for_task(Arc::clone(&definition), request, states);
    match &definition.handler {
        Handler::Async(function) => function(context).await,
        Handler::Blocking(function) => function(context),
        _ => panic!("an unknown handler"),
    }
}

async fn run(task: impl Task, args: Value, kwargs: Value) -> TaskResult<Value> {
    run_with(task, args, kwargs, States::default()).await
}

async fn failure(task: impl Task, args: Value, kwargs: Value) -> String {
    run(task, args, kwargs).await.expect_err("a failure").to_string()
}

fn nothing() -> Value {
    Value::Map(Map::new())
}

struct Store {
    prefix: &'static str,
}

/// Adds two numbers.
#[celeriac::task]
async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celeriac::task(name = "proj.tasks.resize", acks_late, max_retries = 5)]
async fn resize(ctx: Context, store: State<Store>, id: u32, width: Option<u32>) -> TaskResult<String> {
    Ok(format!("{}/{id}-{}@{}", store.prefix, width.unwrap_or(640), ctx.name()))
}

#[tokio::test]
async fn arguments_are_taken_by_position_and_keyword() {
    assert_eq!(run(add, value!([1, 2]), nothing()).await, Ok(Value::Int(3)));
    assert_eq!(run(add, value!([1]), value!({"y": 5})).await, Ok(Value::Int(6)));
    assert_eq!(run(add, value!([]), value!({"y": 5, "x": 4})).await, Ok(Value::Int(9)));
}

#[tokio::test]
async fn context_and_state_are_given_by_the_worker() {
    let states = States::default().with(Store { prefix: "img" });
    let result = run_with(resize, value!([7]), nothing(), states.clone()).await;
    assert_eq!(result, Ok(Value::from("img/7-640@proj.tasks.resize")));
    let result = run_with(resize, value!([7, null]), nothing(), states.clone()).await;
    assert_eq!(result, Ok(Value::from("img/7-640@proj.tasks.resize")));
    let result = run_with(resize, value!([7]), value!({"width": 320}), states).await;
    assert_eq!(result, Ok(Value::from("img/7-320@proj.tasks.resize")));

    let error = failure(resize, value!([7]), nothing()).await;
    assert!(error.contains("no state of type task_macro::Store"), "{error}");
    assert_eq!(resize.definition().states, [(TypeId::of::<Store>(), "task_macro::Store")]);
}

#[test]
fn a_definition_tells_name_parameters_and_options() {
    assert_eq!(add::NAME, "task_macro.add");
    let definition = resize.definition();
    assert_eq!(&*definition.name, "proj.tasks.resize");
    assert_eq!(definition.options.acks_late, Some(true));
    assert_eq!(definition.options.max_retries, Some(5));
    assert_eq!(definition.options.pool, Pool::Async);
    let parameters = [
        Parameter { name: "id", kind: ParameterKind::Required },
        Parameter { name: "width", kind: ParameterKind::Optional },
    ];
    assert_eq!(definition.parameters, Some(&parameters[..]));
}

#[tokio::test]
async fn calls_that_do_not_fit_fail_as_in_python() {
    let vector: serde_json::Value =
        serde_json::from_str(r#"{"exc_type": "TypeError", "exc_message": ["add() missing 1 required positional argument: 'y'"], "exc_module": "builtins"}"#)
            .expect("the exception of vectors/results/bad_args.json");
    let error = run(add, value!([1]), nothing()).await.expect_err("a failure");
    let exception = &error.failure().expect("a failure").exception;
    assert_eq!(exception.exc_type, vector["exc_type"]);
    assert_eq!(exception.exc_module.as_deref(), vector["exc_module"].as_str());
    assert_eq!(Value::List(exception.exc_message.clone()), Value::from(vector["exc_message"].clone()));

    let cases = [
        (value!([1, 2, 3]), nothing(), "add() takes 2 positional arguments but 3 were given"),
        (value!([1, 2]), value!({"z": 1}), "add() got an unexpected keyword argument 'z'"),
        (value!([1]), value!({"x": 1}), "add() got multiple values for argument 'x'"),
        (value!(["abc", 1]), nothing(), "add() argument 'x': expected an integer, found 'abc'"),
        (value!([1]), value!({"y": null}), "add() argument 'y': expected an integer, found None"),
        (value!([1.5, 2]), nothing(), "add() argument 'x': expected an integer, found 1.5"),
        (value!([[1], 2]), nothing(), "add() argument 'x': expected an integer, found a list"),
    ];
    for (args, kwargs, text) in cases {
        assert_eq!(failure(add, args, kwargs).await, format!("TypeError: {text}"));
    }
    let error = failure(resize, value!([-1]), nothing()).await;
    assert_eq!(error, "TypeError: resize() argument 'id': expected an integer (u32), found -1");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page {
    number: u32,
    title: String,
}

#[celeriac::task]
fn report(
    title: &str,
    #[default(1)] copies: u32,
    #[default = vec!["all".to_owned()]] tags: Vec<String>,
    #[args] pages: Vec<Page>,
    #[kwargs] extra: BTreeMap<String, Value>,
) -> String {
    let titles: Vec<&str> = pages.iter().map(|page| page.title.as_str()).collect();
    let extra: Vec<&str> = extra.keys().map(String::as_str).collect();
    format!("{copies} {title} {tags:?} {titles:?} {extra:?}")
}

#[tokio::test]
async fn defaults_and_further_arguments_reach_their_parameters() {
    let result = run(report, value!(["Sales"]), nothing()).await;
    assert_eq!(result, Ok(Value::from("1 Sales [\"all\"] [] []")));
    let args = value!(["Sales", 2, [], {"number": 1, "title": "A"}, {"number": 2, "title": "B"}]);
    let result = run(report, args, value!({"z": 1, "a": null})).await;
    assert_eq!(result, Ok(Value::from("2 Sales [] [\"A\", \"B\"] [\"a\", \"z\"]")));
    let result = run(report, value!([]), value!({"tags": ["x"], "title": "T"})).await;
    assert_eq!(result, Ok(Value::from("1 T [\"x\"] [] []")));

    let error = failure(report, value!(["T", 1, [], {"number": 1}]), nothing()).await;
    assert!(error.starts_with("TypeError: report() argument 'pages': missing field `title`"), "{error}");
    assert_eq!(report.definition().options.pool, Pool::Blocking);
    assert!(matches!(report.definition().handler, Handler::Blocking(_)));
}

#[celeriac::task]
async fn echo(anything: Value) -> Value {
    anything
}

#[celeriac::task]
async fn nothing_at_all() {}

#[tokio::test]
async fn any_value_goes_in_and_out() {
    let anything = value!({"x": [1, 2.5, null, "text", {"y": true}]});
    assert_eq!(run(echo, Value::List(vec![anything.clone()]), nothing()).await, Ok(anything));
    assert_eq!(run(nothing_at_all, value!([]), nothing()).await, Ok(Value::Null));
    let error = failure(nothing_at_all, value!([1]), nothing()).await;
    assert_eq!(error, "TypeError: nothing_at_all() takes 0 positional arguments but 1 was given");
}

#[derive(Debug, thiserror::Error)]
#[error("quota of {0} exceeded")]
struct QuotaExceeded(u32, #[source] std::fmt::Error);

#[celeriac::task]
async fn fallible(how: String) -> TaskResult<u32> {
    match how.as_str() {
        "quota" => Err(QuotaExceeded(5, std::fmt::Error))?,
        "ignore" => Err(TaskError::Ignore),
        number => Ok(number.parse::<u32>()?),
    }
}

#[celeriac::task]
async fn own_error() -> Result<u32, QuotaExceeded> {
    Err(QuotaExceeded(1, std::fmt::Error))
}

#[tokio::test]
async fn errors_become_exceptions_of_their_type() {
    assert_eq!(run(fallible, value!(["17"]), nothing()).await, Ok(Value::Int(17)));
    assert_eq!(run(fallible, value!(["ignore"]), nothing()).await, Err(TaskError::Ignore));

    let error = run(fallible, value!(["quota"]), nothing()).await.expect_err("a failure");
    let exception = &error.failure().expect("a failure").exception;
    assert_eq!(exception.exc_type, "QuotaExceeded");
    assert_eq!(exception.exc_module.as_deref(), Some("task_macro"));
    let source = std::fmt::Error.to_string();
    assert_eq!(exception.exc_message, [Value::from(format!("quota of 5 exceeded: {source}"))]);

    let error = failure(fallible, value!(["x"]), nothing()).await;
    assert_eq!(error, "ParseIntError: invalid digit found in string");
    assert!(failure(own_error, value!([]), nothing()).await.starts_with("QuotaExceeded: "));
}

#[celeriac::task(retry_backoff = 10, retry_jitter = false, retry_backoff_max = 30)]
async fn retrying(ctx: &Context, how: String) -> TaskResult<u32> {
    match how.as_str() {
        "countdown" => Err(ctx.retry().countdown(5).max_retries(9).option("queue", "slow"))?,
        "args" => Err(ctx.retry().args(["17"]).exc(QuotaExceeded(1, std::fmt::Error)))?,
        "rusty" => ctx.retry_with_countdown(3),
        number => number.parse::<u32>().retry(ctx.backoff()),
    }
}

#[tokio::test]
async fn a_retry_keeps_its_exception_and_grows_its_pause() {
    let definition = Arc::new(retrying.definition());
    let retry = async |how: &str, retries: u32| {
        let mut request = request("retrying", Value::List(vec![how.into()]), nothing());
        std::sync::Arc::make_mut(&mut request.headers).retries = retries;
        match run_request(Arc::clone(&definition), request, States::default()).await {
            Err(TaskError::Retry(retry)) => *retry,
            other => panic!("no retry: {other:?}"),
        }
    };

    let asked = retry("countdown", 0).await;
    let options = Map::from_iter([("queue".to_owned(), Value::from("slow"))]);
    let expected = Retry { countdown: Some(5.0), max_retries: Some(Some(9)), options, ..Retry::default() };
    assert_eq!(asked, expected);
    assert_eq!(retry("args", 0).await.args, Some(vec![Value::from("17")]));
    assert_eq!(retry("args", 0).await.exception.expect("an exception").exc_type, "QuotaExceeded");
    assert_eq!(retry("rusty", 0).await.countdown, Some(3.0));
    assert_eq!(retry("x", 0).await.countdown, Some(10.0));
    assert_eq!(retry("x", 1).await.countdown, Some(20.0));
    assert_eq!(retry("x", 2).await.countdown, Some(30.0));
    assert_eq!(retry("x", 0).await.exception.expect("an exception").exc_type, "ParseIntError");
}

#[celeriac::task]
async fn explaining(text: String) -> TaskResult<u32> {
    if text.is_empty() {
        return "".parse::<u32>().with_unexpected_err(|| "no text");
    }
    text.parse::<u32>().with_expected_err(|| format!("cannot read {text}"))
}

#[tokio::test]
async fn rusty_celerys_error_helpers_explain_the_error() {
    let expected = run(explaining, value!(["abc"]), nothing()).await.expect_err("a failure");
    assert_eq!(expected.to_string(), "ParseIntError: cannot read abc: invalid digit found in string");
    assert!(expected.failure().expect("a failure").expected);
    let unexpected = run(explaining, value!([""]), nothing()).await.expect_err("a failure");
    assert!(!unexpected.failure().expect("a failure").expected);
}

#[celeriac::task(bind)]
fn bound(task: &Self, x: i64) -> String {
    format!("{} {} {x}", task.name(), task.request().id)
}

#[celeriac::task(bind = true)]
async fn bound_async(task: &Self) -> u32 {
    task.request().retries()
}

#[tokio::test]
async fn a_bound_task_gets_its_context_first() {
    assert_eq!(run(bound, value!([4]), nothing()).await, Ok(Value::from("task_macro.bound id-1 4")));
    assert_eq!(run(bound_async, value!([]), nothing()).await, Ok(Value::Int(0)));
}

static FAILURES: AtomicU32 = AtomicU32::new(0);
static SUCCESSES: AtomicU32 = AtomicU32::new(0);

async fn count_failure(context: &Context, error: &TaskError) {
    assert_eq!((context.name(), error.to_string().as_str()), ("task_macro.watched", "Exception: odd"));
    FAILURES.fetch_add(1, Ordering::Relaxed);
}

async fn count_success(_context: &Context, returned: &u32) {
    assert_eq!(*returned, 2);
    SUCCESSES.fetch_add(1, Ordering::Relaxed);
}

#[celeriac::task(on_failure = count_failure, on_success = count_success)]
async fn watched(x: u32) -> TaskResult<u32> {
    match x {
        0 => Err(TaskError::Ignore),
        1 => Err(TaskError::unexpected("odd")),
        x => Ok(x),
    }
}

fn count_failure_by_ten(_context: &Context, _error: &TaskError) {
    FAILURES.fetch_add(10, Ordering::Relaxed);
}

#[celeriac::task(on_failure = count_failure_by_ten)]
fn watched_blocking() -> TaskResult<()> {
    Err(TaskError::unexpected("always"))
}

#[tokio::test]
async fn callbacks_see_failures_and_successes() {
    for x in [0, 1, 2] {
        let _ = run(watched, value!([x]), nothing()).await;
    }
    assert_eq!((FAILURES.load(Ordering::Relaxed), SUCCESSES.load(Ordering::Relaxed)), (1, 1));
    let _ = run(watched_blocking, value!([]), nothing()).await;
    assert_eq!(FAILURES.load(Ordering::Relaxed), 11);
}

const LIMIT: u64 = 30;

#[celeriac::task(
    name = "all.options",
    acks_late = false,
    acks_on_failure_or_timeout,
    reject_on_worker_lost,
    ignore_result,
    store_errors_even_if_ignored,
    track_started,
    send_events = false,
    time_limit = LIMIT,
    soft_time_limit = 2.5,
    expires = 60,
    rate_limit = "10/m",
    max_retries = None,
    default_retry_delay = 7,
    autoretry_for = ["ValueError", "OSError"],
    dont_autoretry_for = "KeyError",
    retry_backoff,
    retry_backoff_max = 100,
    retry_jitter = false,
    queue = "images",
    exchange = "x",
    routing_key = "r",
    priority = 3,
    serializer = "json",
    compression = "zstd",
    pool = "process"
)]
fn all_options() {}

#[celeriac::task(
    time_limit = 10,
    hard_time_limit = 20,
    min_retry_delay = 4,
    max_retry_delay = 40,
    retry_for_unexpected = true,
    content_type = MsgPack
)]
fn rusty_options() {}

#[test]
fn every_attribute_becomes_its_option() {
    let options = all_options.definition().options;
    assert_eq!((options.acks_late, options.acks_on_failure), (Some(false), Some(true)));
    assert_eq!((options.acks_on_timeout, options.reject_on_worker_lost), (Some(true), Some(true)));
    assert_eq!((options.ignore_result, options.store_errors_even_if_ignored), (Some(true), Some(true)));
    assert_eq!((options.track_started, options.send_events), (Some(true), false));
    assert_eq!((options.time_limit, options.soft_time_limit), (Some(30.0), Some(2.5)));
    assert_eq!((options.expires, options.rate_limit.as_deref()), (Some(60.0), Some("10/m")));
    assert_eq!((options.max_retries, options.default_retry_delay), (None, 7.0));
    assert_eq!(
        (options.autoretry_for.join(" "), options.dont_autoretry_for.join(" ")),
        ("ValueError OSError".into(), "KeyError".into())
    );
    assert_eq!((options.retry_backoff, options.retry_backoff_max), (Some(1.0), 100.0));
    assert!(!options.retry_jitter);
    assert_eq!((options.queue.as_deref(), options.exchange.as_deref()), (Some("images"), Some("x")));
    assert_eq!((options.routing_key.as_deref(), options.priority), (Some("r"), Some(3)));
    assert_eq!((options.serializer.as_deref(), options.compression.as_deref()), (Some("json"), Some("zstd")));
    assert_eq!(options.pool, Pool::Process);

    let options = rusty_options.definition().options;
    assert_eq!((options.time_limit, options.default_retry_delay), (Some(10.0), 4.0));
    assert_eq!((options.retry_backoff_min, options.retry_backoff_max), (4.0, 40.0));
    assert_eq!((options.retry_backoff, options.autoretry_for), (Some(1.0), vec!["Exception".to_owned()]));
    assert_eq!(options.serializer.as_deref(), Some("msgpack"));
}

#[celeriac::task]
async fn keywords(r#type: i64, #[default] mut count: i64, last: Option<i64>) -> i64 {
    count += 1;
    r#type + count + last.unwrap_or(0)
}

#[tokio::test]
async fn typed_calls_carry_what_was_given() {
    let call: TaskSignature<String> = resize::s(7, Some(320)).countdown(5).queue("images").priority(3);
    let signature = Signature::from(call);
    assert_eq!(signature.task, "proj.tasks.resize");
    assert_eq!(signature.args, [Value::Int(7), Value::Int(320)]);
    assert_eq!(Value::Map(signature.options), value!({"countdown": 5, "queue": "images", "priority": 3}));

    let call: TaskSignature<i64> = keywords::s(1, None, Some(3)).immutable();
    let signature = Signature::from(call);
    assert_eq!((signature.args, signature.immutable), (vec![Value::Int(1)], true));
    assert_eq!(Value::Map(signature.kwargs.clone()), value!({"last": 3}));
    let result = run(keywords, value!([1]), Value::Map(signature.kwargs)).await;
    assert_eq!(result, Ok(Value::Int(5)));
    assert_eq!(run(keywords, value!([]), value!({"type": 1, "count": 1})).await, Ok(Value::Int(3)));

    let page = Page { number: 1, title: "A".to_owned() };
    let extra = BTreeMap::from([("k".to_owned(), Value::Int(1))]);
    let call: TaskSignature<String> = report::s("T", None, Some(vec![]), vec![page], extra);
    let signature = Signature::from(call);
    assert_eq!(Value::List(signature.args), value!(["T", 1, [], {"number": 1, "title": "A"}]));
    assert_eq!(Value::Map(signature.kwargs), value!({"k": 1}));

    let linked = Signature::from(add::s(1, 2).link(echo::signature()).link(add::s(1, 1)));
    assert_eq!(linked.options["link"].as_list().map(<[Value]>::len), Some(2));
    assert_eq!(add::signature(), Signature { task: add::NAME.to_owned(), ..Signature::default() });
}

mod tasks_of_any_name {
    #[celeriac::task]
    pub async fn context(#[default(PARAMETERS)] value: u32) -> u32 {
        value
    }

    #[celeriac::task]
    pub fn result(x: u32) -> Result<u32, std::num::ParseIntError> {
        Ok(x)
    }

    #[celeriac::task]
    pub async fn error(result: Option<u32>) -> Option<u32> {
        result
    }

    const PARAMETERS: u32 = 8;
}

#[tokio::test]
async fn task_and_parameter_names_do_not_meet_the_macros_own() {
    use tasks_of_any_name::{context, error, result};
    assert_eq!(context::NAME, "task_macro.tasks_of_any_name.context");
    assert_eq!(run(context, value!([]), nothing()).await, Ok(Value::Int(8)));
    assert_eq!(run(result, value!([1]), nothing()).await, Ok(Value::Int(1)));
    assert_eq!(run(error, value!([]), nothing()).await, Ok(Value::Null));
}

#[tokio::test]
async fn the_function_itself_stays_callable() {
    assert_eq!(add::run(1, 2).await, Ok(3));
    assert_eq!(report::run("T", 1, vec![], vec![], BTreeMap::new()), "1 T [] [] []");
}
