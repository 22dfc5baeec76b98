//! Every setting of the three services, read from the environment in one place.
//!
//! All problems are collected, so that one start shows everything that has to be corrected. An empty value counts
//! as unset, since Compose files pass `NAME=` for what is not given.

mod database;
mod network;
mod reader;
mod secret;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use celeriac_timezone::Timezone;
use log::LevelFilter;

pub use database::{DatabaseUrl, PoolSettings};
pub use network::{CorsOrigins, Network};
pub use secret::Secret;

use crate::redis_url;
use reader::Reader;

/// The settings of api, worker and beat.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `APP_ENV`: `development` (default) fills what is missing with local defaults; any other name does not.
    pub app_env: String,
    /// `API_HOST`, default `0.0.0.0`.
    pub api_host: String,
    /// `PORT` where set (as on Render), else `API_PORT`, default 8000.
    pub api_port: u16,
    /// `API_MAX_CONNECTIONS`, default 1000: connections that the api keeps open at a time.
    pub api_max_connections: u32,
    /// `CORS_ALLOW_ORIGINS`, default none: pages of these origins may use the API; `*` or a list with commas.
    pub cors_origins: CorsOrigins,
    /// `TRUSTED_PROXIES`, default none: addresses and networks whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<Network>,
    /// `APP_LOG_LEVEL` with Python's level names, default `INFO`.
    pub log_level: LevelFilter,
    /// `APP_DATABASE__URL`, `DATABASE_URL` or `POSTGRES_*`; in development an SQLite file by default.
    pub database: DatabaseUrl,
    /// `DATABASE_POOL_SIZE` and `DATABASE_STATEMENT_TIMEOUT`.
    pub database_pool: PoolSettings,
    /// `REDIS_URL` or `APP_REDIS__URL`; in development `redis://127.0.0.1:6379/0` by default.
    pub redis_url: Secret,
    /// `CELERY_BROKER_URL`, by default [`Settings::redis_url`].
    pub broker_url: Secret,
    /// `CELERY_RESULT_BACKEND`, by default [`Settings::redis_url`].
    pub result_backend: Secret,
    /// Set when `OPENAI_API_KEY` is; the chat works offline otherwise.
    pub openai: Option<OpenAiSettings>,
    /// Set when `RESEND_API_KEY` is.
    pub resend: Option<ResendSettings>,
    /// Set outside development, and in development when `EXPO_ACCESS_TOKEN` or `EXPO_PUSH_URL` is.
    pub expo: Option<ExpoSettings>,
    /// `NOTIFY_FILE`, for development only: the file to which notifications are appended as JSON lines. It defaults to
    /// `.run/outbox.jsonl` when no other channel is configured; empty switches it off.
    pub notify_file: Option<PathBuf>,
    /// `ADMIN_API_KEY`; without it the admin routes are closed.
    pub admin_api_key: Option<Secret>,
    /// `SECRET_KEY`, kept for the previous release; nothing here signs with it yet.
    pub secret_key: Option<Secret>,
    /// `FEATURE_FLAG_<KEY>`, keys in lower case; they win over the rows of the database.
    pub feature_flags: BTreeMap<String, bool>,
    /// `TZ`: the time zone in which people's words are understood, default `UTC`.
    pub tz: Timezone,
    /// `RATE_LIMIT_PER_MINUTE`, default 10: chat requests of one user within a minute.
    pub rate_limit_per_minute: u32,
    /// `RATE_LIMIT_PER_HOUR`, default 100: chat requests of one user within an hour.
    pub rate_limit_per_hour: u32,
    /// `REMINDER_RETRY_SECONDS`, default 60: the wait after the first failed attempt; it doubles up to an hour.
    pub reminder_retry: Duration,
}

/// An OpenAI-compatible server.
#[derive(Debug, Clone)]
pub struct OpenAiSettings {
    /// `OPENAI_API_KEY`.
    pub api_key: Secret,
    /// `OPENAI_BASE_URL`, default `https://api.openai.com/v1`.
    pub base_url: String,
    /// `OPENAI_MODEL`, default `gpt-4o-mini`.
    pub model: String,
}

/// The e-mail service Resend.
#[derive(Debug, Clone)]
pub struct ResendSettings {
    /// `RESEND_API_KEY`.
    pub api_key: Secret,
    /// `RESEND_FROM_EMAIL`.
    pub from_email: String,
    /// `RESEND_BASE_URL`, default `https://api.resend.com`.
    pub base_url: String,
}

/// The push service of Expo.
#[derive(Debug, Clone)]
pub struct ExpoSettings {
    /// `EXPO_ACCESS_TOKEN`, needed only when the Expo project asks for it.
    pub access_token: Option<Secret>,
    /// `EXPO_PUSH_URL`.
    pub push_url: String,
}

/// Everything that is wrong with the settings, each named with the value expected.
#[derive(Debug, thiserror::Error)]
#[error("{} of the settings cannot be used:{}", problems.len(), listed(problems))]
pub struct SettingsError {
    /// One line for each setting.
    pub problems: Vec<String>,
    /// Whether this is the development environment, as far as can be told.
    pub is_development: bool,
    /// The level of the log, as far as it can be told.
    pub log_level: LevelFilter,
}

