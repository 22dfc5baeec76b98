//! A client in Rust: canvases built here, run by Celery's own worker, and their results read here.

use std::time::Duration;

use celeriac::canvas::{chain, chord, chunks, group, map, starmap};
use celeriac::message::Signature;
use celeriac::{AsyncResult, Celery, Value, value};
use compat_tests::secs;
use futures_util::StreamExt;

use crate::stage::Stage;

const SOON: Duration = secs(60);

fn add(x: i64, y: i64) -> Signature {
    Signature::new("canvas.add").args([x, y])
}

fn plus(x: i64) -> Signature {
    Signature::new("canvas.add").args([x])
}

fn wrap(tag: &str) -> Signature {
    Signature::new("canvas.wrap").args([tag])
}

async fn value_of(app: &Celery, canvas: impl Into<Signature>) -> Value {
    app.apply(canvas).await.unwrap().get(SOON).await.unwrap()
}

#[tokio::test]
async fn canvases_built_here_run_at_celerys_worker() {
    let stage = Stage::new();
    let _worker = stage.stock_worker(2);
    let app = stage.client();
    assert_eq!(value_of(&app, chain([add(1, 2), plus(4), plus(10)])).await, value!(17));
    assert_eq!(value_of(&app, group((0..4).map(|n| add(n, n)))).await, value!([0, 2, 4, 6]));
    assert_eq!(value_of(&app, chord([add(1, 1), add(2, 2)], wrap("sum"))).await, value!(["sum", [2, 4]]));
    let nested = chain([group([add(1, 1), add(2, 2)]), group([wrap("a"), wrap("b")])]);
    assert_eq!(value_of(&app, nested).await, value!([["a", [2, 4]], ["b", [2, 4]]]));
    assert_eq!(value_of(&app, map(Signature::new("canvas.double"), [1, 2, 3])).await, value!([2, 4, 6]));
    let pairs = || (0..5).map(|n| value!([n, 1]));
    assert_eq!(value_of(&app, starmap(Signature::new("canvas.add"), pairs())).await, value!([1, 2, 3, 4, 5]));
    let parts = chunks(Signature::new("canvas.add"), pairs(), 2);
    assert_eq!(value_of(&app, parts).await, value!([[1, 2], [3, 4], [5]]));

    // Links and options; an immutable signature takes nothing from before.
    let linked = add(1, 1).link(plus(5).task_id("linked"));
    assert_eq!(value_of(&app, linked).await, value!(2));
    assert_eq!(app.result("linked").get(SOON).await.unwrap(), value!(7));
    let failing = Signature::new("canvas.fail").args(["x", "broken"]);
    let failed =
        app.apply(failing.link_error(Signature::new("canvas.errback").task_id("told"))).await.unwrap();
    let error = failed.get(SOON).await.unwrap_err().to_string();
    assert!(error.contains("ended as FAILURE: ValueError('broken')"), "{error}");
    assert_eq!(app.result("told").get(SOON).await.unwrap(), value!("told"));
    assert_eq!(value_of(&app, chain([add(1, 1), add(20, 1).immutable(true)])).await, value!(21));
    let options = add(1, 1).countdown(Duration::from_millis(200)).expires(SOON).priority(3).queue("celery");
    assert_eq!(value_of(&app, options).await, value!(2));
    let stamped = chain([add(1, 1), plus(1)]).stamp([("tenant", "acme")]);
    let result = app.apply(stamped).await.unwrap();
    assert_eq!(result.get(SOON).await.unwrap(), value!(3));
    assert_eq!(result.parent().unwrap().get(SOON).await.unwrap(), value!(2));
    assert_eq!(result.meta().await.unwrap().extended["tenant"], value!("acme"));
}

#[tokio::test]
async fn a_group_is_joined_iterated_saved_revoked_and_forgotten() {
    let stage = Stage::new();
    let worker = stage.stock_worker(2);
    let app = stage.client();
    let sums = app.apply(group((0..5).map(|n| add(n, 1)))).await.unwrap();
    let joined: Vec<i64> = sums.get_as(SOON).await.unwrap();
    assert_eq!(joined, [1, 2, 3, 4, 5]);
    let mut iterated: Vec<Value> =
        sums.iterate(SOON).map(|(_, value)| value.unwrap()).collect::<Vec<_>>().await;
    iterated.sort_by_key(Value::as_i64);
    assert_eq!(iterated, [1, 2, 3, 4, 5].map(Value::from));
    assert!(sums.is_ready().await.unwrap() && sums.is_successful().await.unwrap());
    assert_eq!(sums.completed_count().await.unwrap(), 5);

    sums.save().await.unwrap();
    let python = stage.python(&format!(
        "from canvas_app import app; from celery.result import GroupResult; \
         print(GroupResult.restore({:?}, app=app).get(timeout=30))",
        sums.id()
    ));
    assert_eq!(python, "[1, 2, 3, 4, 5]");
    let restored = app.restore_group(sums.id()).await.unwrap().expect("it was saved");
    assert_eq!(restored.children().len(), 5);
    sums.forget().await.unwrap();
    assert!(!sums.is_ready().await.unwrap());
    assert!(app.restore_group(sums.id()).await.unwrap().is_none());

    let mixed = [add(1, 1), Signature::new("canvas.fail").args(["x", "broken"])];
    let mixed = app.apply(group(mixed)).await.unwrap();
    mixed.get(SOON).await.unwrap_err();
    assert!(mixed.is_failed().await.unwrap() && !mixed.is_successful().await.unwrap());

    let later = (0..3).map(|n| add(n, 1).countdown(secs(3600)));
    let later = app.apply(group(later)).await.unwrap();
    later.revoke().await.unwrap();
    let states = async |group: &AsyncResult| group.children()[0].state().await.unwrap().to_string();
    compat_tests::eventually_async("it is revoked", SOON, async || states(&later).await == "REVOKED").await;
    drop(worker);
}
