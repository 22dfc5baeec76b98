//! The table of settings: each stands once, with its type, its default and its description.
//!
//! Source of names and defaults: `celery/app/defaults.py`, celery 5.7.0.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::Timezone;
use serde_json::{Map, Value, json};

use super::accept::AcceptContent;
use super::credentials::CredentialCommand;
use super::fixed::{AlwaysOff, SentProtocol};
use super::kinds::*;
use super::publish_retry::PublishRetryPolicy;
use super::queues::Queues;
use super::rate_limit::RateLimit;
use super::routes::Routes;
use super::setting::{Assigned, Input, Setting, settings};
use super::ssl::Ssl;
use super::transport_options::TransportOptions;
use super::url::Url;
use super::value::SettingValue;

const DAY: Duration = Duration::from_secs(86_400);

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn map(value: Value) -> Map<String, Value> {
    if let Value::Object(entries) = value { entries } else { Map::new() }
}

settings! {
"Broker" {
    /// Where tasks are published and consumed. `redis://`, `rediss://`, `redis+socket://`, `sentinel://`,
    /// `redis+cluster://`, `rediss+cluster://`; alternatives separated by `;`. See [connections](connections.md).
    broker_url: Option<Url> = None;
    /// Where workers consume, if not at `broker_url`. It must be where tasks are published, since a worker acknowledges
    /// a message and publishes what follows from it in one transaction.
    broker_read_url: Option<Url> = None;
    /// Where tasks are published, if not at `broker_url`.
    broker_write_url: Option<Url> = None;
    /// Options of the transport, [below](#transport-options): `visibility_timeout`, `priority_steps`, `global_keyprefix`, ...
    broker_transport_options: TransportOptions = TransportOptions::default();
    /// Whether a lost connection is made again.
    broker_connection_retry: bool = true;
    /// Whether the first connection is tried again; as `broker_connection_retry` if unset.
    broker_connection_retry_on_startup: Option<bool> = None;
    /// Tries before a worker gives up, where this is set; nothing, 0, or Celery's default left as it is goes on for ever.
    broker_connection_max_retries: Option<u32> = Some(100);
    /// Seconds that one connection attempt may take; nothing or 0 for no limit.
    broker_connection_timeout: Duration = seconds(4);
    /// Whether a broken channel is opened again rather than ending the worker. Without effect: for RabbitMQ.
    broker_channel_error_retry: bool = false;
    /// Seconds between heartbeats of the connection. Without effect: for RabbitMQ.
    broker_heartbeat: Option<u32> = Some(120);
    /// How often in a heartbeat's time it is checked. Without effect: for RabbitMQ.
    broker_heartbeat_checkrate: f64 = 3.0;
    /// Connections that a client keeps for publishing; nothing or 0 opens one for each. Without effect: one connection
    /// carries the commands of all threads, and needs no pool.
    broker_pool_limit: Option<u32> = Some(10);
    /// Seconds to wait for a free connection; nothing waits for ever. Without effect: there is no pool to wait for.
    broker_pool_acquire_timeout: Option<Duration> = None;
    /// TLS to the broker.
    broker_use_ssl: Ssl = Ssl::Off;
    /// Mechanism of the login. Without effect: for RabbitMQ.
    broker_login_method: Option<String> = None;
    /// Order in which alternatives are tried.
    broker_failover_strategy: Option<FailoverStrategy> = None;
    /// Type of the queues that hold messages until their eta; RabbitMQ quorum queues only. Without effect: for
    /// RabbitMQ.
    broker_native_delayed_delivery_queue_type: QueueType = QueueType::Quorum;
}

"Serializers" {
    /// Serializers that are read; messages of others are refused.
    accept_content: AcceptContent = vec![Serializer::Json.into()].into();
    /// Serializers that results are read in; as `accept_content` if unset.
    result_accept_content: Option<AcceptContent> = None;
    /// How task messages are written.
    task_serializer: BodySerializer = BodySerializer::Plain(Serializer::Json);
    /// How results are written.
    result_serializer: BodySerializer = BodySerializer::Plain(Serializer::Json);
    /// How events are written.
    event_serializer: BodySerializer = BodySerializer::Plain(Serializer::Json);
    /// How task messages are compressed.
    task_compression: Option<Compression> = None;
    /// How results are compressed.
    result_compression: Option<Compression> = None;
}

"Signed and encrypted messages" {
    /// Digest of signatures: sha224, sha256, sha384 or sha512.
    security_digest: String = "sha256".into();
    /// File of the sender's certificate (PEM).
    security_certificate: Option<String> = None;
    /// Folder or pattern of the files of known certificates (PEM).
    security_cert_store: Option<String> = None;
    /// File of the sender's private RSA key (PEM).
    security_key: Option<String> = None;
    /// Password of that key.
    security_key_password: Option<String> = None;
    /// Keys of the serializer `encrypted`: `ID:64 hexadecimal digits`, separated by commas; the first encrypts, each decrypts.
    celeriac_encryption_keys: Option<String> = None;
}

"Time" {
    /// Time zone of schedules and of times without a zone; UTC if unset.
    timezone: Option<Timezone> = None;
    /// Whether times in messages are in UTC. Without effect: times in messages always say their offset.
    enable_utc: bool = true;
}

"Results" {
    /// Where results are kept: `redis://`, `rediss://`, `redis+socket://`, `sentinel://`,
    /// `redis+cluster://`, `rediss+cluster://`; unset or `disabled://` keeps none.
    result_backend: Option<Url> = None;
    /// Options of the backend's transport, [below](#transport-options): `global_keyprefix`, `master_name`, ...
    result_backend_transport_options: TransportOptions = TransportOptions::default();
    /// Seconds that results are kept; nothing or 0 for ever.
    result_expires: Option<Duration> = Some(DAY);
    /// Seconds that failures are kept, 0 for ever; as `result_expires` if unset.
    result_failure_expires: Option<Duration> = None;
    /// Seconds that the keys of a chord are kept, 0 for ever; as `result_expires` if unset.
    result_chord_expires: Option<Duration> = None;
    /// Whether name, arguments, worker, retries and queue are stored with the result.
    result_extended: bool = false;
    /// Whether messages of the `rpc://` backend outlive the broker's restart. Without effect: `rpc://` is not offered.
    result_persistent: Option<bool> = None;
    /// Seconds to wait for the results of a chord's header when its body is called; 0 takes the default.
    result_chord_join_timeout: Duration = seconds(3);
    /// Seconds between looks at an unfinished chord, for backends without a counter. Without effect: Redis counts.
    result_chord_retry_interval: Duration = seconds(1);
    /// Exchange of the `rpc://` backend. Without effect: `rpc://` is not offered.
    result_exchange: String = "celeryresults".into();
    /// Type of that exchange. Without effect: `rpc://` is not offered.
    result_exchange_type: ExchangeType = ExchangeType::Direct;
    /// Results that a client remembers; -1 none, 0 all. Without effect: clients remember no results.
    result_cache_max: i64 = -1;
    /// Whether the backend's operations are tried again after an error of the connection. Without effect: a worker
    /// always tries again, for as long as it takes, and acknowledges no message before; a waiting client does too.
    result_backend_always_retry: bool = false;
    /// Tries of such an operation. Without effect, as above.
    result_backend_max_retries: f64 = f64::INFINITY;
    /// First pause between them, in milliseconds. Without effect, as above.
    result_backend_base_sleep_between_retries_ms: u64 = 10;
    /// Longest pause between them, in milliseconds. Without effect, as above.
    result_backend_max_sleep_between_retries_ms: u64 = 10_000;
    /// TLS to a Redis backend.
    redis_backend_use_ssl: Ssl = Ssl::Off;
    /// Connections to a Redis backend; as many as needed if unset. Without effect: one connection carries the commands
    /// of all threads.
    redis_max_connections: Option<u32> = None;
    /// Seconds that a Redis backend may be silent although it owes a reply; 3 where this is not set, or 0.
    redis_socket_timeout: Option<Duration> = Some(seconds(120));
    /// Seconds that connecting to a Redis backend may take; as `broker_connection_timeout` if unset or 0.
    redis_socket_connect_timeout: Option<Duration> = None;
    /// Whether a timeout of a Redis backend is tried again. Without effect: a worker tries again in any case.
    redis_retry_on_timeout: bool = false;
    /// Whether TCP keeps idle connections to a Redis backend alive; it does unless this is set to false.
    redis_socket_keepalive: bool = false;
    /// Seconds without a reply after which an idle connection to a Redis backend is asked for a sign of life; 1 if unset or 0.
    redis_backend_health_check_interval: Option<Duration> = None;
    /// Name of the connections to a Redis backend in `CLIENT LIST`.
    redis_client_name: Option<String> = None;
    /// Command that prints user and password of a Redis backend, as the transport option `credential_provider`.
    redis_backend_credential_provider: Option<CredentialCommand> = None;
}

"Routing" {
    /// Queue of tasks that name none.
    task_default_queue: String = "celery".into();
    /// Exchange of the default queue; its name if unset.
    task_default_exchange: Option<String> = None;
    /// Type of exchanges that are declared without one.
    task_default_exchange_type: ExchangeType = ExchangeType::Direct;
    /// Routing key of the default queue; its name if unset.
    task_default_routing_key: Option<String> = None;
    /// Type of queues that are declared without one. Without effect: for RabbitMQ.
    task_default_queue_type: QueueType = QueueType::Classic;
    /// Priority of tasks that have none.
    task_default_priority: Option<u8> = None;
    /// Whether messages outlive the broker's restart.
    task_default_delivery_mode: DeliveryMode = DeliveryMode::Persistent;
    /// The queues that exist; unset means just the default queue. Of the `queue_arguments` of a queue, `x-expires` counts, as
    /// its `expires`: the time (ms; `expires`: s) after which its messages are dropped when none is published to it.
    task_queues: Option<Queues> = None;
    /// Where tasks are sent, by name or pattern.
    task_routes: Routes = Routes::default();
    /// Whether a queue that is not in `task_queues` may be used.
    task_create_missing_queues: bool = true;
    /// Type of queues made so. Without effect: for RabbitMQ.
    task_create_missing_queue_type: QueueType = QueueType::Classic;
    /// Type of exchanges made so; as `task_default_exchange_type` if unset.
    task_create_missing_queue_exchange_type: Option<ExchangeType> = None;
    /// Highest priority of declared queues, `x-max-priority`. Without effect: for RabbitMQ.
    task_queue_max_priority: Option<u8> = None;
    /// Whether a task sent from a task gets its priority.
    task_inherit_parent_priority: bool = false;
    /// Whether each worker has a queue of its own, `NODE.dq2`.
    worker_direct: bool = false;
}

"Sending tasks" {
    /// Whether publishing is tried again when the connection is lost.
    task_publish_retry: bool = true;
    /// How often and with which pauses.
    task_publish_retry_policy: PublishRetryPolicy = PublishRetryPolicy::default();
    /// Whether clients send a `task-sent` event.
    task_send_sent_event: bool = false;
    /// Version of the task messages that are sent: 2. Both 1 and 2 are read.
    task_protocol: SentProtocol = SentProtocol;
    /// Depth to which arguments are shown in messages and logs.
    task_repr_maxlevels: u32 = 3;
    /// Running tasks in the caller's process is not offered.
    task_always_eager: AlwaysOff = AlwaysOff;
}

"Execution" {
    /// Whether a message is acknowledged after its task ran rather than before.
    task_acks_late: bool = false;
    /// Whether late acknowledgement also follows a failure or a timeout.
    task_acks_on_failure_or_timeout: bool = true;
    /// Whether it follows a failure; as `task_acks_on_failure_or_timeout` if unset.
    task_acks_on_failure: Option<bool> = None;
    /// Whether it follows a timeout; as `task_acks_on_failure_or_timeout` if unset.
    task_acks_on_timeout: Option<bool> = None;
    /// Whether a late-acknowledged message goes back to its queue when the process that ran it dies.
    task_reject_on_worker_lost: Option<bool> = None;
    /// Whether a task is retried, as by `retry()`, when the process that ran it dies.
    task_retry_on_worker_lost: bool = false;
    /// Whether the state `STARTED` is stored.
    task_track_started: bool = false;
    /// Whether results are not stored.
    task_ignore_result: bool = false;
    /// Whether failures are stored even so.
    task_store_errors_even_if_ignored: bool = false;
    /// Seconds after which a task is ended; nothing or 0 never.
    task_time_limit: Option<Duration> = None;
    /// Seconds after which a task is asked to end; nothing or 0 never.
    task_soft_time_limit: Option<Duration> = None;
    /// Starts per time of tasks that have no limit of their own: `10/s`, `100/m`, `5/h`; nothing or 0 for no limit.
    task_default_rate_limit: Option<RateLimit> = None;
    /// Attributes of tasks by name, or of all by `*`: `rate_limit`, `time_limit`, `acks_late`, ...
    task_annotations: Option<BTreeMap<String, Map<String, Value>>> = None;
    /// Whether error callbacks of a chord also go to the tasks of its header.
    task_allow_error_cb_on_chord_header: bool = false;
}

"Worker" {
    /// Tasks that run at once; the number of CPUs if unset.
    worker_concurrency: Option<Concurrency> = None;
    /// What runs them.
    worker_pool: Pool = Pool::Prefork;
    /// Whether the remote command `pool_restart` is obeyed.
    worker_pool_restarts: bool = false;
    /// Messages fetched ahead, per slot; 0 for no bound.
    worker_prefetch_multiplier: u32 = 4;
    /// Whether a message is only fetched for a free slot.
    worker_disable_prefetch: bool = false;
    /// Most tasks with an eta that a worker holds; nothing or 0 for no bound.
    worker_eta_task_limit: Option<u32> = None;
    /// Whether the prefetch count is lowered by the tasks still running after a lost connection. Without effect: what
    /// runs still is not fetched again.
    worker_enable_prefetch_count_reduction: bool = true;
    /// Whether late-acknowledged tasks are ended when the connection is lost. Without effect: the lease on their messages
    /// outlasts the connection, nobody else is given them, and their results are stored when it is back.
    worker_cancel_long_running_tasks_on_connection_loss: bool = false;
    /// Whether quorum queues are recognised and get the prefetch and eta handling they need. Without effect: for
    /// RabbitMQ.
    worker_detect_quorum_queues: bool = true;
    /// Whether a redelivered task that already succeeded is not run again.
    worker_deduplicate_successful_tasks: bool = false;
    /// Whether rate limits are not applied.
    worker_disable_rate_limits: bool = false;
    /// Tasks after which a child process is replaced; nothing or 0 never.
    worker_max_tasks_per_child: Option<u32> = None;
    /// Resident KiB after which a child process is replaced; nothing or 0 never.
    worker_max_memory_per_child: Option<u64> = None;
    /// Seconds that a dead child process's result may still arrive. Without effect: the result of a dead process is
    /// read before its death is noted.
    worker_lost_wait: Duration = seconds(10);
    /// Seconds that a child process may take to start; 0 takes the default.
    worker_proc_alive_timeout: Duration = seconds(4);
    /// File in which revoked tasks are kept over a restart.
    worker_state_db: Option<String> = None;
    /// Seconds between the looks of the timer at most. Without effect: timers are exact to the millisecond.
    worker_timer_precision: Duration = seconds(1);
    /// Seconds that running tasks get before a cold shutdown ends them.
    worker_soft_shutdown_timeout: Duration = Duration::ZERO;
    /// Whether that time also passes when no task runs.
    worker_enable_soft_shutdown_on_idle: bool = false;
    /// Whether remote control commands are answered.
    worker_enable_remote_control: bool = true;
    /// Whether events are sent.
    worker_send_task_events: bool = false;
    /// Whether the worker sets up the log of the whole process. Without effect: the program sets up its log.
    worker_hijack_root_logger: bool = true;
    /// Whether log lines are coloured; unset colours on a terminal. Without effect: the program sets up its log.
    worker_log_color: Option<bool> = None;
    /// File of the log, as `--logfile`; standard error if unset.
    worker_logfile: Option<String> = None;
    /// File that gets the process id, as `--pidfile`.
    worker_pidfile: Option<String> = None;
    /// User, by name or number, that the worker changes to, as `--uid`.
    worker_uid: Option<String> = None;
    /// Group, by name or number, that the worker changes to, as `--gid`.
    worker_gid: Option<String> = None;
    /// Permissions that new files do not get, as `--umask`: octal with a leading 0, else decimal.
    worker_umask: Option<String> = None;
}

"Events and remote control" {
    /// Exchange of events.
    event_exchange: String = "celeryev".into();
    /// Prefix of the queues of event receivers. Without effect: receivers of events subscribe, and have no queues.
    event_queue_prefix: String = "celeryev".into();
    /// Seconds after which an unread event is dropped. Without effect: receivers of events subscribe, and have no
    /// queues.
    event_queue_ttl: Option<Duration> = Some(seconds(5));
    /// Seconds after which an unused event queue is deleted. Without effect: receivers of events subscribe, and have no
    /// queues.
    event_queue_expires: Option<Duration> = Some(seconds(60));
    /// Whether event queues belong to one connection. Without effect: for RabbitMQ.
    event_queue_exclusive: bool = true;
    /// Whether event queues outlive the broker's restart. Without effect: for RabbitMQ.
    event_queue_durable: bool = false;
    /// Prefix of the exchange of remote control.
    control_exchange: String = "celery".into();
    /// Seconds after which an unread answer to a command is dropped. Without effect: it waits for 300 s.
    control_queue_ttl: Option<Duration> = Some(seconds(300));
    /// Seconds after which an unused control queue is deleted. Without effect: workers subscribe to commands, and have
    /// no queues for them.
    control_queue_expires: Option<Duration> = Some(seconds(10));
    /// Whether control queues belong to one connection. Without effect: for RabbitMQ.
    control_queue_exclusive: bool = true;
    /// Whether control queues outlive the broker's restart. Without effect: for RabbitMQ.
    control_queue_durable: bool = false;
}

"Beat" {
    /// Entries by name: `{"task", "schedule", "args", "kwargs", "options", "relative", "enabled", ...}`; see
    /// [beat](beat.md). A schedule is a number of seconds, a crontab as text (`"0 1 * * *"`), or a mapping.
    beat_schedule: Map<String, Value> = Map::new();
    /// Keeper of the schedule: `redbeat.RedBeatScheduler` (Redis), `celery.beat:PersistentScheduler` (a file) or
    /// `django_celery_beat.schedulers:DatabaseScheduler`. Where it is not given: Redis, or the file of `beat --schedule`.
    beat_scheduler: String = "celery.beat:PersistentScheduler".into();
    /// File of the schedule, for `celery.beat:PersistentScheduler`; `.json` is added to the default, since it is no file of
    /// Python's.
    beat_schedule_filename: String = "celerybeat-schedule".into();
    /// Longest sleep in seconds; 0 takes the scheduler's default of 300.
    beat_max_loop_interval: Duration = Duration::ZERO;
    /// Tasks sent between two writes of the schedule. Without effect: each run is on disk before it is sent.
    beat_sync_every: u32 = 0;
    /// Prefix of the schedule's keys in Redis.
    redbeat_key_prefix: String = "redbeat:".into();
    /// Key of the lock of the beat that sends, under the prefix; empty is no lock.
    redbeat_lock_key: String = ":lock".into();
    /// Seconds after which the lock of a beat that died is free; 2.5 where it is not given (RedBeat: five times the longest
    /// sleep).
    redbeat_lock_timeout: Option<Duration> = None;
    /// Where the schedule is kept in Redis, if not at the broker.
    redbeat_redis_url: Option<Url> = None;
    /// Seconds that a missed crontab run may be late and is still sent; unset sends it however late.
    beat_cron_starting_deadline: Option<Duration> = None;
    /// Whether beat answers `celery inspect ping`, as a node of its own.
    beat_enable_remote_control: bool = false;
    /// Seconds since its last tick after which beat does not answer any more; 60 where it is not given, 0 is no limit.
    beat_remote_control_max_tick_age: Option<Duration> = None;
}

"celeriac" {
    /// Deliveries of one message after which it is dead-lettered instead of run again; 0 for no bound.
    celeriac_max_deliveries: u32 = 5;
    /// Where messages go that cannot be read or come back too often, with the reason; nothing drops them with a log line.
    celeriac_dead_letter_queue: Option<String> = Some("celeriac.dead".into());
    /// How many of them are kept; each further one drops the oldest. 0 for no bound.
    celeriac_dead_letter_max_count: u64 = 10_000;
    /// How many bytes of the server's memory they may take; beyond that the oldest are dropped. 0 for no bound.
    celeriac_dead_letter_max_bytes: u64 = 100 * 1024 * 1024;
    /// Seconds after which one of them is dropped. 0 for never.
    celeriac_dead_letter_expires: Duration = seconds(30 * 86_400);
    /// Whether messages that their task rejects go there too.
    celeriac_dead_letter_rejected: bool = false;
    /// Seconds that sending a task may take in all, retries included; 0 for no bound.
    celeriac_publish_timeout: Duration = seconds(5);
    /// Largest result in bytes, as stored; a task that returns more fails. 0 for no bound but that of the server, which is
    /// 512 MiB by default (`proto-max-bulk-len`).
    celeriac_max_result_bytes: u64 = 256 * 1024 * 1024;
    /// Largest message body in bytes, as received; 0 for no bound.
    celeriac_max_body_bytes: u64 = 64 * 1024 * 1024;
    /// Largest message body in bytes after decompression; 0 for no bound.
    celeriac_max_decompressed_bytes: u64 = 256 * 1024 * 1024;
    /// Bytes of message bodies that a worker takes in ahead of their run: while the tasks that wait for a slot or for their
    /// rate limit have so many, it takes no further one, however many `worker_prefetch_multiplier` allows. One it always
    /// takes. 0 for no bound but the number.
    celeriac_prefetch_bytes: u64 = 16 * 1024 * 1024;
    /// Tasks with an eta that a worker keeps in its memory; further ones are parked at the broker until they are due.
    /// 0 for no bound: all are kept, as Celery does.
    celeriac_max_scheduled: u32 = 1000;
    /// Seconds after the signal to shut down in which the process will be killed (`terminationGracePeriodSeconds` on
    /// Kubernetes). Two seconds before, tasks that run still are ended and go back to their queue, also those that were
    /// acknowledged when they started. 0 waits for them without limit, as Celery does.
    celeriac_shutdown_grace: Duration = Duration::ZERO;
    /// Address of a worker's probes, `HOST:PORT`: `/livez`, `/readyz` and `/metrics` over HTTP; nothing serves none.
    celeriac_probe_address: Option<String> = None;
    /// Seconds without a turn of the worker's threads, or of its consumer while the broker answers, after which `/livez`
    /// says that the worker must be replaced; 0 never.
    celeriac_stall_timeout: Duration = Duration::from_secs(60);
}

"Taken without effect: Python's programs" {
    /// Modules that a Python worker imports.
    imports: Vec<String> = vec![];
    /// More modules that a Python worker imports.
    include: Vec<String> = vec![];
    /// Whether a Python traceback travels with an exception to the caller.
    task_remote_tracebacks: bool = false;
    /// Whether eager tasks raise their errors.
    task_eager_propagates: bool = false;
    /// Whether results of eager tasks are stored.
    task_store_eager_result: bool = false;
    /// Class of an agent beside the worker.
    worker_agent: Option<String> = None;
    /// Class of the autoscaler.
    worker_autoscaler: String = "celery.worker.autoscale:Autoscaler".into();
    /// Class of the consumer.
    worker_consumer: String = "celery.worker.consumer:Consumer".into();
    /// Class of the timer.
    worker_timer: Option<String> = None;
    /// Whether the pool locks its queues.
    worker_pool_putlocks: bool = true;
    /// How child processes start.
    worker_pool_start_method: String = "fork".into();
    /// Whether standard output goes to the log.
    worker_redirect_stdouts: bool = true;
    /// Level of that output.
    worker_redirect_stdouts_level: LogLevel = LogLevel::Warning;
    /// Format of log lines, in Python's terms.
    worker_log_format: String = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s".into();
    /// Format of times in the log.
    worker_log_datefmt: Option<String> = None;
    /// Format of the log lines of tasks.
    worker_task_log_format: String =
        "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s".into();
    /// Format of times in them.
    worker_task_log_datefmt: Option<String> = None;
    /// Path of the Python that a detached worker runs in.
    worker_executable: Option<String> = None;
    /// Path of the Python that a detached `celery beat` runs in.
    beat_executable: Option<String> = None;
    /// File of the log of `celery beat`.
    beat_logfile: Option<String> = None;
    /// File that gets the process id of `celery beat`.
    beat_pidfile: Option<String> = None;
    /// User that `celery beat` changes to.
    beat_uid: Option<String> = None;
    /// Group that `celery beat` changes to.
    beat_gid: Option<String> = None;
    /// Permissions that new files of `celery beat` do not get.
    beat_umask: Option<String> = None;
    /// Path of the Python that a detached `celery events` runs in.
    events_executable: Option<String> = None;
    /// File of the log of `celery events`.
    events_logfile: Option<String> = None;
    /// File that gets the process id of `celery events`.
    events_pidfile: Option<String> = None;
    /// User that `celery events` changes to.
    events_uid: Option<String> = None;
    /// Group that `celery events` changes to.
    events_gid: Option<String> = None;
    /// Permissions that new files of `celery events` do not get.
    events_umask: Option<String> = None;
    /// Name of the transport; the scheme of `broker_url` says it.
    broker_transport: Option<String> = None;
    /// Host of the broker; use `broker_url`.
    broker_host: Option<String> = None;
    /// Port of the broker; use `broker_url`.
    broker_port: Option<u16> = None;
    /// User at the broker; use `broker_url`.
    broker_user: Option<String> = None;
    /// Password at the broker; use `broker_url`.
    broker_password: Option<String> = None;
    /// Virtual host at the broker; use `broker_url`.
    broker_vhost: Option<String> = None;
    /// Host of a Redis backend; use `result_backend`.
    redis_host: Option<String> = None;
    /// Port of a Redis backend; use `result_backend`.
    redis_port: Option<u16> = None;
    /// Database of a Redis backend; use `result_backend`.
    redis_db: Option<u32> = None;
    /// User of a Redis backend; use `result_backend`.
    redis_username: Option<String> = None;
    /// Password of a Redis backend; use `result_backend`.
    redis_password: Option<String> = None;
}

"Taken without effect: other result backends" {
    /// Classes of result backends by the scheme of their URL.
    override_backends: Option<Value> = None;
    /// Whether threads share one backend object; connections are shared here anyway.
    result_backend_thread_safe: bool = false;
    /// Endpoint url of DynamoDB.
    dynamodb_endpoint_url: Option<Value> = None;
    /// Project of Firestore, of the Google Cloud Storage backend.
    firestore_project: Option<Value> = None;
    /// Backend of the cache backend.
    cache_backend: Option<Value> = None;
    /// Backend options of the cache backend.
    cache_backend_options: Map<String, Value> = Map::new();
    /// Entry ttl of Cassandra.
    cassandra_entry_ttl: Option<Value> = None;
    /// Keyspace of Cassandra.
    cassandra_keyspace: Option<Value> = None;
    /// Port of Cassandra.
    cassandra_port: Option<Value> = None;
    /// Read consistency of Cassandra.
    cassandra_read_consistency: Option<Value> = None;
    /// Servers of Cassandra.
    cassandra_servers: Option<Value> = None;
    /// Bundle path of Cassandra.
    cassandra_bundle_path: Option<Value> = None;
    /// Secure bundle path of Cassandra.
    cassandra_secure_bundle_path: Option<Value> = None;
    /// Table of Cassandra.
    cassandra_table: Option<Value> = None;
    /// Write consistency of Cassandra.
    cassandra_write_consistency: Option<Value> = None;
    /// Auth provider of Cassandra.
    cassandra_auth_provider: Option<Value> = None;
    /// Auth kwargs of Cassandra.
    cassandra_auth_kwargs: Option<Value> = None;
    /// Options of Cassandra.
    cassandra_options: Map<String, Value> = Map::new();
    /// Access key id of S3.
    s3_access_key_id: Option<Value> = None;
    /// Secret access key of S3.
    s3_secret_access_key: Option<Value> = None;
    /// Bucket of S3.
    s3_bucket: Option<Value> = None;
    /// Base path of S3.
    s3_base_path: Option<Value> = None;
    /// Endpoint url of S3.
    s3_endpoint_url: Option<Value> = None;
    /// Region of S3.
    s3_region: Option<Value> = None;
    /// Container name of Azure Block Blob.
    azureblockblob_container_name: String = "celery".into();
    /// Retry initial backoff sec of Azure Block Blob.
    azureblockblob_retry_initial_backoff_sec: u32 = 2;
    /// Retry increment base of Azure Block Blob.
    azureblockblob_retry_increment_base: u32 = 2;
    /// Retry max attempts of Azure Block Blob.
    azureblockblob_retry_max_attempts: u32 = 3;
    /// Base path of Azure Block Blob.
    azureblockblob_base_path: String = "".into();
    /// Connection timeout of Azure Block Blob.
    azureblockblob_connection_timeout: u32 = 20;
    /// Read timeout of Azure Block Blob.
    azureblockblob_read_timeout: u32 = 120;
    /// Bucket of Google Cloud Storage.
    gcs_bucket: Option<Value> = None;
    /// Project of Google Cloud Storage.
    gcs_project: Option<Value> = None;
    /// Base path of Google Cloud Storage.
    gcs_base_path: String = "".into();
    /// Threadpool maxsize of Google Cloud Storage.
    gcs_threadpool_maxsize: u32 = 10;
    /// Ttl of Google Cloud Storage.
    gcs_ttl: u32 = 0;
    /// Backend settings of Couchbase.
    couchbase_backend_settings: Option<Value> = None;
    /// Backend settings of ArangoDB.
    arangodb_backend_settings: Option<Value> = None;
    /// Backend settings of MongoDB.
    mongodb_backend_settings: Option<Value> = None;
    /// Database name of Cosmos DB.
    cosmosdbsql_database_name: String = "celerydb".into();
    /// Collection name of Cosmos DB.
    cosmosdbsql_collection_name: String = "celerycol".into();
    /// Consistency level of Cosmos DB.
    cosmosdbsql_consistency_level: String = "Session".into();
    /// Max retry attempts of Cosmos DB.
    cosmosdbsql_max_retry_attempts: u32 = 9;
    /// Max retry wait time of Cosmos DB.
    cosmosdbsql_max_retry_wait_time: u32 = 30;
    /// Retry on timeout of Elasticsearch.
    elasticsearch_retry_on_timeout: Option<Value> = None;
    /// Max retries of Elasticsearch.
    elasticsearch_max_retries: Option<Value> = None;
    /// Timeout of Elasticsearch.
    elasticsearch_timeout: Option<Value> = None;
    /// Save meta as text of Elasticsearch.
    elasticsearch_save_meta_as_text: bool = true;
    /// Url of the database backend.
    database_url: Option<Value> = None;
    /// Engine options of the database backend.
    database_engine_options: Map<String, Value> = map(json!({"pool_pre_ping": true, "pool_recycle": 3600}));
    /// Engine callback of the database backend.
    database_engine_callback: Option<Value> = None;
    /// Short lived sessions of the database backend.
    database_short_lived_sessions: bool = false;
    /// Table schemas of the database backend.
    database_table_schemas: Option<Value> = None;
    /// Table names of the database backend.
    database_table_names: Option<Value> = None;
    /// Create tables at setup of the database backend.
    database_create_tables_at_setup: bool = true;
}
}
