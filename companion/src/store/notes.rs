use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use super::{Store, StoreError, on_pool};

/// What kind of thing is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "memory_type_enum", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum MemoryType {
    /// Anything.
    Note,
    /// What the user wants to reach.
    Goal,
    /// What the user does regularly.
    Habit,
    /// What the user likes or dislikes.
    Preference,
    /// A person or how to reach one.
    Contact,
}

/// An entry of the user's task list.
#[derive(Debug, Clone, FromRow)]
pub struct Task {
    /// Primary key.
    pub id: Uuid,
    /// What is to be done.
    pub title: String,
    /// By when.
    pub due_ts: Option<DateTime<Utc>>,
}

const INSERT_MEMORY: &str =
    "INSERT INTO memories (id, user_id, type, text, source, created_at) VALUES ($1, $2, $3, $4, 'chat', $5)";
const INSERT_TASK: &str =
    "INSERT INTO tasks (id, user_id, title, due_ts, status) VALUES ($1, $2, $3, $4, 'pending')";
const PENDING_TASKS: &str = "SELECT id, title, due_ts FROM tasks \
    WHERE user_id = $1 AND status = 'pending' AND (due_ts IS NULL OR due_ts < $2) \
    ORDER BY due_ts IS NULL, due_ts LIMIT 200";

impl Store {
    /// Keeps something to remember about a user and returns its id.
    pub async fn insert_memory(&self, user: Uuid, kind: MemoryType, text: &str) -> Result<Uuid, StoreError> {
        let id = Uuid::new_v4();
        on_pool!(self, pool => sqlx::query(INSERT_MEMORY)
            .bind(id).bind(user).bind(kind).bind(text).bind(self.now().await?).execute(pool).await.map(drop))?;
        Ok(id)
    }

    /// Puts a task on the list of a user and returns its id.
    pub async fn insert_task(
        &self,
        user: Uuid,
        title: &str,
        due: Option<DateTime<Utc>>,
    ) -> Result<Uuid, StoreError> {
        let id = Uuid::new_v4();
        on_pool!(self, pool => sqlx::query(INSERT_TASK)
            .bind(id).bind(user).bind(title).bind(due).execute(pool).await.map(drop))?;
        Ok(id)
    }

    /// The tasks of a user that are not done and due before `to` or at no time, in order.
    pub async fn pending_tasks(&self, user: Uuid, to: DateTime<Utc>) -> Result<Vec<Task>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(PENDING_TASKS).bind(user).bind(to).fetch_all(pool).await)?)
    }
}
