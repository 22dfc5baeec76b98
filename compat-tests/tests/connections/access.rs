//! Users and their rights, passwords, sockets, database numbers, prefixes.

use compat_tests::{RedisServer, eventually, secs};
use serde_json::json;

use crate::stage::Stage;

/// What the documentation on connections gives the user of an application whose keys begin with `app:`.
fn rules() -> String {
    let page = include_str!("../../../docs/connections.md");
    let (_, rest) = page.split_once("```acl\n").expect("the page has the rules");
    rest.split_once("```").expect("the rules end").0.to_owned()
}

#[test]
fn a_user_with_only_the_documented_rights_can_do_everything() {
    let redis = RedisServer::start();
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER").arg("app").arg(">p@ss/w:rd%").arg("on");
    rules().split_whitespace().for_each(|rule| {
        set.arg(rule);
    });
    let _: String = set.query(&mut redis.connection()).unwrap();
    let prefixed = json!({"global_keyprefix": "app:"});
    let stage =
        Stage::at(format!("redis://app:p%40ss%2Fw%3Ard%25@127.0.0.1:{}/0", redis.port())).options(prefixed);
    // Celery's client in Python needs other commands: it comes as the default user.
    let url = redis.url();
    let python = json!({"broker_url": url, "result_backend": url});
    let mut worker = stage.worker("one", 4);
    stage.call(1);
    stage.call_from_python(2, python);
    stage.everything();
    // A dead worker's messages, in flight and recorded, come back under these rights, too.
    let mut redis_of_all = redis.connection();
    let mut ask = |command: &[&str]| -> redis::Value {
        redis::cmd(command[0]).arg(&command[1..]).query(&mut redis_of_all).unwrap()
    };
    for (number, tag) in [(3, "in-flight"), (4, "recorded")] {
        let raw = stage.message(number);
        if tag == "recorded" {
            ask(&["HSET", "app:unacked", tag, &format!("[{raw}, \"\", \"celery\"]")]);
            ask(&["ZADD", "app:unacked_index", "1", tag]);
        } else {
            ask(&["LPUSH", "app:celeriac.inflight.gone.0", &raw]);
            ask(&["ZADD", "app:celeriac.inflight", "1", "gone"]);
        }
    }
    eventually("they are brought back", secs(60), || {
        ask(&["EXISTS", "app:unacked", "app:celeriac.inflight.gone.0"]) == redis::Value::Int(0)
    });
    assert!(worker.lines_with("no right to|refuses something").is_empty());
    assert!(worker.terminate(secs(20)).success());
    let denied: Vec<Vec<redis::Value>> = redis::cmd("ACL").arg("LOG").query(&mut redis.connection()).unwrap();
    assert!(denied.is_empty(), "the user was denied something: {denied:?}");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.connection()).unwrap();
    assert!(keys.iter().all(|key| key.starts_with("app:")), "{keys:?}");
}

#[test]
fn a_wrong_password_is_told_without_showing_it() {
    let redis = RedisServer::options().password("right").start();
    let stage = Stage::at(format!("redis://:wr0ng@127.0.0.1:{}/0", redis.port()));
    let mut worker = stage.start_worker("one", 1);
    worker.wait_for_line("WRONGPASS|wrong user or password|invalid username-password", secs(20));
    assert!(worker.lines_with("wr0ng").is_empty());
}

#[test]
fn a_socket_a_database_and_a_password_with_odd_characters_work_together() {
    let redis = RedisServer::options().password("p@:/?#%").start();
    let url = format!("redis+socket://:p%40%3A%2F%3F%23%25@{}?virtual_host=5", redis.socket().display());
    let python = format!("redis://:p%40%3A%2F%3F%23%25@127.0.0.1:{}/5", redis.port());
    let python = json!({"broker_url": python, "result_backend": python});
    Stage::at(url).works_with_everybody(python);
    let other: i64 = redis::cmd("DBSIZE").query(&mut redis.connection()).unwrap();
    assert_eq!(other, 0, "everything is in database 5");
}
