//! One delivery on its way through the worker.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::beat_runs;
use super::completion::Completion;
use super::execute::{Ended, Limits, execute};
use super::hooks;
use super::metrics::TaskCounters;
use super::panics;
use super::place::Place;
use super::refused::Standing;
use super::runtime::Runtime;
use crate::broker::{Disposition, Settlement};
use crate::failpoints::fail_point;
use crate::message::{EncodedBody, Headers, Message, Parts, Properties, TimeLimit};
use crate::task::{Context, Request, TaskDefinition};

/// A message that was accepted for running.
pub(crate) struct Job {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) definition: Arc<TaskDefinition>,
    pub(crate) counters: Arc<TaskCounters>,
    /// The queue that it came from.
    pub(crate) queue: Arc<str>,
    pub(crate) headers: Arc<Headers>,
    pub(crate) properties: Arc<Properties>,
    pub(crate) body: Arc<EncodedBody>,
    pub(crate) serial: u64,
    /// The time at which the message was taken.
    pub(crate) taken: Instant,
    pub(crate) acknowledged: bool,
    pub(crate) terminate: CancellationToken,
    /// Where it runs, as soon as that is known.
    pub(crate) place: Option<Place>,
}

impl Job {
    /// Whether the message is acknowledged only after the run.
    pub(crate) fn acks_late(&self) -> bool {
        self.definition.options.acks_late.unwrap_or(self.runtime.config().task_acks_late)
    }

    /// The place of the message among others that wait: its priority step, then its age.
    pub(crate) fn rank(&self) -> (u8, u64) {
        let broker = self.runtime.app.broker();
        (broker.rank(self.properties.priority.unwrap_or(0)), self.serial)
    }

    /// Runs the task and settles its message. If the worker itself panics over it, the message goes back; one over
    /// which that happens each time ends as a dead letter.
    pub(crate) async fn run_or_hand_back(self: Box<Self>) {
        let (runtime, serial) = (Arc::clone(&self.runtime), self.serial);
        if let Err(panic) = AssertUnwindSafe(self.run()).catch_unwind().await {
            let error = panics::failure(&*panic);
            log::error!(serial, error:? = error; "The worker panicked over a message, which goes back to its queue");
            runtime.hand_back(serial);
        }
    }

    /// Runs the task and settles its message.
    async fn run(mut self: Box<Self>) {
        let runtime = Arc::clone(&self.runtime);
        fail_point!("run.due");
        if runtime.drop_if_unwanted(&self) {
            return;
        }
        if self.place.is_none() {
            self.place = runtime.place_now(&self.definition);
        }
        if self.place.is_none() {
            let Some(job) = Box::pin(self.await_place()).await else { return };
            self = job;
        }
        let late = self.acks_late();
        if !late && !self.acknowledged {
            self.acknowledged = true;
            runtime.settle(Settlement::of(self.serial, Disposition::Ack));
        }
        let Some(mut request) = self.read().await else { return };
        request.taken = Some(self.taken);
        let Self { definition, counters, serial, acknowledged, terminate, body, place, .. } = *self;
        runtime.state.count(&definition.name);
        runtime.begin(serial, acknowledged);
        let started = Instant::now();
        let context =
            Context::for_run(Arc::clone(&definition), request, runtime.states.clone(), runtime.app.clone());
        let completion = Completion {
            runtime: &runtime,
            definition: &definition,
            counters: &counters,
            serial,
            acknowledged,
            started,
            standing: Standing { context: Some(&context), ..Standing::default() },
            body: Some(&body),
        };
        let request = context.request();
        if beat_runs::is_one(request) && Box::pin(runtime.is_second_message(request)).await {
            Box::pin(completion.finish(Disposition::Ack, Vec::new(), None)).await;
            runtime.forget(serial);
            return;
        }
        if runtime.deduplicates(request, acknowledged)
            && Box::pin(completion.ends_as_duplicate(request)).await
        {
            return;
        }
        runtime.events.task_events(definition.options.send_events).started(&request.id);
        counters.started.inc();
        if completion.tracks_started(request) {
            Box::pin(completion.store_started(request)).await;
        }
        let limits = runtime.limits(request, Some(&definition), terminate);
        hooks::each(&runtime.hooks.task_prerun, |hook| hook(request));
        if !acknowledged && request.redelivered() && Box::pin(completion.ends_as_poison(&context)).await {
            return;
        }
        fail_point!("run.before");
        let (layers, handler) = (&runtime.layers, &definition.handler);
        let ended = match place {
            Some(Place::Child(child)) => {
                Box::pin(runtime.execute_in_process(*child, &definition, &context, limits, serial)).await
            }
            Some(Place::Thread(seat)) => execute(layers, handler, Some(seat), context.clone(), limits).await,
            Some(Place::Runtime) | None => execute(layers, handler, None, context.clone(), limits).await,
        };
        fail_point!("run.after");
        match ended {
            // What nearly every task comes to stays small; the rest is put aside.
            Ended::Returned(Ok(value)) => completion.succeed(&context, value).await,
            ended => Box::pin(completion.complete(&context, ended)).await,
        }
        fail_point!("run.completed");
        hooks::each(&runtime.hooks.task_postrun, |hook| hook(context.request(), started.elapsed()));
        runtime.forget(serial);
    }

