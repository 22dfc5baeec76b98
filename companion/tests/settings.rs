//! The settings as an operator meets them.

use std::path::Path;

use companion::settings::{DatabaseUrl, Settings};

const PRODUCTION: [(&str, &str); 3] = [
    ("APP_ENV", "production"),
    ("DATABASE_URL", "postgresql+psycopg2://companion:s3cret@db.internal:5433/companion?sslmode=require"),
    ("REDIS_URL", "redis://:t0psecret@redis.internal:6379/0"),
];

fn problems(vars: &[(&str, &str)]) -> Vec<String> {
    Settings::from_vars(vars.iter().copied()).expect_err("the settings are wrong").problems
}

#[test]
fn development_needs_no_settings_at_all() {
    let settings = Settings::from_vars([("", ""); 0]).expect("defaults");
    assert!(settings.is_development());
    assert_eq!((settings.api_host.as_str(), settings.api_port), ("0.0.0.0", 8000));
    assert!(
        matches!(&settings.database, DatabaseUrl::Sqlite(path) if path == Path::new(".run/companion.db"))
    );
    assert_eq!(settings.notify_file.as_deref(), Some(Path::new(".run/outbox.jsonl")));
    assert_eq!(settings.tz, celeriac_timezone::Timezone::UTC);
    assert!(settings.openai.is_none() && settings.resend.is_none() && settings.expo.is_none());
}

#[test]
fn the_urls_of_the_python_service_are_understood_and_their_passwords_never_shown() {
    let settings = Settings::from_vars(PRODUCTION).expect("valid settings");
    assert_eq!(settings.database.to_string(), "postgresql://db.internal:5433/companion");
    let shown = format!("{settings:?} {settings:#?}");
    assert!(!shown.contains("s3cret") && !shown.contains("t0psecret"), "{shown}");
}

#[test]
fn broker_and_result_backend_are_the_redis_of_the_service_unless_they_are_named() {
    let settings = Settings::from_vars(PRODUCTION).expect("valid settings");
    assert_eq!(settings.broker_url.expose(), settings.redis_url.expose());
    assert_eq!(settings.result_backend.expose(), settings.redis_url.expose());
    let elsewhere = [("CELERY_BROKER_URL", "redis://b/1"), ("CELERY_RESULT_BACKEND", "redis://c/2")];
    let settings = Settings::from_vars(PRODUCTION.into_iter().chain(elsewhere)).expect("valid settings");
    assert_eq!(settings.broker_url.expose(), "redis://b/1");
    assert_eq!(settings.result_backend.expose(), "redis://c/2");
    assert_eq!(settings.redis_url.expose(), "redis://:t0psecret@redis.internal:6379/0");
}

#[test]
fn the_parts_of_a_postgres_address_are_put_together() {
    let parts = [
        ("POSTGRES_HOST", "db"),
        ("POSTGRES_DB", "companion"),
        ("POSTGRES_USER", "app"),
        ("POSTGRES_PASSWORD", "pw"),
    ];
    let settings = Settings::from_vars(parts).expect("valid settings");
    assert_eq!(settings.database.to_string(), "postgresql://db:5432/companion");
    let missing = problems(&[("POSTGRES_HOST", "db")]);
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(
        missing[0].starts_with("POSTGRES_DB is missing")
            && missing[1].starts_with("POSTGRES_USER is missing")
    );
}

#[test]
fn the_port_of_the_platform_wins() {
    let settings = Settings::from_vars([("PORT", "10000"), ("API_PORT", "8001")]).expect("valid settings");
    assert_eq!(settings.api_port, 10000);
    assert_eq!(
        Settings::from_vars([("PORT", ""), ("API_PORT", "8001")]).expect("valid settings").api_port,
        8001
    );
}

#[test]
fn production_names_each_missing_setting() {
    let problems = problems(&[("APP_ENV", "production")]);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("DATABASE_URL is missing; expected postgresql://"));
    assert!(problems[1].starts_with("REDIS_URL is missing; expected redis://"));
}

