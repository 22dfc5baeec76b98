use std::future::Future;

use tokio::sync::{mpsc, oneshot};

/// Carries out the calls of many tasks together: those that come while one batch is under way make the next.
///
/// Nobody waits for a batch to fill, so a lone call is as quick as without.
pub(crate) struct Combiner<T, R> {
    calls: mpsc::UnboundedSender<(T, oneshot::Sender<R>)>,
}

impl<T: Send + 'static, R: Send + 'static> Combiner<T, R> {
    /// Has `run` answer up to `most` calls at a time, each in its place. Must be called within a tokio runtime.
    pub(crate) fn new<F, A>(most: usize, run: F) -> Self
    where
        F: Fn(Vec<T>) -> A + Send + 'static,
        A: Future<Output = Vec<R>> + Send,
    {
        let (calls, mut waiting) = mpsc::unbounded_channel::<(T, oneshot::Sender<R>)>();
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(most);
            while waiting.recv_many(&mut batch, most).await > 0 {
                let (inputs, askers): (Vec<T>, Vec<_>) = batch.drain(..).unzip();
                for (asker, answer) in askers.into_iter().zip(run(inputs).await) {
                    // Who has gone away meanwhile needs no answer.
                    let _ = asker.send(answer);
                }
            }
        });
        Self { calls }
    }

    /// The answer to a call; nothing when `run` has panicked.
    pub(crate) async fn call(&self, input: T) -> Option<R> {
        let (asker, answer) = oneshot::channel();
        self.calls.send((input, asker)).ok()?;
        answer.await.ok()
    }
}
