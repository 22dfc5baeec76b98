//! The service as built: migrated, seeded, its programs started one by one, in a folder laid out like the api's image.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use compat_tests::{
    Database, Port, PostgresServer, Process, PythonCommand, PythonEnv, RedisServer, binary, eventually_async,
    run, scratch_dir, secs, workspace_root,
};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The key of the seeded demo user.
pub(crate) const API_KEY: &str = "sk-demo-accountability";
/// The admin key that the stack is started with.
pub(crate) const ADMIN_KEY: &str = "admin-key-of-the-test";
/// The first task that beat starts, and the runbook's commands.
pub(crate) const SEND_DUE: &str = "app.tasks.reminders.send_due_reminders";

/// How long a program may take to start or to recover on a busy machine.
pub(crate) const SOON: Duration = secs(30);

/// What the environment of the test might have set, and the stack must not take up.
const STRAY_SETTINGS: [&str; 9] = [
    "PORT",
    "DATABASE_URL",
    "APP_REDIS__URL",
    "OPENAI_API_KEY",
    "RESEND_API_KEY",
    "EXPO_ACCESS_TOKEN",
    "EXPO_PUSH_URL",
    "RATE_LIMIT_PER_MINUTE",
    "RUST_LOG",
];

pub(crate) struct Stack {
    pub(crate) redis: RedisServer,
    pub(crate) database_url: String,
    database: Option<Database>,
    port: Port,
    folder: TempDir,
    http: Client,
}

/// Where the data live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

impl Stack {
    /// A migrated and seeded stack of which no program runs yet.
    pub(crate) fn new(on: On) -> Self {
        let database = (on == On::Postgres).then(PostgresServer::database);
        Self::empty(database).prepared()
    }

    /// Migrated and seeded, on a database of a PostgreSQL server that the test keeps.
    pub(crate) fn prepared_on(server: &PostgresServer) -> Self {
        Self::on_server(server).prepared()
    }

    fn prepared(self) -> Self {
        self.companion(&["migrate"]);
        self.companion(&["seed", "--demo"]);
        self
    }

    /// On a database of a PostgreSQL server that the test may kill; not migrated.
    pub(crate) fn on_server(server: &PostgresServer) -> Self {
        Self::empty(Some(server.create_database()))
    }

    fn empty(database: Option<Database>) -> Self {
        let folder = scratch_dir("stack");
        lay_out_image(folder.path());
        let sqlite = format!("sqlite://{}", folder.path().join("companion.db").display());
        let database_url = database.as_ref().map_or(sqlite, |database| database.url().to_owned());
        // reqwest is built without a provider of its own; a second one to install in the same process is refused.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().timeout(secs(20)).build().expect("a client");
        Self {
            redis: RedisServer::options().append_only().start(),
            database_url,
            database,
            port: Port::free(),
            folder,
            http,
        }
    }

    /// The folder that is `/app` in the image.
    pub(crate) fn app_dir(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// One of `companion-api`, `companion-worker`, `companion-beat`.
    #[track_caller]
    pub(crate) fn start(&self, program: &str) -> Process {
        Process::spawn(program, &self.command(program))
    }

    /// A program with the stack's settings, not started yet.
    #[track_caller]
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(binary(program));
        for stray in STRAY_SETTINGS {
            command.env_remove(stray);
        }
        command.envs(self.settings()).current_dir(self.folder.path());
        command
    }

    /// The api and a worker, up to a healthy `/healthz`.
    pub(crate) async fn start_api_and_worker(&self) -> (Process, Process) {
        let both = (self.start("companion-api"), self.start("companion-worker"));
        self.await_health("ok", "ok", "ok").await;
        both
    }

    #[track_caller]
    fn companion(&self, arguments: &[&str]) {
        run(self.command("companion").args(arguments), SOON).success();
    }

    /// A command of the runbook, as typed in the api container: `line` is split at spaces.
    pub(crate) fn exec(&self, line: &str) -> PythonCommand {
        let (program, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let python = PythonEnv::get();
        let path = format!(
            "{}:{}:{}",
            python.bin_dir().display(),
            self.folder.path().join("usr/local/bin").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let venv = python.bin_dir().parent().expect("bin lies in the venv").to_owned();
        let mut command = python.program(program, arguments.split(' ').filter(|word| !word.is_empty()));
        for (key, value) in self.settings() {
            command = command.env(&key, value);
        }
        command.env("PATH", path).env("VIRTUAL_ENV", venv).current_dir(self.app_dir())
    }

    /// `celery -A app.celery_app ARGUMENTS`
    pub(crate) fn celery(&self, arguments: &str) -> PythonCommand {
        self.exec(&format!("celery -A app.celery_app {arguments}"))
    }

    /// The settings of all programs of the stack.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        [
            ("REDIS_URL", self.redis.url()),
            ("APP_DATABASE__URL", self.database_url.clone()),
            ("API_HOST", "127.0.0.1".into()),
            ("API_PORT", self.port.number().to_string()),
            ("NOTIFY_FILE", self.outbox().display().to_string()),
            ("ADMIN_API_KEY", ADMIN_KEY.into()),
            ("APP_ENV", "development".into()),
            ("TZ", "UTC".into()),
            ("APP_LOG_LEVEL", "INFO".into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    pub(crate) fn outbox(&self) -> PathBuf {
        self.folder.path().join("outbox.jsonl")
    }

    /// Returns the number of deliveries so far, without reading them.
    pub(crate) fn delivered(&self) -> usize {
        fs::read(self.outbox()).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
    }

    /// What was delivered, oldest first.
    pub(crate) fn deliveries(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.outbox()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("the outbox holds JSON lines")).collect()
    }

    /// Rows of the database, on PostgreSQL.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.database.as_ref().expect("this stack runs on PostgreSQL").execute(sql)
    }

    /// The file of the database, on SQLite.
    pub(crate) fn database_file(&self) -> String {
        self.folder.path().join("companion.db").display().to_string()
    }

    /// Makes reminders of the demo user that are due, in the form in which the Python service wrote them.
    pub(crate) fn make_due(&self, count: usize) {
        const COLUMNS: &str =
            "INSERT INTO reminders (id, user_id, text, run_ts, local_ts, utc_ts, correlation_id, status)";
        if self.database.is_some() {
            self.sql(&format!(
                "{COLUMNS} SELECT gen_random_uuid(), users.id, 'backlog ' || i, now(), now(), now(), 'backlog', 'scheduled' \
                 FROM users, generate_series(1, {count}) AS i"
            ));
            return;
        }
        let now = "strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now')";
        let insert = format!(
            "{COLUMNS} WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             SELECT randomblob(16), users.id, 'backlog ' || i, {now}, {now}, {now}, 'backlog', 'scheduled' FROM users, n"
        );
        let script = format!(
            "import sqlite3\nbase = sqlite3.connect({:?}, timeout=30)\nbase.execute({insert:?})\nbase.commit()\n",
            self.database_file()
        );
        PythonEnv::get().script(&script).run().success();
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// Where the api answers.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// GET as the demo user; the answer must be JSON.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path).header("X-API-Key", API_KEY)).await.expect("the api answers")
    }

    /// POST as the demo user; the answer must be JSON.
    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.request(Method::POST, path).header("X-API-Key", API_KEY).json(&body);
        answer(request).await.expect("the api answers")
    }