#[test]
fn all_malformed_settings_are_named_at_once_with_what_is_expected() {
    let problems = problems(&[
        ("API_PORT", "eighty"),
        ("APP_LOG_LEVEL", "LOUD"),
        ("APP_DATABASE__URL", "mysql://u:hidden@h/d"),
        ("REDIS_URL", "http://h:hidden@x"),
        ("OPENAI_BASE_URL", "not a url"),
        ("OPENAI_API_KEY", "sk"),
        ("RESEND_API_KEY", "re_hidden"),
        ("TZ", "Mars/Olympus"),
        ("FEATURE_FLAG_VOICE_MODE", "perhaps"),
        ("RATE_LIMIT_PER_MINUTE", "0"),
    ]);
    let all = problems.join("\n");
    for expected in [
        "API_PORT is \"eighty\"; expected a port",
        "APP_LOG_LEVEL is \"LOUD\"; expected one of DEBUG",
        "APP_DATABASE__URL has the scheme \"mysql\"; expected postgresql://",
        "REDIS_URL is not a Redis URL",
        "OPENAI_BASE_URL is \"not a url\"; expected a URL",
        "RESEND_FROM_EMAIL is missing, but RESEND_API_KEY is set",
        "TZ is \"Mars/Olympus\"; expected a name of the tz database",
        "FEATURE_FLAG_VOICE_MODE is \"perhaps\"; expected true or false",
        "RATE_LIMIT_PER_MINUTE is \"0\"; expected a whole number above 0",
    ] {
        assert!(all.contains(expected), "{expected:?} is not in:\n{all}");
    }
    assert_eq!(problems.len(), 9, "{all}");
    assert!(!all.contains("hidden"), "{all}");
}

#[test]
fn the_file_channel_gives_way_to_configured_channels_and_to_an_empty_name() {
    let outbox = |vars: &[(&'static str, &'static str)]| {
        Settings::from_vars(vars.iter().copied()).expect("valid settings").notify_file
    };
    assert!(outbox(&[]).is_some());
    assert!(outbox(&[("NOTIFY_FILE", "")]).is_none());
    assert!(outbox(&[("EXPO_PUSH_URL", "http://127.0.0.1:1/push")]).is_none());
    assert!(outbox(&[("RESEND_API_KEY", "re"), ("RESEND_FROM_EMAIL", "me@example.com")]).is_none());
    assert_eq!(outbox(&[("NOTIFY_FILE", "x"), ("EXPO_ACCESS_TOKEN", "t")]).as_deref(), Some(Path::new("x")));
    assert!(Settings::from_vars(PRODUCTION).expect("valid settings").notify_file.is_none());
}

#[test]
fn the_file_channel_is_for_development_and_never_for_the_log() {
    let problems = |vars: Vec<(&'static str, &'static str)>| {
        Settings::from_vars(vars).expect_err("NOTIFY_FILE cannot be used").problems
    };
    let expected = "NOTIFY_FILE is set, but a file reaches nobody; unset it, or set APP_ENV=development on a developer's machine";
    for path in ["/tmp/outbox.jsonl", "-"] {
        assert_eq!(problems([&PRODUCTION[..], &[("NOTIFY_FILE", path)]].concat()), [expected]);
    }
    let expected = "NOTIFY_FILE is \"-\"; expected a path, since people's words belong in no log";
    assert_eq!(problems(vec![("NOTIFY_FILE", "-")]), [expected]);
}

#[test]
fn feature_flags_are_read_from_their_prefix() {
    let vars = [("FEATURE_FLAG_VOICE_MODE", "true"), ("FEATURE_FLAG_CALENDAR_INTEGRATION", "off")];
    let flags = Settings::from_vars(vars).expect("valid settings").feature_flags;
    assert_eq!(flags.get("voice_mode"), Some(&true));
    assert_eq!(flags.get("calendar_integration"), Some(&false));
}
