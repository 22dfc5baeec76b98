use sqlx::FromRow;
use uuid::Uuid;

use super::{Store, StoreError, on_pool};

/// A manner in which the companion speaks.
#[derive(Debug, Clone, FromRow)]
pub struct Persona {
    /// What clients call it.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// What the model is told.
    pub system_prompt: String,
}

const BY_KEY: &str = "SELECT key, name, system_prompt FROM personas WHERE key = $1";
const SEED: &str = "INSERT INTO personas (id, key, name, system_prompt) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING";

impl Store {
    /// The persona with this key.
    pub async fn persona(&self, key: &str) -> Result<Option<Persona>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(BY_KEY).bind(key).fetch_optional(pool).await)?)
    }

    /// Keeps a persona unless its key is taken.
    pub(super) async fn seed_persona(&self, persona: &Persona) -> Result<bool, StoreError> {
        let made = on_pool!(self, pool => sqlx::query(SEED)
            .bind(Uuid::new_v4()).bind(&persona.key).bind(&persona.name).bind(&persona.system_prompt)
            .execute(pool).await.map(|done| done.rows_affected()))?;
        Ok(made == 1)
    }
}
