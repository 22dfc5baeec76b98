use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;

use super::{Store, StoreError, on_pool};

/// A switch that operators may turn.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct FeatureFlag {
    /// Primary key.
    pub key: String,
    /// Whether it is on.
    pub enabled: bool,
    /// What it does.
    pub description: Option<String>,
    /// When it was last turned.
    pub updated_at: DateTime<Utc>,
}

const ALL: &str = "SELECT key, enabled, description, updated_at FROM feature_flags ORDER BY key";
const SET: &str = "INSERT INTO feature_flags (key, enabled, updated_at) VALUES ($1, $2, $3) \
    ON CONFLICT (key) DO UPDATE SET enabled = excluded.enabled, updated_at = excluded.updated_at \
    RETURNING key, enabled, description, updated_at";
const SEED: &str = "INSERT INTO feature_flags (key, enabled, description, updated_at) \
    VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING";

impl Store {
    /// All feature flags, by key.
    pub async fn feature_flags(&self) -> Result<Vec<FeatureFlag>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(ALL).fetch_all(pool).await)?)
    }

    /// Turns a flag, making it when it is new.
    pub async fn set_feature_flag(&self, key: &str, enabled: bool) -> Result<FeatureFlag, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(SET)
            .bind(key).bind(enabled).bind(self.now().await?).fetch_one(pool).await)?)
    }

    /// Makes a flag, turned off, unless it is there.
    pub(super) async fn seed_feature_flag(&self, key: &str, description: &str) -> Result<bool, StoreError> {
        let made = on_pool!(self, pool => sqlx::query(SEED)
            .bind(key).bind(false).bind(description).bind(self.now().await?)
            .execute(pool).await.map(|done| done.rows_affected()))?;
        Ok(made == 1)
    }
}
