//! Results in another database of the broker's server, which `SELECT` lets one transaction reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use redis::{Cmd, Pipeline, Value, cmd};

use super::Endpoint;
use super::connection::{Connection, replies, server_error};
use super::refusal::is_passing;
use super::script::eval;

/// What follows when the server does not let one transaction reach both databases.
pub(crate) const APART: &str =
    "results are stored in steps of their own, which takes more of everybody's time";

/// How often the connection may break over the question before it is asked no more.
const BREAKS: u8 = 2;

/// Selects both databases: a script leaves its caller where it is.
const THERE_AND_BACK: &str = "redis.call('SELECT', ARGV[1]) redis.call('SELECT', ARGV[2]) return 1";

/// It is not known whether the server allows it.
const UNKNOWN: u8 = 0;
/// The server allows it.
const ALLOWED: u8 = 1;
/// The server refuses it.
const REFUSED: u8 = 2;

/// Where the results are, seen from the broker.
#[derive(Clone, Default)]
pub(crate) enum Results {
    /// In the broker's database, or there are none.
    Here,
    /// In another database of its server.
    Beside(Arc<Selection>),
    /// At another server, or perhaps.
    #[default]
    Elsewhere,
}

/// Two databases of one server, and whether one transaction may reach both.
pub(crate) struct Selection {
    broker: i64,
    results: i64,
    state: AtomicU8,
    /// How often the connection broke when that was asked.
    breaks: AtomicU8,
}

impl Results {
    /// Where the results at that endpoint are, seen from a broker at this one.
    pub(crate) fn of(broker: &Endpoint, results: &Endpoint) -> Self {
        if results.same_database(broker) {
            Self::Here
        } else if results.same_server(broker) {
            Self::Beside(Arc::new(Selection::new(broker.database(), results.database())))
        } else {
            Self::Elsewhere
        }
    }

    /// Whether one transaction reaches them now.
    pub(crate) fn are_joined(&self) -> bool {
        match self {
            Self::Here => true,
            Self::Beside(selection) => selection.is_allowed(),
            Self::Elsewhere => false,
        }
    }

    /// What lets a transaction reach them, if they are in a database of their own.
    pub(crate) fn selection(&self) -> Option<&Selection> {
        match self {
            Self::Beside(selection) => Some(selection),
            Self::Here | Self::Elsewhere => None,
        }
    }
}

impl Selection {
    fn new(broker: i64, results: i64) -> Self {
        Self { broker, results, state: AtomicU8::new(UNKNOWN), breaks: AtomicU8::new(0) }
    }

    /// Whether one transaction may reach both databases, as far as is known.
    pub(crate) fn is_allowed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ALLOWED
    }

    /// Whether nobody has asked yet.
    pub(crate) fn is_unknown(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UNKNOWN
    }

    /// Whether the connection breaks when it is asked.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.breaks.load(Ordering::Relaxed) >= BREAKS
    }

    /// Notes that the server refuses it.
    pub(crate) fn refuse(&self) {
        self.state.store(REFUSED, Ordering::Relaxed);
    }

    /// Notes that the connection broke when it was asked.
    pub(crate) fn note_break(&self) {
        self.breaks.fetch_add(1, Ordering::Relaxed);
        self.refuse();
    }

    /// The command that goes to the database of the results.
    pub(crate) fn to_results(&self) -> Cmd {
        select(self.results)
    }

    /// The command that goes back to the broker's database.
    pub(crate) fn to_broker(&self) -> Cmd {
        select(self.broker)
    }

    /// The commands with which a script that selects begins: one fails before anything is done, if any does. They leave
    /// it in the database of the results.
    pub(crate) fn probe(&self) -> [Cmd; 2] {
        [self.to_broker(), self.to_results()]
    }

    /// The question whether it is allowed, which leaves the connection in the broker's database.
    pub(crate) fn question(&self) -> Pipeline {
        let mut question = Pipeline::new();
        question.cmd("MULTI");
        question.add_command(self.to_results()).add_command(self.to_broker());
        question.cmd("EXEC");
        question
    }

    /// The question for a server that has no memory for transactions, but runs scripts.
    pub(crate) fn question_of_full(&self) -> Pipeline {
        let [back, there] = [self.broker, self.results].map(|database| database.to_string());
        let mut question = Pipeline::new();
        question.add_command(eval(THERE_AND_BACK, &[], &[back.as_bytes(), there.as_bytes()]));
        question
    }

    /// Asks over that connection.
    ///
    /// # Errors
    /// It broke over the question.
    pub(crate) async fn ask(
        &self,
        connection: &mut Connection,
        mut question: Pipeline,
    ) -> Result<Vec<Value>, String> {
        replies(connection, &mut question).await.map_err(|error| {
            self.note_break();
            error.to_string()
        })
    }

    /// Notes the answer to the question; why it is not allowed, if it is not.
    ///
    /// # Errors
    /// The server's words, when it answers nothing now, or has left the connection in the wrong database.
    pub(crate) fn note_answer(&self, answer: &[Value]) -> Result<Option<String>, String> {
        let Some(reason) = answer.iter().find_map(server_error) else {
            self.breaks.store(0, Ordering::Relaxed);
            self.state.store(ALLOWED, Ordering::Relaxed);
            return Ok(None);
        };
        if is_passing(&reason) {
            return Err(reason);
        }
        self.refuse();
        if let Some(Value::Array(replies)) = answer.last()
            && let [there, back] = replies.as_slice()
            && server_error(there).is_none()
            && server_error(back).is_some()
        {
            self.note_break();
            return Err(reason);
        }
        Ok(Some(reason))
    }
}

fn select(database: i64) -> Cmd {
    let mut select = cmd("SELECT");
    select.arg(database);
    select
}
