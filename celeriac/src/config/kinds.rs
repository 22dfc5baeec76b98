//! Settings with a closed set of values.

use std::fmt;
use std::num::NonZeroU32;

use serde_json::Value;

use super::value::SettingValue;

/// An enumeration whose values have names, some of them several: the first is the one that is written.
macro_rules! named {
    ($(
        $(#[$meta:meta])*
        $type:ident (expected $expected:literal) { $($(#[$doc:meta])* $variant:ident = $name:literal $(| $alias:literal)*,)+ }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$doc])* $variant,)+ }

        impl $type {
            /// Returns the name as Celery writes it.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$variant => $name,)+ }
            }

            /// Returns the value of exactly that name.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name $(| $alias)* => Some($type::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl SettingValue for $type {
            fn expected() -> String {
                $expected.into()
            }

            fn from_json(value: &Value) -> Result<Self, String> {
                value.as_str().ok_or_else(Self::expected).and_then(Self::from_text)
            }

            fn from_text(text: &str) -> Result<Self, String> {
                Self::named(&text.trim().to_ascii_lowercase()).ok_or_else(Self::expected)
            }

            fn to_json(&self) -> Value {
                Value::from(self.as_str())
            }
        }
    )+};
}

named! {
    /// A serializer that kombu knows, except pickle, by name or mime type.
    Serializer (expected "json, msgpack, yaml or raw (pickle is never decoded)") {
        /// JSON with kombu's typed values.
        Json = "json" | "application/json",
        /// YAML as PyYAML's safe dumper and loader know it.
        Yaml = "yaml" | "yml" | "application/x-yaml",
        /// MessagePack with the binary type.
        Msgpack = "msgpack" | "application/x-msgpack",
        /// Bytes as they are.
        Raw = "raw" | "application/data",
    }

    /// A compression that kombu knows, by name, alias or mime type.
    Compression (expected "gzip, bzip2, zstd, lzma or brotli") {
        /// A zlib stream, as kombu's `gzip` is, whatever its mime type says.
        Gzip = "gzip" | "zlib" | "application/x-gzip",
        /// bzip2.
        Bzip2 = "bzip2" | "bzip" | "application/x-bz2",
        /// Zstandard.
        Zstd = "zstd" | "zstandard" | "application/zstd",
        /// LZMA in an xz container.
        Lzma = "lzma" | "xz" | "application/x-lzma",
        /// Brotli.
        Brotli = "brotli" | "application/x-brotli",
    }

    /// Type of an exchange.
    ExchangeType (expected "direct, topic, fanout or headers") {
        /// To queues bound with the same routing key.
        Direct = "direct",
        /// To queues bound with a matching pattern.
        Topic = "topic",
        /// To all bound queues.
        Fanout = "fanout",
        /// By headers; RabbitMQ only.
        Headers = "headers",
    }

    /// Type of a queue; RabbitMQ only.
    QueueType (expected "classic or quorum") {
        /// On one node.
        Classic = "classic",
        /// Replicated.
        Quorum = "quorum",
    }

    /// What runs the tasks. celeriac has slots of its own kinds; the names are those of `celery worker --pool`.
    Pool (expected "prefork, solo, threads, processes, eventlet, gevent or custom") {
        /// The default: async slots, and child processes for the tasks that ask for one.
        Prefork = "prefork",
        /// One task at a time.
        Solo = "solo",
        /// Blocking threads.
        Threads = "threads",
        /// Child processes for every task.
        Processes = "processes",
        /// Taken as the default.
        Eventlet = "eventlet",
        /// Taken as the default.
        Gevent = "gevent",
        /// Taken as the default.
        Custom = "custom",
    }

    /// Which alternative of a broker URL comes next when one is lost.
    FailoverStrategy (expected "round-robin or shuffle") {
        /// The next one, and after the last the first again.
        RoundRobin = "round-robin",
        /// Any other.
        Shuffle = "shuffle",
    }

    /// How much the log says.
    LogLevel (expected "DEBUG, INFO, WARNING, ERROR, CRITICAL or FATAL") {
        /// Everything about each message.
        Debug = "DEBUG" | "debug",
        /// The life of worker and tasks.
        Info = "INFO" | "info",
        /// What was recovered or is degraded.
        Warning = "WARNING" | "warning" | "warn",
        /// What someone must look at.
        Error = "ERROR" | "error",
        /// As `Error`.
        Critical = "CRITICAL" | "critical",
        /// As `Error`.
        Fatal = "FATAL" | "fatal",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro that makes the type takes no default")]
impl Default for Serializer {
    fn default() -> Self {
        Serializer::Json
    }
}

/// The value of a setting such as `task_serializer`: a serializer, or JSON with a signature or encryption around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodySerializer {
    /// As that serializer writes it; `raw` is no value of these settings.
    Plain(Serializer),
    /// JSON with a signature (`security_*`).
    Auth,
    /// Encrypted JSON (`celeriac_encryption_keys`).
    Encrypted,
}

impl BodySerializer {
    /// Returns the name as Celery writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            BodySerializer::Plain(serializer) => serializer.as_str(),
            BodySerializer::Auth => "auth",
            BodySerializer::Encrypted => "encrypted",
        }
    }

    /// Returns the serializer, unless a signature or encryption comes around it.
    pub fn plain(self) -> Option<Serializer> {
        if let BodySerializer::Plain(serializer) = self { Some(serializer) } else { None }
    }
}

impl From<Serializer> for BodySerializer {
    fn from(serializer: Serializer) -> Self {
        BodySerializer::Plain(serializer)
    }
}

impl fmt::Display for BodySerializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SettingValue for BodySerializer {
    fn expected() -> String {
        "json, msgpack, yaml, auth or encrypted (pickle is never decoded)".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        value.as_str().ok_or_else(Self::expected).and_then(Self::from_text)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auth" => Ok(BodySerializer::Auth),
            "encrypted" => Ok(BodySerializer::Encrypted),
            name => match Serializer::named(name) {
                None | Some(Serializer::Raw) => Err(Self::expected()),
                Some(serializer) => Ok(BodySerializer::Plain(serializer)),
            },
        }
    }

    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

#[expect(clippy::derivable_impls, reason = "the macro that makes the type takes no default")]
impl Default for FailoverStrategy {
    fn default() -> Self {
        FailoverStrategy::RoundRobin
    }
}

impl Pool {
    /// The pool that takes the place of one that only Python has.
    pub fn mapped(self) -> Option<&'static str> {
        match self {
            Pool::Eventlet | Pool::Gevent => Some(
                "there are no green threads here; as with -P threads, async tasks share the threads of the worker and blocking ones get threads of their own, as many at once as --concurrency says",
            ),
            Pool::Custom => {
                Some("CELERY_CUSTOM_WORKER_POOL names a class of Python; -P threads takes its place")
            }
            Pool::Prefork | Pool::Solo | Pool::Threads | Pool::Processes => None,
        }
    }
}

impl LogLevel {
    /// The filter of the `log` crate.
    pub fn filter(self) -> log::LevelFilter {
        match self {
            LogLevel::Debug => log::LevelFilter::Debug,
            LogLevel::Info => log::LevelFilter::Info,
            LogLevel::Warning => log::LevelFilter::Warn,
            LogLevel::Error | LogLevel::Critical | LogLevel::Fatal => log::LevelFilter::Error,
        }
    }
}

/// Whether a broker keeps a message over its own restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// 1: in memory.
    Transient,
    /// 2: on disk.
    Persistent,
}