    /// One chat turn that makes a reminder; returns its id.
    pub(crate) async fn remind(&self, words: &str) -> String {
        let (status, body) = self.post("/chat", json!({"message": format!("Remind me to {words}")})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let action = &body["actions"][0];
        assert_eq!(action["tool"], "schedule_reminder", "{body}");
        action["result"]["id"].as_str().expect("the action names the reminder").to_owned()
    }

    pub(crate) async fn status_of(&self, reminder: &str) -> String {
        let (_, list) = self.get("/reminders").await;
        let found = list.as_array().expect("a list").iter().find(|row| row["id"] == reminder).cloned();
        found.expect("the reminder is in the list")["status"].as_str().expect("a status").to_owned()
    }

    /// Waits until the reminder is due, then until repeated scans by Python Celery have delivered it.
    pub(crate) async fn await_status(&self, reminder: &str, status: &str) {
        eventually_async(&format!("reminder {reminder} is {status}"), SOON, async || {
            self.status_of(reminder).await == status
        })
        .await;
    }

    /// Waits until the time of the reminder has come.
    pub(crate) async fn await_due(&self, reminder: &str) {
        let (_, list) = self.get("/reminders").await;
        let row = list.as_array().expect("a list").iter().find(|row| row["id"] == reminder).cloned();
        let due = row.expect("the reminder is in the list")["utc_ts"].as_str().expect("a time").to_owned();
        eventually_async(&format!("it is {due}"), SOON, async || {
            let (_, metrics) = self.get("/metrics/basic").await;
            instant(metrics["timestamp"].as_str().expect("a timestamp")) > instant(&due)
        })
        .await;
    }

    pub(crate) async fn counter(&self, name: &str) -> f64 {
        let (_, metrics) = self.get("/metrics/basic").await;
        metrics["counters"][name].as_f64().unwrap_or_else(|| panic!("no counter {name} in {metrics}"))
    }

    /// Waits until `/healthz` says so; each value is `ok` or `fail`.
    pub(crate) async fn await_health(&self, db: &str, redis: &str, celery: &str) {
        eventually_async(
            &format!("/healthz says db {db}, redis {redis}, celery {celery}"),
            SOON,
            async || {
                let (_, health) =
                    answer(self.request(Method::GET, "/healthz")).await.map_err(|error| error.to_string())?;
                let is = |part: &str, wanted: &str| {
                    health[part].as_str().is_some_and(|state| state.starts_with(wanted))
                };
                if is("db", db) && is("redis", redis) && is("celery", celery) {
                    Ok(())
                } else {
                    Err(health.to_string())
                }
            },
        )
        .await;
    }
}

/// Sends a request; the answer must be JSON.
pub(crate) async fn answer(request: RequestBuilder) -> reqwest::Result<(StatusCode, Value)> {
    let response = request.send().await?;
    let (status, text) = (response.status(), response.text().await?);
    Ok((status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {status}: {text:?}"))))
}

/// Seconds since 1970 of an ISO 8601 time in UTC, with or without fraction and offset.
fn instant(text: &str) -> String {
    // Same zone and same field widths, so the texts up to the second compare as the times do.
    text.replace(' ', "T").chars().take("2026-01-01T00:00:00".len()).collect()
}

/// `app/` is the image's `/app`, `usr/local/bin` holds the programs.
fn lay_out_image(root: &Path) {
    let shim = workspace_root().join("infra/shim");
    copy(&shim.join("app"), &root.join("app/app"));
    fs::copy(shim.join("pyproject.toml"), root.join("app/pyproject.toml")).expect("pyproject.toml is copied");
    let bin = root.join("usr/local/bin");
    fs::create_dir_all(&bin).expect("a folder is made");
    for program in ["companion", "companion-api", "companion-worker", "companion-beat", "celeriac"] {
        symlink(binary(program), bin.join(program)).expect("a link is made");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder is made");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())).flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}
