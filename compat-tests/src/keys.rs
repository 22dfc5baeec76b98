//! Which keys a server has had, and which of them docs/redis-keys.md names.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use regex::Regex;

use crate::binary::workspace_root;
use crate::redis_server::RedisServer;

/// The tables of docs/redis-keys.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTable {
    /// Keys that end by themselves.
    Ending,
    /// Keys that stay.
    Staying,
}

/// The keys that the tables of docs/redis-keys.md name.
pub struct DocumentedKeys {
    patterns: Vec<Regex>,
}

impl DocumentedKeys {
    /// Those of some tables; `<queue>` stands for one of `queues`.
    ///
    /// # Panics
    /// When the page has no such table.
    #[track_caller]
    pub fn read(tables: &[KeyTable], queues: &[&str]) -> Self {
        let page =
            std::fs::read_to_string(workspace_root().join("docs/redis-keys.md")).expect("the page is there");
        let (ending, staying) = page.split_once("## Keys that stay").expect("the page has two tables");
        let rows = tables.iter().flat_map(|table| match table {
            KeyTable::Ending => ending.lines(),
            KeyTable::Staying => staying.lines(),
        });
        let cells = rows.filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let patterns: Vec<Regex> = cells
            .flat_map(|cell| cell.split("`, `"))
            .map(|key| pattern(key.trim_matches('`'), queues))
            .collect();
        assert!(patterns.len() > 3, "the page has tables of keys");
        Self { patterns }
    }

    /// Whether that is one of them.
    pub fn has(&self, key: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_match(key))
    }
}

fn pattern(key: &str, queues: &[&str]) -> Regex {
    let key = regex::escape(&key.replace(r"\x06\x16", "\u{6}\u{16}"));
    let name = Regex::new(r"<([\w ]+)>").expect("a pattern");
    let pattern = name.replace_all(&key, |found: &regex::Captures<'_>| match &found[1] {
        "queue" => {
            format!("({})", queues.iter().map(|queue| regex::escape(queue)).collect::<Vec<_>>().join("|"))
        }
        "id" => "[0-9a-f-]{36}".to_owned(),
        _ => ".+".to_owned(),
    });
    Regex::new(&format!("^{pattern}$")).expect("a pattern")
}

/// Notes every key that is written at a server, in all its databases, until it is dropped with the server.
pub struct KeyWatch {
    keys: Arc<Mutex<BTreeSet<String>>>,
}

impl KeyWatch {
    /// Begins to note.
    ///
    /// # Panics
    /// When the server does not announce changes.
    #[track_caller]
    pub fn of(server: &RedisServer) -> Self {
        let mut connection = server.connection();
        redis::cmd("CONFIG")
            .arg(&["SET", "notify-keyspace-events", "KA"])
            .exec(&mut connection)
            .expect("the server announces changes");
        redis::cmd("PSUBSCRIBE").arg("__keyspace@*__:*").exec(&mut connection).expect("a subscription");
        let keys = Arc::<Mutex<BTreeSet<String>>>::default();
        let noted = Arc::clone(&keys);
        std::thread::spawn(move || {
            while let Ok(redis::Value::Array(parts)) = connection.recv_response() {
                let channel = parts.get(2).and_then(|part| redis::from_redis_value_ref::<String>(part).ok());
                if let Some((_, key)) = channel.as_deref().and_then(|channel| channel.split_once("__:")) {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
                }
            }
        });
        Self { keys }
    }

    /// The keys so far.
    pub fn keys(&self) -> Vec<String> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Fails if one of the keys so far is in neither table of docs/redis-keys.md.
    ///
    /// # Panics
    /// When there is one.
    #[track_caller]
    pub fn assert_documented(&self, queues: &[&str]) {
        let documented = DocumentedKeys::read(&[KeyTable::Ending, KeyTable::Staying], queues);
        let unknown: Vec<String> = self.keys().into_iter().filter(|key| !documented.has(key)).collect();
        assert!(unknown.is_empty(), "keys that are not in docs/redis-keys.md: {unknown:?}");
    }
}
