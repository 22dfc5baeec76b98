//! Waiting for results that come one after the other, and reading those of many tasks at once.

use std::time::Duration;

use celeriac::backend::{TaskMeta, TaskState};
use celeriac::canvas::group;
use celeriac::message::Signature;
use celeriac::{AsyncResult, Celery, Error, Value};
use compat_tests::secs;

use crate::stage::Stage;

async fn sent(app: &Celery, members: i64) -> AsyncResult {
    let members = (0..members).map(|number| Signature::new("canvas.double").arg(number));
    app.apply(group(members)).await.unwrap()
}

async fn succeed(app: &Celery, member: &AsyncResult, value: i64) {
    let meta = TaskMeta::new(member.id(), TaskState::Success, Value::Int(value));
    app.backend().unwrap().store(&meta).await.unwrap();
}

/// No worker is here: the members succeed as the test wants it.
#[tokio::test]
async fn the_deadline_counts_for_all_members_of_a_group() {
    let stage = Stage::new();
    let app = stage.client();
    let sums = sent(&app, 5).await;
    let one_after_the_other = async {
        for (value, member) in sums.children().iter().enumerate() {
            tokio::time::sleep(Duration::from_millis(700)).await;
            succeed(&app, member, value as i64).await;
        }
    };
    let (late, ()) = tokio::join!(sums.get(secs(2)), one_after_the_other);
    assert!(matches!(late, Err(Error::Timeout { deadline, .. }) if deadline == secs(2)), "{late:?}");
    assert_eq!(sums.get_as::<Vec<i64>>(secs(60)).await.unwrap(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn the_states_of_a_large_group_are_read_together() {
    let stage = Stage::new();
    let app = stage.client();
    let sums = sent(&app, 700).await;
    let members = sums.children();
    succeed(&app, &members[0], 1).await;
    succeed(&app, &members[699], 1).await;
    let calls = |name: &str| {
        let stats: String =
            redis::cmd("INFO").arg("commandstats").query(&mut stage.redis.connection()).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    let before = calls("get");
    assert_eq!(sums.completed_count().await.unwrap(), 2);
    assert!(!sums.is_ready().await.unwrap());
    assert_eq!((calls("get") - before, calls("mget")), (0, 4));
}

/// Each of those who wait for a result hears of it, whatever it does at that moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_waits_for_a_result_hears_of_it() {
    let stage = Stage::new();
    let app = stage.client();
    for round in 0..40 {
        let result = sent(&app, 1).await.children().remove(0);
        let waiters = (0..8).map(|_| {
            let result = result.clone();
            // Well below the time after which a waiter looks although it has heard nothing.
            tokio::spawn(async move { result.get(secs(8)).await })
        });
        let waiters: Vec<_> = waiters.collect();
        tokio::time::sleep(Duration::from_micros(50 * round)).await;
        succeed(&app, &result, 1).await;
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap().unwrap(), Value::Int(1));
        }
    }
}
