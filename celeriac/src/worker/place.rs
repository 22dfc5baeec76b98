//! Where a run takes place. A task begins, and an early acknowledgement is sent, only when it has its place.

use super::job::Job;
use super::processes::Held;
use super::runtime::Runtime;
use super::threads::{self, Seat};
use crate::task::{Handler, TaskDefinition};

/// Where a run takes place.
pub(crate) enum Place {
    /// On the threads of the runtime.
    Runtime,
    /// In a thread of its own, for a blocking function.
    Thread(Seat),
    /// In a child process.
    Child(Box<Held>),
}

impl Runtime {
    /// Finds a place that is there at once.
    pub(crate) fn place_now(&self, definition: &TaskDefinition) -> Option<Place> {
        if self.runs_in_process(definition) {
            return self.processes.idle().map(|child| Place::Child(Box::new(child)));
        }
        match definition.handler {
            Handler::Async(_) => Some(Place::Runtime),
            Handler::Blocking(_) => Seat::now().ok().map(Place::Thread),
        }
    }

    /// Finds a place, waiting for it as long as that takes.
    async fn place(&self, definition: &TaskDefinition) -> Place {
        if self.runs_in_process(definition) {
            return Place::Child(Box::new(self.processes.take().await));
        }
        Place::Thread(Seat::wait().await)
    }

    /// Why no task can begin; `None` while they can.
    pub(crate) fn shortage(&self) -> Option<String> {
        self.processes.shortage().reason().or_else(|| threads::SHORTAGE.reason())
    }

    /// Whether tasks wait for a place that the system refuses.
    pub(crate) fn is_short(&self) -> bool {
        self.processes.shortage().is_on() || threads::SHORTAGE.is_on()
    }
}

impl Job {
    /// Waits for its place; gives the job back to the slots, and nothing to the caller, when the worker shuts down
    /// meanwhile, and drops it when it expires or is revoked meanwhile.
    pub(crate) async fn await_place(mut self: Box<Self>) -> Option<Box<Self>> {
        let runtime = self.runtime.clone();
        let _placing = runtime.life.placing.token();
        let place = tokio::select! {
            biased;
            place = runtime.place(&self.definition) => place,
            () = runtime.life.stopping.cancelled() => {
                runtime.slots.submit(self);
                return None;
            }
        };
        self.place = Some(place);
        if runtime.drop_if_unwanted(&self) { None } else { Some(self) }
    }
}
