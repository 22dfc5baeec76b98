//! Answers that are shared by all who ask within a second.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(1);

/// A question that is asked once for all who want to know within a second.
pub(crate) struct Once<T> {
    latest: Mutex<Option<Answer<T>>>,
}

/// When it came, and the answer; nothing when the one who looked for it panicked.
type Answer<T> = Shared<BoxFuture<'static, Option<(Instant, Arc<T>)>>>;

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { latest: Mutex::default() }
    }
}

impl<T: Send + Sync + 'static> Once<T> {
    /// Returns the answer of the last second, or the one that is under way, or asks; `None` when asking panicked.
    ///
    /// Cancel safe: the question is asked to its end for those who come later.
    pub(crate) async fn ask<F>(&self, question: impl Fn() -> F) -> Option<Arc<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        loop {
            let (answer, is_new) = self.answer(&question);
            let (came, answer) = answer.await?;
            // One that nobody waited for may have been there for long.
            if is_new || came.elapsed() < FRESH {
                return Some(answer);
            }
        }
    }

    fn answer<F>(&self, question: &impl Fn() -> F) -> (Answer<T>, bool)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = &*latest
            && answer
                .peek()
                .is_none_or(|known| known.as_ref().is_some_and(|(came, _)| came.elapsed() < FRESH))
        {
            return (answer.clone(), false);
        }
        let question = question();
        let asked = tokio::spawn(async move {
            let answer = question.await;
            (Instant::now(), Arc::new(answer))
        });
        let answer = asked.map(Result::ok).boxed().shared();
        *latest = Some(answer.clone());
        (answer, true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_question_is_asked_once_for_all_who_ask_within_a_second() {
        let (once, asked) = (Arc::new(Once::default()), Arc::new(AtomicU32::new(0)));
        let ask = || {
            let (once, asked) = (once.clone(), asked.clone());
            async move {
                let question = || {
                    let asked = asked.clone();
                    async move {
                        tokio::task::yield_now().await;
                        asked.fetch_add(1, Ordering::Relaxed)
                    }
                };
                *once.ask(question).await.expect("an answer")
            }
        };
        // Whoever leaves does not make others ask again.
        drop(tokio::spawn(ask()).abort_handle());
        let answers = futures_util::future::join_all((0..50).map(|_| ask())).await;
        assert_eq!(answers, [0; 50]);
        compat_tests::eventually_async("a new answer", compat_tests::secs(10), async || ask().await > 0)
            .await;
    }
}
