//! A request with an `Idempotency-Key` whose api is killed between the work and the answer: whoever repeats it gets one result, and
//! nothing is made twice.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use compat_tests::{Process, PythonEnv, eventually_async};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stack::{API_KEY, On, SOON, Stack, answer};

/// A model that uses three tools, and holds back its last word while it is told to.
#[derive(Clone, Default)]
struct Model {
    holds: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
}

impl Model {
    /// Returns the URL for `OPENAI_BASE_URL`.
    fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let model = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let model = model.clone();
                std::thread::spawn(move || model.speak(stream));
            }
        });
        url
    }

    fn speak(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        let asked: Value = serde_json::from_slice(&body).expect("JSON");
        let last = asked["messages"].as_array().and_then(|messages| messages.last()).expect("messages");
        let message = if last["role"] == "tool" {
            if self.holds.load(Ordering::SeqCst) {
                self.held.fetch_add(1, Ordering::SeqCst);
                // Until the api is killed.
                let _ = reader.read(&mut [0]);
                return;
            }
            json!({ "role": "assistant", "content": "All done." })
        } else {
            let call = |id: &str, name: &str, arguments: Value| {
                json!({ "id": id, "type": "function",
                    "function": { "name": name, "arguments": arguments.to_string() } })
            };
            json!({ "role": "assistant", "content": null, "tool_calls": [
                call("1", "schedule_reminder", json!({ "text": "stretch", "run_ts": "2100-01-31T18:00:00+00:00" })),
                call("2", "save_memory", json!({ "type": "note", "text": "tea" })),
                call("3", "add_task", json!({ "title": "file the report" })),
            ] })
        };
        let text = json!({ "choices": [{ "message": message }], "usage": { "total_tokens": 1 } }).to_string();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
        let _ = write!(reader.get_mut(), "{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    }
}

const KEY: &str = "the-one-request";

async fn say(stack: &Stack, words: &str) -> reqwest::Result<(StatusCode, Value)> {
    let request = stack.request(Method::POST, "/chat").header("X-API-Key", API_KEY);
    answer(request.header("Idempotency-Key", KEY).json(&json!({ "message": words }))).await
}

async fn await_health(stack: &Stack) {
    eventually_async("the api answers", SOON, async || {
        stack.request(Method::GET, "/health").send().await.is_ok()
    })
    .await;
}

/// Runs SQL on either database and returns the first column of its first row, if there is one.
fn sql(stack: &Stack, on: On, sql: &str) -> String {
    if on == On::Postgres {
        return stack.sql(sql);
    }
    let script = format!(
        "import sqlite3\nbase = sqlite3.connect({:?}, timeout=30)\nrow = base.execute({sql:?}).fetchone()\n\
         base.commit()\nprint(row[0] if row else '')\n",
        stack.database_file()
    );
    PythonEnv::get().script(&script).run().success()
}

/// As if half a minute had gone by since the api died.
fn let_time_pass(stack: &Stack, on: On) {
    let before = match on {
        On::Postgres => "begun_at - interval '31 s'",
        On::Sqlite => "strftime('%Y-%m-%dT%H:%M:%S+00:00', begun_at, '-31 seconds')",
    };
    sql(stack, on, &format!("UPDATE idempotency_keys SET begun_at = {before}"));
}

/// Repeats the request as clients do, and checks that it took effect once.
async fn check_once(stack: &Stack, on: On, words: &str, tables: &[&str]) -> Value {
    let (status, body) = say(stack, words).await.expect("the api answers");
    assert_eq!(status, StatusCode::CONFLICT, "nobody knows yet that the first one is lost: {body}");
    let_time_pass(stack, on);
    let (status, body) = say(stack, words).await.expect("the api answers");
    assert_eq!(status, StatusCode::OK, "{body}");
    let (_, again) = say(stack, words).await.expect("the api answers");
    assert_eq!(again, body, "and so it stays");
    for table in tables {
        assert_eq!(sql(stack, on, &format!("SELECT count(*) FROM {table}")), "1", "{table}");
    }
    let (_, reminders) = stack.get("/reminders").await;
    assert_eq!(body["actions"][0]["result"]["id"], reminders[0]["id"], "{body}\n{reminders}");
    body
}

async fn a_killed_chat_with_a_model_takes_effect_once(on: On) {
    let (stack, model) = (Stack::new(on), Model::default());
    let url = model.serve();
    let mut command = stack.command("companion-api");
    command.env("OPENAI_API_KEY", "key").env("OPENAI_BASE_URL", url);
    let mut api = Process::spawn("companion-api", &command);
    await_health(&stack).await;
    model.holds.store(true, Ordering::SeqCst);
    let killed = async {
        eventually_async("the tools were used", SOON, async || model.held.load(Ordering::SeqCst) == 1).await;
        api.kill();
    };
    let (first, ()) = tokio::join!(say(&stack, "Do it all"), killed);
    assert!(first.is_err(), "there is no answer: {first:?}");

    model.holds.store(false, Ordering::SeqCst);
    let _api = Process::spawn("companion-api", &command);
    await_health(&stack).await;
    let tables = ["reminders", "memories", "tasks", "outbox_messages", "sessions"];
    let body = check_once(&stack, on, "Do it all", &tables).await;
    assert_eq!(body["assistant_message"], "All done.");
    assert_eq!(body["actions"].as_array().map(Vec::len), Some(3), "{body}");
}

/// The rules understand words by the time at which they were said.
#[tokio::test]
async fn a_killed_chat_without_a_model_takes_effect_once() {
    let (stack, on) = (Stack::new(On::Postgres), On::Postgres);
    let mut api = stack.start("companion-api");
    await_health(&stack).await;
    stack.sql(
        "CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(9); RETURN NEW; END $$; \
         CREATE TRIGGER stand_still BEFORE UPDATE OF answer ON idempotency_keys FOR EACH ROW WHEN (NEW.answer IS NOT NULL) \
         EXECUTE FUNCTION stand_still()",
    );
    let words = "Remind me to stretch in 10 minutes";
    let killed = async {
        eventually_async("the answer is about to be kept", SOON, async || {
            stack.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
        })
        .await;
        api.kill();
    };
    let (first, ()) = tokio::join!(say(&stack, words), killed);
    assert!(first.is_err(), "there is no answer: {first:?}");
    stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    stack.sql("DROP TRIGGER stand_still ON idempotency_keys");
    assert_eq!(stack.sql("SELECT count(*) FROM reminders"), "1");

    let _api = stack.start("companion-api");
    await_health(&stack).await;
    let body = check_once(&stack, on, words, &["reminders", "outbox_messages", "sessions"]).await;
    assert_eq!(
        body["assistant_message"].as_str().map(|said| said.contains("in 10 minutes")),
        Some(true),
        "{body}"
    );
    let action = &body["actions"][0];
    assert_eq!(action["arguments"]["run_ts"], action["result"]["run_ts"], "{body}");
}

mod on_postgres {
    #[tokio::test]
    async fn a_killed_chat_with_a_model_takes_effect_once() {
        super::a_killed_chat_with_a_model_takes_effect_once(crate::stack::On::Postgres).await;
    }
}

mod on_sqlite {
    #[tokio::test]
    async fn a_killed_chat_with_a_model_takes_effect_once() {
        super::a_killed_chat_with_a_model_takes_effect_once(crate::stack::On::Sqlite).await;
    }
}
