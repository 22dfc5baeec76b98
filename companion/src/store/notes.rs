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
const MEMORY: &str = "SELECT type, text FROM memories WHERE id = $1 AND user_id = $2";
const TASK: &str = "SELECT id, title, due_ts FROM tasks WHERE id = $1 AND user_id = $2";
const PENDING_TASKS: &str = "SELECT id, title, due_ts FROM tasks \
    WHERE user_id = $1 AND status = 'pending' AND (due_ts IS NULL OR due_ts < $2) \
    ORDER BY due_ts IS NULL, due_ts LIMIT 200";

impl Store {
    /// Keeps something to remember about a user.
    pub async fn insert_memory(
        &self,
        id: Uuid,
        user: Uuid,
        kind: MemoryType,
        text: &str,
    ) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(INSERT_MEMORY)
            .bind(id).bind(user).bind(kind).bind(text).bind(self.now().await?).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Returns what is remembered of a user under this id.
    pub async fn memory(&self, id: Uuid, user: Uuid) -> Result<Option<(MemoryType, String)>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(MEMORY).bind(id).bind(user).fetch_optional(pool).await)?)
    }

    /// Puts a task on the list of a user.
    pub async fn insert_task(
        &self,
        id: Uuid,
        user: Uuid,
        title: &str,
        due: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(INSERT_TASK)
            .bind(id).bind(user).bind(title).bind(due).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Returns a task of a user.
    pub async fn task(&self, id: Uuid, user: Uuid) -> Result<Option<Task>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(TASK).bind(id).bind(user).fetch_optional(pool).await)?)
    }

    /// The tasks of a user that are not done and due before `to` or at no time, in order.
    pub async fn pending_tasks(&self, user: Uuid, to: DateTime<Utc>) -> Result<Vec<Task>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(PENDING_TASKS).bind(user).bind(to).fetch_all(pool).await)?)
    }
}