    /// Reads the request; of a message that cannot be read nothing is left to do.
    async fn read(&self) -> Option<Request> {
        let runtime = &self.runtime;
        let hostname = &runtime.state.hostname;
        if let Ok(Some(body)) = runtime.decode(&self.body, || self.body.decode_triple(&runtime.accept)).await
        {
            let (headers, properties) = (Arc::clone(&self.headers), Arc::clone(&self.properties));
            return Some(Request::new(headers, properties, body, hostname));
        }
        // Only the hybrid form, a body of protocol 1 under headers of protocol 2, is read otherwise.
        match runtime.decode(&self.body, || self.whole_message().into_task(&runtime.accept)).await {
            Ok((message, body)) => Some(Request::new(message.headers, message.properties, body, hostname)),
            Err(error) => {
                if self.acknowledged {
                    runtime.bury(self);
                }
                Box::pin(runtime.refuse(self.serial, self.acknowledged, self.parts(), &error)).await;
                None
            }
        }
    }

    /// The message in its parts.
    pub(crate) fn parts(&self) -> Parts {
        let Self { headers, properties, body, .. } = self;
        Parts { headers: Arc::clone(headers), properties: Arc::clone(properties), body: Arc::clone(body) }
    }

    /// The message as it came.
    pub(crate) fn whole_message(&self) -> Message {
        self.parts().message()
    }

    /// Gives the message back to its queue, to be delivered next.
    pub(crate) fn hand_back(self) {
        self.runtime.hand_back(self.serial);
    }
}

impl Completion<'_> {
    /// Ends a run that is not needed, as the task has succeeded before; whether it has.
    async fn ends_as_duplicate(&self, request: &Request) -> bool {
        let Some(earlier) = self.runtime.earlier_success(request).await else { return false };
        fail_point!("deduplicate.found");
        self.skip(request, earlier).await;
        fail_point!("deduplicate.skipped");
        self.runtime.forget(self.serial);
        true
    }

    /// Counts the start of a message that came back, and gives it up if its worker died too often; whether it did.
    async fn ends_as_poison(&self, context: &Context) -> bool {
        let starts = self.runtime.count_start(context.request(), self.acknowledged).await;
        let Some(starts) = starts.filter(|starts| self.runtime.is_poison(starts)) else { return false };
        self.give_to_the_dead(context, &starts).await;
        fail_point!("poison.given_up");
        self.runtime.forget(self.serial);
        true
    }
}

impl Runtime {
    fn hand_back(&self, serial: u64) {
        self.settle(Settlement::of(serial, Disposition::Restore));
        self.forget(serial);
    }

    /// What may end a run, or what follows from it; `definition` is that of the task, if it is known here.
    pub(super) fn limits(
        &self,
        request: &Request,
        definition: Option<&TaskDefinition>,
        terminate: CancellationToken,
    ) -> Limits {
        let (config, asked) = (self.config(), request.headers.timelimit);
        let own = definition.map(|definition| &definition.options);
        let own = own.map(|own| TimeLimit { hard: own.time_limit, soft: own.soft_time_limit });
        let set = self.time_limits(&request.task).or(own).unwrap_or_default();
        Limits {
            hard: limit([asked.hard, set.hard], config.task_time_limit),
            soft: limit([asked.soft, set.soft], config.task_soft_time_limit),
            terminate,
            abort: self.life.abort.clone(),
        }
    }
}

/// The first limit in seconds that is one: 0 is none, and leaves it to the next source.
///
/// Source: `execute_using_pool` in `celery/worker/request.py`, celery 5.7, and `apply_async` in `billiard/pool.py`.
fn limit(given: [Option<f64>; 2], setting: Option<std::time::Duration>) -> Option<f64> {
    let setting = setting.map(|limit| limit.as_secs_f64());
    given.into_iter().chain([setting]).flatten().find(|seconds| *seconds != 0.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::limit;

    #[test]
    fn a_limit_of_0_leaves_it_to_the_next_source() {
        let setting = Some(Duration::from_secs(9));
        assert_eq!(limit([Some(1.0), Some(2.0)], setting), Some(1.0));
        assert_eq!(limit([Some(0.0), Some(2.0)], setting), Some(2.0));
        assert_eq!(limit([None, Some(0.0)], setting), Some(9.0));
        assert_eq!(limit([Some(0.0), None], Some(Duration::ZERO)), None);
        assert_eq!(limit([None, None], None), None);
    }
}
