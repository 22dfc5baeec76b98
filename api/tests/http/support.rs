//! The API on a database and a Redis of its own, without a socket.

use companion::{Companion, settings::Settings, store::Demo};
use companion_api::{State, routes};
use compat_tests::{Database, PostgresServer, RedisServer};
use serde_json::{Value, json};
use tempfile::TempDir;
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{Response, StatusCode},
    hyper::body::Bytes,
    reply::Response as Reply,
    test::RequestBuilder,
};

pub(crate) const KEY: &str = "sk-demo-accountability";
pub(crate) const ADMIN: &str = "adm1n-t0ken";

#[derive(Clone, Copy)]
pub(crate) enum On {
    Postgres,
    Sqlite,
}

pub(crate) struct Api {
    routes: BoxedFilter<(Reply,)>,
    pub(crate) companion: Companion,
    pub(crate) redis: RedisServer,
    pub(crate) database: Option<Database>,
    _folder: TempDir,
}

impl Api {
    pub(crate) async fn new(on: On) -> Self {
        Self::with(on, &[("ADMIN_API_KEY", ADMIN)]).await
    }

    pub(crate) async fn with(on: On, vars: &[(&str, &str)]) -> Self {
        let redis = RedisServer::start();
        let folder = TempDir::new().expect("a temporary folder");
        let database = match on {
            On::Postgres => Some(PostgresServer::database()),
            On::Sqlite => None,
        };
        let file = format!("sqlite://{}/companion.db", folder.path().display());
        let url = database.as_ref().map_or(file.as_str(), Database::url);
        let outbox = folder.path().join("outbox.jsonl").display().to_string();
        let base = [
            ("DATABASE_URL", url),
            ("REDIS_URL", &redis.url()),
            ("NOTIFY_FILE", &outbox),
            ("TZ", "Europe/Berlin"),
        ];
        let settings = Settings::from_vars(base.iter().chain(vars).copied()).expect("valid settings");
        let companion = Companion::open(settings).expect("a companion");
        companion.store.migrate().await.expect("migrate");
        companion.store.seed(Demo::Always).await.expect("seed");
        let state = State::new(companion.clone()).expect("a state");
        let routes = routes(state).boxed();
        Self { routes, companion, redis, database, _folder: folder }
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Response<Bytes> {
        request.reply(&self.routes).await
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        parts(&self.send(user(get(path))).await)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        parts(&self.send(user(post(path)).json(&body)).await)
    }

    pub(crate) async fn refuses_nul(&self, path: &str, field: &str, body: Value) {
        let request = user(post(path)).header("x-admin-token", ADMIN).json(&body);
        let (status, answer) = parts(&self.send(request).await);
        let expected = json!([{ "type": "string_nul", "loc": ["body", field], "msg": "String should not contain NUL characters" }]);
        assert_eq!((status, &answer["detail"]), (StatusCode::UNPROCESSABLE_ENTITY, &expected), "{path}");
    }

    pub(crate) async fn admin(&self, request: RequestBuilder) -> (StatusCode, Value) {
        parts(&self.send(request.header("x-admin-token", ADMIN)).await)
    }

    /// The envelopes that wait in the queue `default`.
    pub(crate) fn queued(&self) -> Vec<Value> {
        let mut list = redis::cmd("LRANGE");
        list.arg("default").arg(0).arg(-1);
        let envelopes: Vec<String> = list.query(&mut self.redis.connection()).expect("redis");
        envelopes.iter().map(|envelope| serde_json::from_str(envelope).expect("JSON")).collect()
    }
}

pub(crate) fn get(path: &str) -> RequestBuilder {
    warp::test::request().method("GET").path(path)
}

pub(crate) fn post(path: &str) -> RequestBuilder {
    warp::test::request().method("POST").path(path)
}

pub(crate) fn user(request: RequestBuilder) -> RequestBuilder {
    request.header("x-api-key", KEY)
}

pub(crate) fn parts(response: &Response<Bytes>) -> (StatusCode, Value) {
    (response.status(), serde_json::from_slice(response.body()).unwrap_or(Value::Null))
}

/// Makes two tests of one, on PostgreSQL and on SQLite.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name($crate::support::On::Postgres).await; })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name($crate::support::On::Sqlite).await; })*
        }
    };
}

pub(crate) use on_both;