fn listed(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

const DEVELOPMENT: &str = "development";
const DEFAULT_EXPO_URL: &str = "https://exp.host/--/api/v2/push/send";

impl Settings {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// All settings that are missing or malformed, by name.
    pub fn from_env() -> Result<Self, SettingsError> {
        let readable = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_vars(readable)
    }

    /// Reads settings from pairs of names and values, as [`Settings::from_env`] does from the environment.
    ///
    /// # Errors
    /// All settings that are missing or malformed, by name.
    pub fn from_vars<I, K, V>(vars: I) -> Result<Self, SettingsError>
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<String>,
        V: Into<String>,
    {
        let mut reader = Reader::new(vars);
        let app_env = reader.text("APP_ENV").unwrap_or_else(|| DEVELOPMENT.to_owned());
        let development = app_env == DEVELOPMENT;
        let resend = resend(&mut reader);
        let expo = expo(&mut reader, development);
        let database = database::read(&mut reader, development);
        let redis_url = redis_url(&mut reader, development);
        let outbox_by_default = development && resend.is_none() && expo.is_none();
        let settings = Self {
            api_host: reader.text("API_HOST").unwrap_or_else(|| "0.0.0.0".to_owned()),
            api_port: reader.port("PORT").or_else(|| reader.port("API_PORT")).unwrap_or(8000),
            api_max_connections: reader.positive("API_MAX_CONNECTIONS").unwrap_or(1000),
            cors_origins: network::cors_origins(&mut reader),
            trusted_proxies: network::trusted_proxies(&mut reader),
            log_level: reader.level("APP_LOG_LEVEL").unwrap_or(LevelFilter::Info),
            database,
            database_pool: PoolSettings::read(&mut reader),
            broker_url: reader.secret("CELERY_BROKER_URL").unwrap_or_else(|| redis_url.clone()),
            result_backend: reader.secret("CELERY_RESULT_BACKEND").unwrap_or_else(|| redis_url.clone()),
            redis_url,
            openai: openai(&mut reader),
            notify_file: notify_file(&mut reader, development, outbox_by_default),
            admin_api_key: reader.secret("ADMIN_API_KEY"),
            secret_key: reader.secret("SECRET_KEY"),
            feature_flags: reader.flags("FEATURE_FLAG_"),
            tz: reader.time_zone("TZ").unwrap_or(Timezone::UTC),
            rate_limit_per_minute: reader.positive("RATE_LIMIT_PER_MINUTE").unwrap_or(10),
            rate_limit_per_hour: reader.positive("RATE_LIMIT_PER_HOUR").unwrap_or(100),
            reminder_retry: Duration::from_secs(
                reader.positive("REMINDER_RETRY_SECONDS").unwrap_or(60).into(),
            ),
            app_env,
            resend,
            expo,
        };
        match reader.into_problems() {
            problems if problems.is_empty() => Ok(settings),
            problems => {
                let (is_development, log_level) = (settings.is_development(), settings.log_level);
                Err(SettingsError { problems, is_development, log_level })
            }
        }
    }

    /// Whether this is the development environment.
    pub fn is_development(&self) -> bool {
        self.app_env == DEVELOPMENT
    }
}

fn redis_url(reader: &mut Reader, development: bool) -> Secret {
    let found = ["REDIS_URL", "APP_REDIS__URL"].into_iter().find_map(|name| Some((name, reader.text(name)?)));
    match found {
        Some((name, url)) => {
            if let Err(error) = redis_url::client(&url) {
                reader.problem(name, &error.to_string());
            }
            Secret::new(url)
        }
        None if development => Secret::new("redis://127.0.0.1:6379/0"),
        None => {
            reader.problem("REDIS_URL", "is missing; expected redis://[user:password@]host:port/database");
            Secret::new("")
        }
    }
}

fn openai(reader: &mut Reader) -> Option<OpenAiSettings> {
    let base_url =
        reader.http_url("OPENAI_BASE_URL").unwrap_or_else(|| "https://api.openai.com/v1".to_owned());
    let model = reader.text("OPENAI_MODEL").unwrap_or_else(|| "gpt-4o-mini".to_owned());
    Some(OpenAiSettings { api_key: reader.secret("OPENAI_API_KEY")?, base_url, model })
}

fn resend(reader: &mut Reader) -> Option<ResendSettings> {
    let base_url = reader.http_url("RESEND_BASE_URL").unwrap_or_else(|| "https://api.resend.com".to_owned());
    let api_key = reader.secret("RESEND_API_KEY")?;
    let from_email = reader.text("RESEND_FROM_EMAIL");
    if !from_email.as_deref().is_some_and(|address| address.contains('@')) {
        let problem = match from_email {
            None => "is missing, but RESEND_API_KEY is set",
            Some(_) => "is not an e-mail address",
        };
        reader
            .problem("RESEND_FROM_EMAIL", &format!("{problem}; expected Name <name@domain> or name@domain"));
    }
    Some(ResendSettings { api_key, from_email: from_email.unwrap_or_default(), base_url })
}

fn expo(reader: &mut Reader, development: bool) -> Option<ExpoSettings> {
    let access_token = reader.secret("EXPO_ACCESS_TOKEN");
    let push_url = reader.http_url("EXPO_PUSH_URL");
    if development && access_token.is_none() && push_url.is_none() {
        return None;
    }
    Some(ExpoSettings { access_token, push_url: push_url.unwrap_or_else(|| DEFAULT_EXPO_URL.to_owned()) })
}

fn notify_file(reader: &mut Reader, development: bool, by_default: bool) -> Option<PathBuf> {
    let problem = match reader.raw("NOTIFY_FILE") {
        None => return by_default.then(|| PathBuf::from(".run/outbox.jsonl")),
        Some("") => return None,
        Some(_) if !development => {
            "is set, but a file reaches nobody; unset it, or set APP_ENV=development on a developer's machine"
        }
        Some("-") => "is \"-\"; expected a path, since people's words belong in no log",
        Some(path) => return Some(PathBuf::from(path)),
    };
    reader.problem("NOTIFY_FILE", problem);
    None
}
