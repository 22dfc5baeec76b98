//! The outbox of this database: messages that are written together with what they are about.

use celeriac_outbox::{Message, postgres, sqlite};
use chrono::{DateTime, Utc};
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::{Pool, Store, StoreError, on_pool};

/// The key of the message by which a reminder is delivered. The scan's statements make the same key.
pub(super) fn key(reminder: Uuid) -> String {
    format!("reminder/{}", reminder.simple())
}

/// The outbox, within a transaction.
pub(super) trait Outbox {
    async fn add(&mut self, messages: &[Message]) -> Result<u64, sqlx::Error>;
    async fn settle(&mut self, keys: &[String]) -> Result<u64, sqlx::Error>;
    async fn defer(&mut self, keys: &[(String, DateTime<Utc>)]) -> Result<(), sqlx::Error>;
}

impl Outbox for super::postgres::Work {
    async fn add(&mut self, messages: &[Message]) -> Result<u64, sqlx::Error> {
        postgres::add(&mut **self, messages).await
    }

    async fn settle(&mut self, keys: &[String]) -> Result<u64, sqlx::Error> {
        postgres::settle(&mut **self, keys).await
    }

    async fn defer(&mut self, keys: &[(String, DateTime<Utc>)]) -> Result<(), sqlx::Error> {
        postgres::defer(&mut **self, keys).await
    }
}

impl Outbox for Transaction<'static, Sqlite> {
    async fn add(&mut self, messages: &[Message]) -> Result<u64, sqlx::Error> {
        sqlite::add(self, messages).await
    }

    async fn settle(&mut self, keys: &[String]) -> Result<u64, sqlx::Error> {
        sqlite::settle(self, keys).await
    }

    async fn defer(&mut self, keys: &[(String, DateTime<Utc>)]) -> Result<(), sqlx::Error> {
        sqlite::defer(self, keys).await
    }
}

impl Store {
    /// The outbox, for a relay that publishes from it.
    pub fn outbox(&self) -> celeriac_outbox::Pool {
        match &self.pool {
            Pool::Postgres(link) => celeriac_outbox::Pool::Postgres(link.pool()),
            Pool::Sqlite(pool) => celeriac_outbox::Pool::Sqlite(pool.clone()),
        }
    }

    /// How many messages should have been published by now.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn overdue_messages(&self) -> Result<i64, StoreError> {
        Ok(self.outbox().overdue().await?)
    }

    /// Forgets the message by which a reminder is delivered: nothing is left to do.
    pub(crate) async fn settle_delivery(&self, reminder: Uuid) -> Result<(), StoreError> {
        on_pool!(self, pool => {
            let mut tx = super::BeginWrite::begin_write(pool).await?;
            tx.settle(&[key(reminder)]).await?;
            tx.commit().await?;
        });
        Ok(())
    }

    /// Keeps the message by which a reminder is delivered from being published again before that time.
    pub(crate) async fn defer_delivery(
        &self,
        reminder: Uuid,
        until: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        on_pool!(self, pool => {
            let mut tx = super::BeginWrite::begin_write(pool).await?;
            tx.defer(&[(key(reminder), until)]).await?;
            tx.commit().await?;
        });
        Ok(())
    }
}
