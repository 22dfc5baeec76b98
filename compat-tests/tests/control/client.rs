//! The side that asks, in Rust, with workers of both kinds.

use std::time::Duration;

use celeriac::control::{Broadcast, Matcher};
use celeriac::message::Value;

use crate::stage::{SOON, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn questions_to_workers_of_both_kinds_have_typed_answers() {
    let stage = Stage::new();
    let _rust = stage.rust_worker("-n rs@host -Q rs -c 3");
    let _python = stage.python_worker("-n py@host -Q py -c 2");
    let control = stage.client().control();
    let inspect = || control.inspect().timeout(Duration::from_secs(5));
    let sorted = |mut nodes: Vec<String>| {
        nodes.sort();
        nodes
    };
    // Celery's worker says that it is ready a little before it listens.
    compat_tests::eventually_async("both answer", SOON, async || {
        sorted(inspect().ping().await.unwrap()) == ["py@host", "rs@host"]
    })
    .await;
    assert_eq!(inspect().destination(["rs@host"]).ping().await.unwrap(), ["rs@host"]);
    let short = control.inspect().timeout(Duration::from_millis(500));
    assert_eq!(short.pattern("py*", Matcher::Glob).ping().await.unwrap(), ["py@host"]);

    let stats = inspect().stats().await.unwrap();
    let concurrency = |node: &str| stats[node].as_ref().unwrap().pool["max-concurrency"].as_i64();
    assert_eq!((concurrency("rs@host"), concurrency("py@host")), (Some(3), Some(2)));
    let queues = inspect().active_queues().await.unwrap();
    for (node, name) in [("rs@host", "rs"), ("py@host", "py")] {
        let queues = queues[node].as_ref().unwrap();
        assert_eq!((queues.len(), queues[0].name.as_str()), (1, name));
    }
    let registered = inspect().registered(&[]).await.unwrap();
    assert_eq!(registered["rs@host"], registered["py@host"]);
    assert!(inspect().conf(false).await.unwrap()["py@host"].as_ref().unwrap().contains_key("broker_url"));
    assert!(
        inspect().report().await.unwrap()["py@host"].as_ref().unwrap().contains("software -> celery:5.7.0")
    );
    assert!(*inspect().clock().await.unwrap()["py@host"].as_ref().unwrap() > 0);

    let app = stage.client();
    for queue in ["rs", "py"] {
        let mut sleep = celeriac::message::Signature { task: "tools.sleep".to_owned(), ..Default::default() };
        sleep.args = vec![Value::from(30)];
        sleep.options.insert("queue".to_owned(), queue.into());
        sleep.options.insert("task_id".to_owned(), format!("{queue}-task").into());
        app.apply(sleep).await.unwrap();
    }
    let running = compat_tests::eventually_async("both run", Duration::from_secs(10), async || {
        let active = inspect().active().await.ok()?;
        let both = active.values().all(|tasks| tasks.as_ref().is_ok_and(|tasks| tasks.len() == 1));
        (both && active.len() == 2).then_some(active)
    })
    .await;
    let (rust, python) = (running["rs@host"].as_ref().unwrap(), running["py@host"].as_ref().unwrap());
    assert_eq!((rust[0].id.as_str(), rust[0].task_type.as_str()), ("rs-task", "tools.sleep"));
    assert_eq!(rust[0].args, python[0].args);
    let found = inspect().query_task(["rs-task", "py-task", "nope"]).await.unwrap();
    assert_eq!(found["rs@host"].as_ref().unwrap()["rs-task"].0, "active");
    assert_eq!(found["py@host"].as_ref().unwrap()["py-task"].0, "active");

    let patient = control.clone().timeout(Duration::from_secs(5));
    let one = patient.clone().destination(["rs@host"]);
    let refused = Err("unknown task".to_owned());
    let answers = patient.rate_limit("nope", "1/s").await.unwrap();
    assert_eq!((&answers["rs@host"], &answers["py@host"]), (&refused, &refused));
    let answers = one.pool_grow(2).await.unwrap();
    assert_eq!(
        answers.into_iter().collect::<Vec<_>>(),
        [("rs@host".to_owned(), Ok("pool will grow".to_owned()))]
    );
    for (what, answers, agreed) in [
        ("shrink", patient.pool_shrink(1).await, "pool will shrink"),
        ("rate", patient.rate_limit("tools.add", "100/m").await, "new rate limit set successfully"),
        (
            "time",
            patient.time_limit("tools.add", Some(10.0), Some(20.0)).await,
            "time limits set successfully",
        ),
        ("add", patient.add_consumer("extra").await, "add consumer extra"),
        ("cancel", patient.cancel_consumer("extra").await, "no longer consuming from extra"),
        ("restart", one.pool_restart().await, "reload started"),
        ("on", patient.enable_events().await, "task events enabled"),
        ("off", patient.disable_events().await, "task events disabled"),
    ] {
        let answers = answers.unwrap();
        assert!(answers.values().all(|answer| answer.as_deref() == Ok(agreed)), "{what}: {answers:?}");
        assert_eq!(answers.len(), if what == "restart" { 1 } else { 2 }, "{what}");
    }
    let answers = patient.autoscale(3, 1).await.unwrap();
    assert!(
        answers.values().all(|answer| answer == &Err("ValueError('Autoscale not enabled')".to_owned())),
        "{answers:?}"
    );
    let stamps = celeriac::message::Map::from([("tenant".to_owned(), "acme".into())]);
    let answers = patient.revoke_by_stamped_headers(stamps, None).await.unwrap();
    let said = "headers {'tenant': 'acme'} flagged as revoked, but not terminated".to_owned();
    assert!(answers.values().all(|answer| answer == &Ok(said.clone())), "{answers:?}");
    assert!(
        one.inspect().memsample().await.unwrap()["rs@host"]
            .as_ref()
            .unwrap()
            .as_ref()
            .unwrap()
            .ends_with("MB")
    );
    assert!(one.inspect().memdump(3).await.unwrap()["rs@host"].as_ref().unwrap().contains("rss (end)"));
    let replies = control.call(Broadcast::new("greet").argument("name", "you two")).await.unwrap();
    assert!(replies.values().all(|reply| reply.value.as_str() == Some("hello you two")), "{replies:?}");
    let unknown = control.call(Broadcast::new("no_such_command")).await.unwrap();
    assert!(
        unknown.values().all(|reply| reply.error() == Some("KeyError('no_such_command')")),
        "{unknown:?}"
    );

    control.terminate(["rs-task", "py-task"], "SIGKILL").await.unwrap();
    compat_tests::eventually_async("none runs", Duration::from_secs(10), async || {
        inspect().active().await.unwrap().values().all(|tasks| tasks.as_ref().is_ok_and(Vec::is_empty))
    })
    .await;
    control.revoke(["never"]).await.unwrap();
    compat_tests::eventually_async("both know it", Duration::from_secs(10), async || {
        let revoked = inspect().revoked().await.unwrap();
        revoked.values().all(|ids| ids.as_ref().is_ok_and(|ids| ids.contains(&"never".to_owned())))
    })
    .await;
    control.destination(["rs@host", "py@host"]).shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_leaves_no_keys_and_ends_as_soon_as_all_have_answered() {
    let stage = Stage::new();
    let control = stage.client().control();
    // Who waits for more answers than can come waits an hour.
    let patient = || control.inspect().timeout(Duration::from_secs(3600));
    let asked = async {
        assert!(patient().ping().await.unwrap().is_empty(), "nobody listens");
        let mut worker = stage.rust_worker("-n rs@host -c 1");
        worker.wait_for_line("mingle: all alone", SOON);
        for _ in 0..100 {
            assert_eq!(patient().ping().await.unwrap(), ["rs@host"]);
        }
        worker
    };
    let _worker =
        tokio::time::timeout(Duration::from_secs(120), asked).await.expect("no answer is waited for");
    // One who does not wait for the answer.
    let pattern = Broadcast::new("ping").pattern("nobody", Matcher::Glob).timeout(Duration::from_secs(60));
    let cancelled = tokio::time::timeout(Duration::from_millis(100), control.call(pattern)).await;
    assert!(cancelled.is_err());
    compat_tests::eventually("no key is left", SOON, || {
        let bindings: Vec<String> = redis::cmd("SMEMBERS")
            .arg("_kombu.binding.reply.celery.pidbox")
            .query(&mut stage.redis.connection())
            .unwrap();
        let answers: Vec<String> = stage.keys().into_iter().filter(|key| key.contains("pidbox")).collect();
        match (answers.is_empty(), bindings.is_empty()) {
            (true, true) => Ok(()),
            _ => Err(format!("{answers:?} {bindings:?}")),
        }
    });
}

#[test]
fn clients_that_are_killed_while_they_wait_leave_no_key_without_an_end() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 1");
    // The queue for answers is bound, the answer has come, and the client is gone.
    let mut redis = stage.redis.connection();
    let oid = "3450b74a-7509-3c0b-8ec9-5bc78933eaf8";
    let queue = format!("{oid}.reply.celery.pidbox");
    let member = [oid, "", &queue].join("\u{6}\u{16}");
    redis::cmd("SADD").arg("_kombu.binding.reply.celery.pidbox").arg(member).exec(&mut redis).unwrap();
    let samples = compat_tests::workspace_root().join("compat-tests/vectors/control/active.json");
    let sample: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(samples).unwrap()).unwrap();
    redis::cmd("PUBLISH")
        .arg("/0.celery.pidbox")
        .arg(sample["request_raw"].as_str().unwrap())
        .exec(&mut redis)
        .unwrap();
    compat_tests::eventually("the answer waits, for a while", Duration::from_secs(5), || {
        let left: i64 = redis::cmd("PTTL").arg(&queue).query(&mut stage.redis.connection()).unwrap();
        left > 0
    });
}
