use super::*;
use crate::config::{Pool, Url};

fn parse(line: &str) -> Result<WorkerOptions, CliError> {
    parse_with(line, &[])
}

fn parse_with(line: &str, variables: &[(&str, &str)]) -> Result<WorkerOptions, CliError> {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let arguments = std::iter::once("prog").chain(line.split_whitespace());
    WorkerOptions::try_parse_over(Config::default(), arguments, variables)
}

#[test]
fn every_flag_of_celery_worker_is_taken() {
    let options = parse(
        "-A proj -b redis://:pw@h/0 --result-backend=redis://h/1 worker -Q a,b -X c -c 8 -n w1@host -l INFO -E -P solo \
         -O fair --prefetch-multiplier 2 --disable-prefetch --time-limit 10 --soft-time-limit=2.5 \
         --max-tasks-per-child 100 --max-memory-per-child 200000 --autoscale 3,10 --purge --without-gossip \
         --without-mingle --without-heartbeat --heartbeat-interval 5 -S /var/%n.db --pidfile /run/%n.pid -f /log/%n%I.log",
    )
    .unwrap();
    let config = &options.config;
    assert_eq!(options.app.as_deref(), Some("proj"));
    assert_eq!(config.broker_url, Some(Url::new("redis://:pw@h/0")));
    assert_eq!(config.result_backend, Some(Url::new("redis://h/1")));
    assert_eq!(
        (options.queues, options.exclude_queues),
        (vec!["a".into(), "b".into()], vec!["c".to_owned()])
    );
    assert_eq!(config.worker_concurrency.map(Concurrency::slots), Some(8));
    assert_eq!(options.node_name.to_string(), "w1@host");
    assert_eq!(options.loglevel, LogLevel::Info);
    assert_eq!(config.worker_pool, Pool::Solo);
    assert_eq!(options.optimization, Optimization::Fair);
    assert!(config.worker_send_task_events && config.worker_disable_prefetch && options.purge);
    assert_eq!(config.worker_prefetch_multiplier, 2);
    assert_eq!(config.task_time_limit, Some(Duration::from_secs(10)));
    assert_eq!(config.task_soft_time_limit, Some(Duration::from_millis(2500)));
    assert_eq!(
        (config.worker_max_tasks_per_child, config.worker_max_memory_per_child),
        (Some(100), Some(200_000))
    );
    assert_eq!(options.autoscale, Some(Autoscale { min: 3, max: 10 }));
    assert!(options.without_gossip && options.without_mingle && options.without_heartbeat);
    assert_eq!(options.heartbeat_interval, Some(Duration::from_secs(5)));
    assert_eq!(options.statedb, Some("/var/w1.db".into()));
    assert_eq!(options.pidfile, Some("/run/w1.pid".into()));
    assert_eq!(options.logfile, Some("/log/w1.log".into()));
}

#[test]
fn options_of_the_process_are_settings_too() {
    let options =
        parse("-D --uid nobody --gid 65534 --umask 022 --executable /usr/bin/python --workdir /srv").unwrap();
    assert!(options.detach);
    assert_eq!(options.config.worker_uid.as_deref(), Some("nobody"));
    assert_eq!(options.config.worker_gid.as_deref(), Some("65534"));
    assert_eq!(options.config.worker_umask.as_deref(), Some("022"));
    assert_eq!(options.workdir, Some("/srv".into()));
    let variables = [
        ("CELERY_WORKER_DETACH", "1"),
        ("CELERY_WORKER_UID", "nobody"),
        ("CELERY_WORKER_PIDFILE", "/run/%n.pid"),
    ];
    let options = parse_with("-n w1@h", &variables).unwrap();
    assert!(options.detach);
    assert_eq!(options.config.worker_uid.as_deref(), Some("nobody"));
    assert_eq!(options.pidfile, Some("/run/w1.pid".into()));
}

#[test]
fn a_scheduler_inside_the_worker_is_refused_with_what_to_do_instead() {
    for (line, variables) in [("-B", &[][..]), ("--beat", &[]), ("", &[("CELERY_WORKER_BEAT", "1")])] {
        let error = parse_with(line, variables).unwrap_err().to_string();
        assert!(error.contains("run one beside the workers"), "{line}: {error}");
    }
    parse("-s /var/schedule --scheduler redbeat.RedBeatScheduler").unwrap();
}

#[test]
fn every_setting_is_an_option() {
    let options = parse(
        "--task-acks-late --worker_prefetch_multiplier=7 --result-expires none --worker-send-task-events off -l debug \
         --task-create-missing-queues=0 worker.max_tasks_per_child=5 eta_task_limit=9 --result-cache-max -1",
    )
    .unwrap();
    let config = options.config;
    assert!(config.task_acks_late && !config.task_create_missing_queues && !config.worker_send_task_events);
    assert_eq!(config.worker_prefetch_multiplier, 7);
    assert_eq!(config.result_expires, None);
    assert_eq!((config.worker_max_tasks_per_child, config.worker_eta_task_limit), (Some(5), Some(9)));
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let variables = [
        ("CELERY_WORKER_CONCURRENCY", "3"),
        ("CELERY_WORKER_QUEUES", "a,b"),
        ("CELERY_WORKER_TASK_EVENTS", "1"),
    ];
    let options = parse_with("", &variables).unwrap();
    assert_eq!(options.config.worker_concurrency.map(Concurrency::slots), Some(3));
    assert_eq!(options.queues, ["a", "b"]);
    assert!(options.config.worker_send_task_events);
    let options = parse_with("-c 5 -Q c", &variables).unwrap();
    assert_eq!(options.config.worker_concurrency.map(Concurrency::slots), Some(5));
    assert_eq!(options.queues, ["c"]);
}

#[test]
fn a_settings_file_is_read_before_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proj.toml");
    std::fs::write(&file, "task_default_queue = \"images\"\nworker_concurrency = 2\n").unwrap();
    let options =
        parse_with(&format!("--config {}", file.display()), &[("CELERY_WORKER_CONCURRENCY", "4")]).unwrap();
    assert_eq!(options.config.task_default_queue, "images");
    assert_eq!(options.config.worker_concurrency.map(Concurrency::slots), Some(4));
    let error = parse("--config /no/such/file.toml").unwrap_err().to_string();
    assert!(error.contains("/no/such/file.toml"), "{error}");
}

#[test]
fn a_bad_option_is_named() {
    for (line, part) in [
        ("-c many", "worker_concurrency"),
        ("-P fast", "worker_pool"),
        ("--no-such-option", "--no-such-option"),
        ("-l LOUD", "DEBUG, INFO"),
        ("--autoscale a", "comma-separated"),
        ("--time-limit soon", "task_time_limit"),
        ("beat", "expected `worker`"),
        ("no_such_setting=1", "no_such_setting"),
    ] {
        let error = parse(line).unwrap_err().to_string();
        assert!(error.contains(part), "{line}: {error}");
    }
}
