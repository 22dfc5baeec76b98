//! The threads in which blocking tasks run.
//!
//! They are not those of the runtime, whose number is fixed and whose end a program waits for: a function that was
//! given up keeps its thread, and neither later tasks nor the end of the program wait for it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::shortage::Shortage;
use crate::node::lock;
use crate::task::Context;

/// How long a thread stays without work.
const KEPT: Duration = Duration::from_secs(10);

/// Every thread.
static ALL: Mutex<Vec<Arc<Thread>>> = Mutex::new(Vec::new());
/// The threads without work; the last one works next.
static IDLE: Mutex<Vec<Arc<Thread>>> = Mutex::new(Vec::new());
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Whether threads can be started.
pub(crate) static SHORTAGE: Shortage = Shortage::new(
    "threads",
    "free memory, raise the limit of processes (ulimit -u, the cgroup's pids.max), or give tasks that hang `pool = \"process\"`",
);

type Work = Box<dyn FnOnce() + Send>;

struct Thread {
    work: SyncSender<Work>,
    doing: Mutex<Doing>,
}

#[derive(Default)]
struct Doing {
    /// Number of the run within its thread.
    number: u64,
    run: Option<Busy>,
}

/// A run that has a thread.
#[derive(Clone)]
pub(crate) struct Busy {
    pub(crate) context: Context,
    pub(crate) since: Instant,
    /// Whether nobody waits for the function any more.
    pub(crate) given_up: bool,
}

/// A thread that waits for one function; it joins the others again when this is dropped unused.
pub(crate) struct Seat(Option<Arc<Thread>>);

impl Seat {
    /// Takes a thread that is idle or can be started at once.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub(crate) fn now() -> io::Result<Self> {
        let idle = lock(&IDLE).pop();
        let thread = match idle {
            Some(thread) => thread,
            None => start()?,
        };
        Ok(Self(Some(thread)))
    }

    /// Takes a thread as soon as there is one.
    pub(crate) async fn wait() -> Self {
        match Self::now() {
            Ok(seat) => seat,
            Err(_) => SHORTAGE.outlast(|| std::future::ready(Self::now())).await,
        }
    }

    /// Runs a function, which must not panic, within the runtime as one of its own threads would.
    ///
    /// Dropping the future gives the function up, which goes on in its thread.
    pub(crate) async fn run<T: Send + 'static>(
        mut self,
        context: &Context,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let thread = self.0.take()?;
        let number = thread.begin(context);
        let (sender, receiver) = oneshot::channel();
        let (own, handle) = (Arc::clone(&thread), Handle::current());
        let work = Box::new(move || {
            let value = {
                let _runtime = handle.enter();
                function()
            };
            own.end();
            lock(&IDLE).push(own);
            // Nobody waits for what was given up.
            let _ = sender.send(value);
        });
        // A thread that is taken does not end.
        thread.work.send(work).ok()?;
        let watch = Watch { thread, number };
        let value = returned(receiver).await;
        std::mem::forget(watch);
        value
    }
}

/// Waits for what a function returns; in a test its clock stands still meanwhile, since no task of the runtime is at work.
async fn returned<T: Send + 'static>(receiver: oneshot::Receiver<T>) -> Option<T> {
    #[cfg(feature = "testing")]
    if Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread {
        return tokio::task::spawn_blocking(move || receiver.blocking_recv().ok()).await.ok()?;
    }
    receiver.await.ok()
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            lock(&IDLE).push(thread);
        }
    }
}

/// Gives a run up when dropped before its end.
struct Watch {
    thread: Arc<Thread>,
    number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(context) = self.thread.give_up(self.number) {
            let (id, name) = (context.request().id.as_str(), context.name());
            let held = busy().iter().filter(|busy| busy.given_up).count();
            log::warn!(task_id = id, task_name = name, held; "The function of {name}[{id}] was given up and goes on in its thread; {held} thread(s) are held so\nhint: only a process can be ended: give the task `pool = \"process\"`");
        }
    }
}

impl Thread {
    fn begin(&self, context: &Context) -> u64 {
        let mut doing = lock(&self.doing);
        doing.run = Some(Busy { context: context.clone(), since: Instant::now(), given_up: false });
        doing.number
    }

    fn end(&self) {
        let run = {
            let mut doing = lock(&self.doing);
            doing.number += 1;
            doing.run.take()
        };
        drop(run);
    }

    fn give_up(&self, number: u64) -> Option<Context> {
        let mut doing = lock(&self.doing);
        if doing.number != number {
            return None;
        }
        let run = doing.run.as_mut()?;
        run.given_up = true;
        Some(run.context.clone())
    }
}

/// The runs that have a thread now.
pub(crate) fn busy() -> Vec<Busy> {
    let all = lock(&ALL).clone();
    all.iter().filter_map(|thread| lock(&thread.doing).run.clone()).collect()
}

fn start() -> io::Result<Arc<Thread>> {
    let (sender, receiver) = sync_channel(1);
    let thread = Arc::new(Thread { work: sender, doing: Mutex::default() });
    let own = Arc::clone(&thread);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    std::thread::Builder::new().name(format!("task-{number}")).spawn(move || work(&own, &receiver))?;
    lock(&ALL).push(Arc::clone(&thread));
    Ok(thread)
}

/// Works until there is none for long.
fn work(thread: &Arc<Thread>, receiver: &Receiver<Work>) {
    loop {
        match receiver.recv_timeout(KEPT) {
            Ok(work) => work(),
            Err(RecvTimeoutError::Timeout) => {
                let mut idle = lock(&IDLE);
                // Not among the idle, it is taken and work is on its way.
                if let Some(place) = idle.iter().position(|other| Arc::ptr_eq(other, thread)) {
                    idle.remove(place);
                    break;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    lock(&ALL).retain(|other| !Arc::ptr_eq(other, thread));
}