impl DeliveryMode {
    /// The number on the wire.
    pub fn code(self) -> u8 {
        match self {
            DeliveryMode::Transient => 1,
            DeliveryMode::Persistent => 2,
        }
    }
}

impl SettingValue for DeliveryMode {
    fn expected() -> String {
        "2 (persistent) or 1 (transient)".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => Self::from_text(&number.to_string()),
            Value::String(text) => Self::from_text(text),
            _ => Err(Self::expected()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "1" | "transient" => Ok(DeliveryMode::Transient),
            "2" | "persistent" => Ok(DeliveryMode::Persistent),
            _ => Err(Self::expected()),
        }
    }

    fn to_json(&self) -> Value {
        self.code().into()
    }
}

/// How many tasks a worker runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// As many as the process may use CPUs.
    Auto,
    /// This many.
    Slots(NonZeroU32),
}

impl Concurrency {
    /// The number of slots.
    pub fn slots(self) -> usize {
        match self {
            Concurrency::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Concurrency::Slots(number) => number.get() as usize,
        }
    }
}

impl SettingValue for Concurrency {
    fn expected() -> String {
        "a whole number or `auto`; 0 means auto".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => Self::from_text(&number.to_string()),
            Value::String(text) => Self::from_text(text),
            _ => Err(Self::expected()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Concurrency::Auto);
        }
        let number: u32 = text.parse().map_err(|_| Self::expected())?;
        Ok(NonZeroU32::new(number).map_or(Concurrency::Auto, Concurrency::Slots))
    }

    fn to_json(&self) -> Value {
        match self {
            Concurrency::Auto => "auto".into(),
            Concurrency::Slots(number) => number.get().into(),
        }
    }
}
