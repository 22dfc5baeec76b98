//! A transactional outbox for Celery tasks, on PostgreSQL and SQLite.
//!
//! A program adds messages to the table `outbox_messages` in the transaction that writes its own rows, so that both are
//! there or neither is ([`postgres::add`], [`sqlite::add`]). A [`Relay`], of which any number may run, publishes in batches what is to be
//! published by now. The table is all that this crate knows of the database; the program's own migrations make it with
//! [`postgres::SCHEMA`] or [`sqlite::SCHEMA`].
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> Result<(), sqlx::Error> {
//! use celeriac_outbox::{Message, postgres};
//!
//! let mut transaction = pool.begin().await?;
//! sqlx::query("INSERT INTO orders (id) VALUES (7)").execute(&mut *transaction).await?;
//! let message = Message::new("shop.tasks.send_receipt").arg(7).key("receipt/7");
//! postgres::add(&mut *transaction, &[message]).await?;
//! transaction.commit().await
//! # }
//! ```
//!
//! A message without a key is forgotten once it is published. One with a key stays until the task
//! [settles](postgres::settle) it, best in the transaction that records the task's work: there is never a second message
//! of the same key meanwhile, and if the broker loses the message it is published again ([`Relay::republish_after`]).
//!
//! A relay that is killed between publishing a batch and recording it publishes that batch again, under the same task ids:
//! tasks run at least once, as ever with Celery.
#![deny(missing_docs)]

#[cfg(feature = "celery")]
mod celery;
mod message;
mod outgoing;
mod pool;
pub mod postgres;
mod publish;
mod relay;
pub mod sqlite;

#[cfg(feature = "celery")]
pub use celery::CeleryPublisher;
pub use message::Message;
pub use outgoing::Outgoing;
pub use pool::Pool;
pub use publish::{BrokerState, Publish, PublishError};
pub use relay::{Relay, RelayError};
