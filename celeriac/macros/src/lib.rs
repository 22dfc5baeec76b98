//! The task attribute of celeriac; use it as `celeriac::task`.

mod attributes;
mod expand;
mod parameters;

use proc_macro::TokenStream;
use syn::{ItemFn, parse_macro_input};

use attributes::Attributes;

/// Makes a task of an `async fn` or a plain `fn`.
///
/// ```
/// use celeriac::prelude::*;
///
/// /// Same name, same arguments as the Python task that it replaces.
/// #[celeriac::task(name = "proj.tasks.resize", acks_late, max_retries = 5)]
/// async fn resize(ctx: Context, id: u64, width: Option<u32>) -> TaskResult<String> {
///     Ok(format!("{id}-{}", width.unwrap_or(640)))
/// }
///
/// assert_eq!(resize::NAME, "proj.tasks.resize");
/// let call = resize::s(7, Some(320)).countdown(5).queue("images");
/// ```
///
/// The function's name becomes that of a type and of a value, which implement `celeriac::task::Task`: give it to a worker
/// as `worker.task(resize)`. With it come
///
/// - `resize::NAME`, the task's name: as in Celery the path of the module and function, such as `proj.tasks.resize`
///   for `proj::tasks::resize`, unless `name` says otherwise;
/// - `resize::run(..)`, the function itself, for tests and other tasks;
/// - `resize::s(..)`, a typed call with all arguments: a `TaskSignature` of the return type;
/// - `resize::signature()`, a call without arguments yet, for links and partial calls.
///
/// An `async fn` shares the runtime's threads; a plain `fn` gets a thread on which it may block.
///
/// # Parameters
///
/// Arguments reach the parameters by position or keyword, as in Python, and are of any type that serde can read;
/// `celeriac::message::Value` takes anything. A call that does not fit fails with Python's `TypeError`.
///
/// | parameter | what it gets |
/// | --- | --- |
/// | `Context` or `&Context` | the surroundings of this run; the caller gives nothing for it |
/// | `State<T>` | the worker's shared state of that type; the caller gives nothing for it |
/// | `Option<T>` | the argument, or `None` when it is left out |
/// | `#[default(expr)] x: T`, `#[default = expr]`, `#[default]` | the argument, or the default when it is left out |
/// | `#[args] rest: Vec<T>` | all further positional arguments, Python's `*args` |
/// | `#[kwargs] rest: Map` | all further keyword arguments, Python's `**kwargs`; any map with text keys |
///
/// ```
/// use celeriac::prelude::*;
/// use celeriac::message::Map;
///
/// #[celeriac::task]
/// fn report(title: &str, #[default(1)] copies: u32, #[args] pages: Vec<u32>, #[kwargs] extra: Map) -> String {
///     format!("{copies} of {title}: {} pages, {} extras", pages.len(), extra.len())
/// }
///
/// assert_eq!(report::run("Sales", 2, vec![1, 2], Map::new()), "2 of Sales: 2 pages, 0 extras");
/// ```
///
/// What a caller in Rust gives is checked when the program is compiled. This is a call of `resize`:
///
/// ```
/// # #[celeriac::task]
/// # async fn resize(id: u64, width: Option<u32>) {}
/// let call = resize::s(7, Some(320));
/// ```
///
/// This one gives text for a number, and does not compile; nor do calls with too few or too many arguments:
///
/// ```compile_fail,E0308
/// # #[celeriac::task]
/// # async fn resize(id: u64, width: Option<u32>) {}
/// let call = resize::s("seven", Some(320));
/// ```
///
/// ```compile_fail,E0061
/// # #[celeriac::task]
/// # async fn resize(id: u64, width: Option<u32>) {}
/// let call = resize::s(7);
/// ```
///
/// Nor is a result read as something else:
///
/// ```compile_fail,E0308
/// # #[celeriac::task]
/// # async fn count() -> u64 { 0 }
/// # async fn example(app: celeriac::Celery) -> celeriac::Result<()> {
/// let text: celeriac::task::TaskSignature<String> = count::s();
/// # Ok(()) }
/// ```
///
/// # Return type
///
/// Nothing, a value that serde can write, or a `Result`: `TaskResult<T>`, or any whose error converts into
/// `TaskError`, as every `std::error::Error` does. A type whose name ends in `Result` is taken for a `Result`.
///
/// # Attributes
///
/// Those of Celery and of rusty-celery, under their names. Flags may stand alone: `acks_late` is `acks_late = true`.
///
/// - Identity: `name`; `bind` (the first parameter is the context, which may then be spelled `&Self`).
/// - Acknowledgement: `acks_late`, `acks_on_failure`, `acks_on_timeout`, `acks_on_failure_or_timeout`,
///   `reject_on_worker_lost`.
/// - Results: `ignore_result`, `store_errors_even_if_ignored`, `track_started`, `send_events`.
/// - Limits, in seconds: `time_limit` (also `hard_time_limit`), `soft_time_limit`, `expires`; `rate_limit = "10/m"`.
/// - Retries: `max_retries` (`None` is without limit), `default_retry_delay`; `autoretry_for = ["ValueError"]`,
///   `dont_autoretry_for`; `retry_backoff` (a flag or a factor), `retry_backoff_max`, `retry_jitter`;
///   `min_retry_delay` and `max_retry_delay` bound the backoff; `retry_for_unexpected` is
///   `autoretry_for = ["Exception"]` with backoff.
/// - Sending: `queue`, `exchange`, `routing_key`, `priority`, `serializer` (also `content_type`), `compression`.
/// - Where it runs: `pool = "process"` in a child process that can be killed.
/// - Callbacks: `on_failure = path` is called with `(&Context, &TaskError)` each time the function fails, and
///   `on_success = path` with `(&Context, &T)`; both are async for an `async fn`.
///
/// Values may be any expression, such as the name of a constant.
#[proc_macro_attribute]
pub fn task(attributes: TokenStream, function: TokenStream) -> TokenStream {
    let attributes = parse_macro_input!(attributes as Attributes);
    let function = parse_macro_input!(function as ItemFn);
    expand::expand(&attributes, function).unwrap_or_else(syn::Error::into_compile_error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(attributes: &str, function: &str) -> String {
        let function = syn::parse_str(function).expect("a function");
        syn::parse_str::<Attributes>(attributes)
            .and_then(|attributes| expand::expand(&attributes, function))
            .expect_err("an error")
            .to_string()
    }

    #[test]
    fn mistakes_in_the_attribute_are_named() {
        let error = |attributes| error(attributes, "fn f() {}");
        let unknown = error("acks_late, retries = 3");
        assert!(
            unknown.starts_with("unknown attribute `retries`; the known ones are: acks_late, "),
            "{unknown}"
        );
        assert!(unknown.contains(" max_retries, "), "{unknown}");
        assert_eq!(error("queue = \"a\", queue = \"b\""), "`queue` is given twice");
        assert_eq!(error("queue"), "`queue` needs a value: `queue = ...`");
        assert_eq!(error("name"), "`name` needs a value: `name = ...`");
        assert_eq!(error("bind = maybe"), "`bind` is `true` or `false`");
        assert!(error("content_type = Pickle").starts_with("pickle is never written or read"));
        assert!(error("pool = \"threads\"").starts_with("there is no pool \"threads\""));
        assert_eq!(error("pool = \"async\""), "only an `async fn` runs in the pool \"async\"");
        assert!(error("bind").starts_with("a bound task takes its context first"));
    }

    #[test]
    fn functions_that_cannot_be_tasks_are_refused_with_the_reason() {
        let error = |function| error("", function);
        assert!(error("fn f(&self) {}").starts_with("a task is a free function and has no `self`"));
        assert!(error("fn f<T>(x: T) {}").starts_with("a task cannot be generic"));
        assert!(error("fn f<'a>(x: &'a str) {}").starts_with("a task cannot be generic"));
        assert!(error("fn f(x: impl Sized) {}").starts_with("a parameter of a task needs a concrete type"));
        assert!(error("fn f() -> impl Sized {}").starts_with("a task needs a concrete return type"));
        assert!(error("fn f((x, y): (u32, u32)) {}").starts_with("a parameter of a task needs a plain name"));
        assert!(error("extern \"C\" fn f() {}").starts_with("a task is a plain Rust function"));
        assert!(error("const fn f() {}").ends_with("cannot be `const`"));
        assert!(error("fn f(#[args] a: Vec<u32>, b: u32) {}").starts_with("no positional argument is left"));
        assert!(error("fn f(#[kwargs] a: Map, b: u32) {}").starts_with("no argument is left"));
        assert!(error("fn f(#[args] #[default] a: Vec<u32>) {}").starts_with("a parameter has one of"));
    }
}
