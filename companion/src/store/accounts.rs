use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use super::{Store, StoreError, on_pool};

/// A user, as far as this service needs to know.
#[derive(Debug, Clone, FromRow)]
pub struct User {
    /// Primary key.
    pub id: Uuid,
    /// Where reminders are e-mailed to.
    pub email: String,
    /// Expo push token of the user's phone.
    pub push_token: Option<String>,
    /// The persona chosen last.
    pub current_persona_key: Option<String>,
    /// When the user signed up.
    pub created_at: DateTime<Utc>,
}

/// What is kept of an API key; never the key itself.
#[derive(Debug, Clone, FromRow)]
pub struct ApiKeyRow {
    /// Whose key it is.
    pub user_id: Uuid,
    /// The first characters of the key, unique.
    pub prefix: String,
    /// SHA-256 of the whole key in lower-case hex.
    pub key_hash: String,
}

const USER: &str = "SELECT id, email, push_token, current_persona_key, created_at FROM users WHERE id = $1";
const HAS_USERS_BESIDES: &str = "SELECT EXISTS (SELECT 1 FROM users WHERE email <> $1)";
const USER_BY_EMAIL: &str =
    "SELECT id, email, push_token, current_persona_key, created_at FROM users WHERE email = $1";
const INSERT_USER: &str = "INSERT INTO users (id, email, plan, current_persona_key, created_at) \
    VALUES ($1, $2, 'free', $3, $4) ON CONFLICT (email) DO NOTHING";
const SET_PUSH_TOKEN: &str = "UPDATE users SET push_token = $2 WHERE id = $1";
const FORGET_PUSH_TOKEN: &str = "UPDATE users SET push_token = NULL WHERE id = $1 AND push_token = $2";
const ACTIVE_KEYS: &str = "SELECT user_id, prefix, key_hash FROM api_keys \
    WHERE prefix IN ($1, $2, $3, $4, $5, $6, $7, $8, $9) AND status = 'active'";
const INSERT_KEY: &str = "INSERT INTO api_keys (id, user_id, prefix, key_hash, status, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, 'active', $5, $5) ON CONFLICT (prefix) DO NOTHING";

impl Store {
    /// The user with this id.
    pub async fn user(&self, id: Uuid) -> Result<Option<User>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(USER).bind(id).fetch_optional(pool).await)?)
    }

    /// Forgets the push token of a phone that does not take messages any more, unless the user has another one by now.
    pub async fn forget_push_token(&self, user: Uuid, token: &str) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(FORGET_PUSH_TOKEN).bind(user).bind(token).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// The user with this address.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(USER_BY_EMAIL).bind(email).fetch_optional(pool).await)?)
    }

    /// Returns whether there is a user with another address.
    pub(super) async fn has_users_besides(&self, email: &str) -> Result<bool, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_scalar(HAS_USERS_BESIDES).bind(email).fetch_one(pool).await)?)
    }

    /// Makes a user; returns whether the address was new.
    pub async fn insert_user(&self, email: &str, persona_key: Option<&str>) -> Result<bool, StoreError> {
        let made = on_pool!(self, pool => sqlx::query(INSERT_USER)
            .bind(Uuid::new_v4())
            .bind(email)
            .bind(persona_key)
            .bind(self.now().await?)
            .execute(pool)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(made == 1)
    }

    /// Sets or clears the push token of a user.
    pub async fn set_push_token(&self, user: Uuid, token: Option<&str>) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(SET_PUSH_TOKEN).bind(user).bind(token).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// The active keys with one of these prefixes.
    pub async fn active_api_keys(&self, prefixes: &[&str; 9]) -> Result<Vec<ApiKeyRow>, StoreError> {
        Ok(on_pool!(self, pool => {
            let mut query = sqlx::query_as(ACTIVE_KEYS);
            for prefix in prefixes {
                query = query.bind((*prefix).to_owned());
            }
            query.fetch_all(pool).await
        })?)
    }

    /// Keeps a key; whether its prefix was free.
    pub async fn insert_api_key(&self, key: &ApiKeyRow) -> Result<bool, StoreError> {
        let made = on_pool!(self, pool => sqlx::query(INSERT_KEY)
            .bind(Uuid::new_v4())
            .bind(key.user_id)
            .bind(&key.prefix)
            .bind(&key.key_hash)
            .bind(self.now().await?)
            .execute(pool)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(made == 1)
    }
}
