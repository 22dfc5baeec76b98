//! Settings as a user gives them: names, defaults, precedence, errors, and what is shown.

use std::time::Duration;

use celeriac::config::{BodySerializer, Concurrency, Config, RateLimit, Serializer, Url, markdown, settings};
use serde_json::{Value, json};

#[test]
fn every_setting_of_celery_is_known_with_its_default() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/celery-5.7.0-settings.json")).unwrap();
    let config = Config::default();
    // Unset means the same.
    let differ_on_purpose = ["task_routes", "redis_backend_use_ssl"];
    for (name, default) in fixture["defaults"].as_object().unwrap() {
        let ours = config.get(name).unwrap_or_else(|| panic!("setting {name} is missing"));
        let same = ours == *default || ours.as_f64().is_some() && ours.as_f64() == default.as_f64();
        assert!(same || differ_on_purpose.contains(&name.as_str()), "{name}: {ours} is not {default}");
    }
}

#[test]
fn every_setting_that_celery_documents_is_known() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/celery-5.7.0-settings.json")).unwrap();
    let documented = fixture["documented"].as_array().unwrap();
    assert!(documented.len() > 200);
    let config = Config::default();
    let unknown: Vec<&Value> =
        documented.iter().filter(|name| config.get(name.as_str().unwrap()).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn later_sources_win() {
    let mut config = Config::default();
    config
        .merge_toml("task_default_queue = 'file'\nworker_prefetch_multiplier = 1\nresult_expires = 60", "f")
        .unwrap();
    config
        .merge_env([("CELERY_TASK_DEFAULT_QUEUE", "env"), ("CELERY_RESULT_EXPIRES", "0.5"), ("PATH", "/bin")])
        .unwrap();
    config.set("result-expires", "7").unwrap();
    assert_eq!(config.task_default_queue, "env");
    assert_eq!(config.worker_prefetch_multiplier, 1);
    assert_eq!(config.result_expires, Some(Duration::from_secs(7)));
}

#[test]
fn the_environment_gives_switches_numbers_lists_and_mappings() {
    let mut config = Config::default();
    config
        .merge_env([
            ("CELERY_BROKER_URL", "redis://:pw@127.0.0.1:6379/0"),
            ("CELERY_TASK_ACKS_LATE", "Yes"),
            ("CELERY_ENABLE_UTC", "off"),
            ("CELERY_WORKER_CONCURRENCY", "8"),
            ("CELERY_ACCEPT_CONTENT", "json, msgpack"),
            ("CELERY_RESULT_ACCEPT_CONTENT", r#"["yaml"]"#),
            ("CELERY_BROKER_TRANSPORT_OPTIONS", r#"{"visibility_timeout": 5}"#),
            ("CELERY_TASK_ROUTES", r#"{"feed.*": "feeds"}"#),
            ("CELERY_TASK_QUEUES", "a,b"),
            ("CELERY_TASK_DEFAULT_RATE_LIMIT", "90/m"),
            ("CELERY_TIMEZONE", "Europe/Warsaw"),
            ("CELERY_BROKER_HEARTBEAT", "none"),
            ("CELERY_BEAT_SCHEDULE", r#"{"tick": {"task": "proj.tick", "schedule": 5}}"#),
        ])
        .unwrap();
    assert!(config.task_acks_late && !config.enable_utc);
    assert_eq!(config.worker_concurrency.map(Concurrency::slots), Some(8));
    assert_eq!(config.accept_content[..], [Serializer::Json, Serializer::Msgpack].map(BodySerializer::from));
    assert_eq!(config.result_accept_content, Some(vec![Serializer::Yaml.into()].into()));
    assert_eq!(config.broker_transport_options.visibility_timeout(), Duration::from_secs(5));
    assert_eq!(config.task_routes.find("feed.read").unwrap().queue(), Some("feeds"));
    assert!(config.task_queues.as_ref().unwrap().get("b").is_some());
    assert_eq!(config.task_default_rate_limit.map(RateLimit::rate), Some(1.5));
    assert_eq!(config.timezone.unwrap().name(), "Europe/Warsaw");
    assert_eq!(config.broker_heartbeat, None);
    config.set("task_default_rate_limit", "0").unwrap();
    assert_eq!(config.task_default_rate_limit, None);
    assert_eq!(config.beat_schedule["tick"]["schedule"], 5);
}

#[test]
fn a_bad_setting_is_named_with_its_value_and_what_is_expected() {
    for (variable, value, parts) in [
        (
            "CELERY_TASK_ACKS_LATE",
            "maybe",
            ["task_acks_late", "CELERY_TASK_ACKS_LATE", "\"maybe\"", "true or false"],
        ),
        (
            "CELERY_WORKER_PREFETCH_MULTIPLIER",
            "-1",
            ["worker_prefetch_multiplier", "-1", "whole number", "0 or more"],
        ),
        ("CELERY_RESULT_EXPIRES", "1 day", ["result_expires", "1 day", "seconds", "0 or more"]),
        ("CELERY_ACCEPT_CONTENT", "pickle", ["accept_content", "pickle", "msgpack", "never decoded"]),
        ("CELERY_RESULT_EXPIRES", "1e19", ["result_expires", "1e19", "seconds", "at most"]),
        (
            "CELERY_BROKER_TRANSPORT_OPTIONS",
            r#"{"queue_order_strategy": "proj:mine"}"#,
            ["queue_order_strategy", "proj:mine", "round_robin", "sorted"],
        ),
        ("CELERY_TASK_ALWAYS_EAGER", "1", ["task_always_eager", "\"1\"", "false", "broker"]),
        ("CELERY_TASK_ROUTES", "[1]", ["task_routes", "[1]", "mapping", "queue"]),
        (
            "CELERY_BROKER_TRANSPORT_OPTIONS",
            r#"{"visibility_timeout": "x"}"#,
            ["visibility_timeout", "x", "number", ""],
        ),
        ("CELERY_TIMEZONE", "Mars", ["timezone", "Mars", "time zone", "IANA"]),
        ("CELERY_TASK_ACK_LATE", "1", ["unknown setting", "task_ack_late", "did you mean", "task_acks_late"]),
        ("CELERY_BROKER_URL", "localhost:6379", ["broker_url", "localhost:6379", "redis://", "sentinel://"]),
    ] {
        let error = Config::default().merge_env([(variable, value)]).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{variable}: {error}");
        }
    }
}

#[test]
fn errors_in_a_file_name_the_file_and_the_line() {
    let error = Config::default().merge_toml("a = 1\nb = = 2", "proj.toml").unwrap_err().to_string();
    assert!(error.contains("proj.toml") && error.contains("line 2"), "{error}");
    let error = Config::default().merge_toml("task_acks_late = 7", "proj.toml").unwrap_err().to_string();
    assert!(error.contains("proj.toml") && error.contains("task_acks_late"), "{error}");
}

#[test]
fn variables_of_celerys_programs_and_of_service_links_are_passed_over() {
    let mut config = Config::default();
    config
        .merge_env([
            ("CELERY_APP", "proj"),
            ("CELERY_LOADER", "x"),
            ("CELERY_CONFIG_MODULE", "conf"),
            ("CELERY_SKIP_CHECKS", "1"),
            ("CELERY_WORKER_QUEUES", "a"),
            ("CELERY_WORKER_LOGLEVEL", "INFO"),
            ("CELERY_SERVICE_HOST", "10.0.0.1"),
            ("CELERY_PORT", "tcp://10.0.0.1:80"),
            ("CELERY_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("CELERYD_NODES", "w1"),
        ])
        .unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn secrets_are_masked_wherever_settings_are_shown() {
    let mut config = Config::default();
    config.set("broker_url", "redis://:hunter2@h:6379/0").unwrap();
    config.set("result_backend", "sentinel://:hunter2@a:1;sentinel://:hunter2@b:2").unwrap();
    config.set("redis_password", "hunter2").unwrap();
    let options = r#"{"sentinel_kwargs": {"password": "hunter2"}, "master_name": "m"}"#;
    config.set("broker_transport_options", options).unwrap();
    config.set("task_default_routing_key", "hunter2").unwrap();
    let shown = Value::Object(config.to_map(false, true));
    assert_eq!(shown["broker_url"], "redis://:********@h:6379/0");
    assert_eq!(shown["result_backend"], "sentinel://:********@a:1;sentinel://:********@b:2");
    assert_eq!(shown["broker_transport_options"]["master_name"], "m");
    for text in [shown.to_string(), format!("{config:?}"), format!("{:?}", config.broker_url)] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(config.to_map(false, false)["redis_password"], "hunter2");
    assert_eq!(config.broker_url.as_ref().map(Url::expose), Some("redis://:hunter2@h:6379/0"));
}

#[test]
fn errors_do_not_print_secrets() {
    for (name, value) in [
        ("broker_url", ":hunter2@host"),
        ("broker_url", "user:hunter2"),
        ("broker_url", r#"["user:hunter2", "redis://h"]"#),
        ("broker_transport_options", r#"{"password": "hunter2", "visibility_timeout": "x"}"#),
        ("broker_transport_options", r#"{"password": "hunter2""#),
        ("redis_port", "redis://:hunter2@h"),
        ("broker_use_ssl", r#"{"ssl_keyfile": "hunter2""#),
    ] {
        let error = Config::default().set(name, value).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn only_what_was_given_or_differs_is_shown_without_defaults() {
    let mut config = Config::default();
    config.set("task_acks_late", "false").unwrap();
    config.worker_prefetch_multiplier = 1;
    let shown = config.to_map(false, true);
    assert_eq!(Value::Object(shown), json!({"task_acks_late": false, "worker_prefetch_multiplier": 1}));
    assert_eq!(config.to_map(true, true).len(), settings().len());
}

#[test]
fn what_has_no_effect_is_named_once() {
    let mut config = Config::default();
    assert_eq!(config.remarks(), Vec::<String>::new());
    config.set("worker_executable", "/usr/bin/python3").unwrap();
    config.set("broker_pool_limit", "0").unwrap();
    config.set("redis_client_name", "results").unwrap();
    config.set("worker_umask", "022").unwrap();
    config.set("broker_transport_options", r#"{"max_connections": 20, "client_nam": "x"}"#).unwrap();
    config.set("accept_content", r#"["application/json", "pickle", "application/text"]"#).unwrap();
    let remarks = config.remarks();
    for (remark, part) in remarks.iter().zip([
        "broker_pool_limit, worker_executable have no effect",
        "max_connections has no effect",
        "client_nam is not known and has no effect; did you mean client_name?",
        "pickle is never decoded",
        "application/text is not known",
    ]) {
        assert!(remark.contains(part), "{remark}");
    }
    assert_eq!(remarks.len(), 5);
    assert_eq!(config.accept_content[..], [BodySerializer::Plain(Serializer::Json)]);
}

#[test]
fn the_settings_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == markdown(),
        "docs/settings.md is stale: UPDATE_DOCS=1 cargo test -p celeriac --test settings"
    );
}

#[test]
fn there_is_one_broker_for_reading_and_writing() {
    let app = |settings: &[(&str, &str)]| {
        let mut config = Config::default();
        settings.iter().for_each(|(name, value)| config.set(name, value).unwrap());
        celeriac::Celery::new("app", config).map(drop)
    };
    let (one, other) = ("redis://:hunter2@one/0", "redis://:hunter2@other/0");
    app(&[("broker_read_url", one), ("broker_write_url", one)]).unwrap();
    app(&[("broker_url", other), ("broker_read_url", one), ("broker_write_url", one)]).unwrap();
    let error = app(&[("broker_url", one), ("broker_write_url", other)]).unwrap_err().to_string();
    assert!(error.contains("broker_write_url") && !error.contains("hunter2"), "{error}");
    let error = app(&[("broker_write_url", one)]).unwrap_err().to_string();
    assert!(error.contains("broker_url is not set"), "{error}");
}

#[test]
fn only_what_is_sent_can_be_asked_for() {
    let mut config = Config::default();
    config.set("task_protocol", "2").unwrap();
    let error = config.set("task_protocol", "1").unwrap_err().to_string();
    assert!(error.contains("sends only version 2"), "{error}");
}
