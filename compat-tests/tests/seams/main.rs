//! The promises of brokers and result backends: each is one test, written once and run against every kind of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Makes a test of each promise for each kind of server.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        promises!(@kind redis, Place::redis, [$($promise)*]);
        promises!(@kind memory, Place::memory, [$($promise)*]);
        promises!(@kind memory_like_amqp, Place::memory_like_amqp, [$($promise)*]);
    };
    (@kind $kind:ident, $place:expr, [$($promise:ident)*]) => {
        mod $kind {
            use crate::place::Place;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::$promise($place(|_| {})).await;
                }
            )*
        }
    };
}

mod backends;
mod brokers;
mod place;
