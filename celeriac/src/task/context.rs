//! What a running task can see and ask for.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{Request, Retry, TaskDefinition, TaskError, TaskOptions, TaskResult};
use crate::app::{AsyncResult, Celery};
use crate::backend::{ResultRef, TaskMeta, TaskState};
use crate::canvas::{self, Outbox};
use crate::message::{Map, Signature, Value};

/// The surroundings of one run of a task; cheap to clone.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    definition: Option<Arc<TaskDefinition>>,
    request: Request,
    states: States,
    app: Option<Celery>,
    soft_limit: OnceLock<CancellationToken>,
    watches_soft_limit: AtomicBool,
    children: Mutex<Vec<ResultRef>>,
}

impl Context {
    /// A context for that request of a task with the default options.
    pub fn new(request: Request, states: States) -> Self {
        Self::with(None, request, states, None)
    }

    /// A context for that request of that task.
    pub fn for_task(definition: Arc<TaskDefinition>, request: Request, states: States) -> Self {
        Self::with(Some(definition), request, states, None)
    }

    /// A context for a run in a worker.
    pub(crate) fn for_run(
        definition: Arc<TaskDefinition>,
        request: Request,
        states: States,
        app: Celery,
    ) -> Self {
        Self::with(Some(definition), request, states, Some(app))
    }

    fn with(
        definition: Option<Arc<TaskDefinition>>,
        request: Request,
        states: States,
        app: Option<Celery>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                definition,
                request,
                states,
                app,
                soft_limit: OnceLock::new(),
                watches_soft_limit: AtomicBool::new(false),
                children: Mutex::default(),
            }),
        }
    }

    /// The same as something that says nothing of itself, for those who only pass it on.
    pub(crate) fn opaque(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.inner) as _
    }

    /// The context of which [`Context::opaque`] made this, if it did.
    pub(crate) fn from_opaque(opaque: Arc<dyn Any + Send + Sync>) -> Option<Self> {
        opaque.downcast().ok().map(|inner| Self { inner })
    }

    /// The task that is run, if the worker knows it.
    pub(crate) fn definition(&self) -> Option<&Arc<TaskDefinition>> {
        self.inner.definition.as_ref()
    }

    /// The time by the clock of the application.
    pub(crate) fn time(&self) -> DateTime<Utc> {
        self.inner.app.as_ref().map_or_else(Utc::now, |app| app.clock().now())
    }

    /// The call that is being run.
    pub fn request(&self) -> &Request {
        &self.inner.request
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.inner.request.task
    }

    /// What the task declares about itself.
    pub fn options(&self) -> &TaskOptions {
        static DEFAULT: LazyLock<TaskOptions> = LazyLock::new(TaskOptions::default);
        self.inner.definition.as_deref().map_or(&DEFAULT, |definition| &definition.options)
    }

    /// A retry, after the task's `default_retry_delay` unless told otherwise; return it as the task's error.
    pub fn retry(&self) -> Retry {
        Retry::default()
    }

    /// A retry after a time that grows with the number of retries; see [`TaskOptions::backoff_delay`].
    pub fn backoff(&self) -> Retry {
        Retry::default().countdown(self.options().backoff_delay(self.request().retries()))
    }

    /// Ends the task with a retry in that many seconds, as rusty-celery spells it.
    ///
    /// # Errors
    /// Always: the retry.
    pub fn retry_with_countdown<T>(&self, countdown: u32) -> TaskResult<T> {
        Err(self.retry().countdown(countdown).into())
    }

    /// Ends the task with a retry at that time, as rusty-celery spells it.
    ///
    /// # Errors
    /// Always: the retry.
    pub fn retry_with_eta<T>(&self, eta: DateTime<Utc>) -> TaskResult<T> {
        Err(self.retry().eta(eta).into())
    }

    /// The shared state of that type.
    ///
    /// # Errors
    /// Fails the task when the worker was built without such a state.
    pub fn state<T: Send + Sync + 'static>(&self) -> TaskResult<State<T>> {
        self.inner.states.get().ok_or_else(|| {
            let text = format!(
                "the worker has no state of type {}; hint: add it with Worker::state",
                type_name::<T>()
            );
            TaskError::builtin("RuntimeError", text)
        })
    }

    /// Cancelled when the soft time limit passes.
    ///
    /// A task that asks for it takes care of the limit itself; any other fails with `SoftTimeLimitExceeded`.
    pub fn soft_limit(&self) -> &CancellationToken {
        self.inner.watches_soft_limit.store(true, Ordering::Relaxed);
        self.inner.soft_limit.get_or_init(CancellationToken::new)
    }

    /// Notes that the soft limit passed; whether the task takes care of it.
    pub(crate) fn reach_soft_limit(&self) -> bool {
        self.inner.soft_limit.get_or_init(CancellationToken::new).cancel();
        self.inner.watches_soft_limit.load(Ordering::Relaxed)
    }

    /// A context for a task that this one calls in its own place.
    pub(crate) fn for_inner(&self, definition: Arc<TaskDefinition>, request: Request) -> Self {
        Self::with(Some(definition), request, self.inner.states.clone(), self.inner.app.clone())
    }

    /// The application that runs the task.
    ///
    /// # Errors
    /// Fails the task outside of a worker.
    pub fn app(&self) -> TaskResult<&Celery> {
        self.inner
            .app
            .as_ref()
            .ok_or_else(|| TaskError::builtin("RuntimeError", "the task does not run in a worker"))
    }

    /// Sends a task, chain, group or chord on behalf of this task: they share its root, and become its children.
    ///
    /// If it is cancelled, the message may have been sent all the same.
    ///
    /// # Errors
    /// Fails the task when the signature cannot be applied or sent.
    pub async fn send(&self, signature: impl Into<Signature>) -> TaskResult<AsyncResult> {
        let signature = signature.into();
        let result = self.app()?.apply_for(&signature, Some(self.request())).await?;
        self.add_child(result.handle().clone());
        Ok(result)
    }

    /// Lets another signature take this task's place, its id, chord and callbacks included; return it as the error.
    pub fn replace(&self, signature: impl Into<Signature>) -> TaskError {
        TaskError::Replace(Box::new(signature.into()))
    }

    /// Adds a signature to the chord whose header this task is in.
    ///
    /// If it is cancelled, the message may have been sent all the same.
    ///
    /// # Errors
    /// Fails the task when it is in no chord, or the signature cannot be sent.
    pub async fn add_to_chord(&self, signature: impl Into<Signature>) -> TaskResult<AsyncResult> {
        let app = self.app()?;
        let mut outbox = Outbox::new();
        let result = app.with_sender(Some(self.request()), |sender| {
            canvas::add_to_chord(self.request(), signature.into(), sender, &mut outbox)
        });
        let result = result.map_err(crate::app::Error::from)?;
        app.commit(outbox.effects).await?;
        self.add_child(result.clone());
        Ok(AsyncResult::of(app, result))
    }

    /// Stores a state of your own, such as `PROGRESS`, with what is to be known of it.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// Fails the task when the result backend does.
    pub async fn update_state(&self, state: &str, meta: Value) -> TaskResult<()> {
        let (app, request) = (self.app()?, self.request());
        let backend = app.backend()?;
        let mut meta = TaskMeta::new(request.id.clone(), TaskState::from_name(state), meta);
        meta.group_id.clone_from(&request.headers.group);
        meta.parent_id.clone_from(&request.headers.parent_id);
        if app.config().result_extended {
            meta.extended = request.extended();
        }
        Ok(backend.store(&meta).await.map_err(crate::app::Error::from)?)
    }

    /// Tells monitors something about this task, such as `task-progressed` with `{"percent": 50}`, whether the worker sends
    /// events or not; what comes after the dash becomes the state that monitors show.
    ///
    /// If it is cancelled, the message may have been sent all the same.
    ///
    /// # Errors
    /// Fails the task when the broker does.
    pub async fn send_event(&self, kind: &str, fields: Map) -> TaskResult<()> {
        let (app, request) = (self.app()?, self.request());
        let mut all = Map::from([("uuid".to_owned(), Value::from(request.id.as_str()))]);
        all.extend(fields);
        Ok(app.send_event(&request.hostname, kind, &all).await?)
    }

    /// Notes the result of something that this task sent.
    pub fn add_child(&self, child: ResultRef) {
        self.inner.children.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(child);
    }

    /// The results of what this task sent so far.
    pub fn children(&self) -> Vec<ResultRef> {
        self.inner.children.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// State that all tasks of a worker share, found by its type.
pub struct State<T>(Arc<T>);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        State(Arc::clone(&self.0))
    }
}

/// The states of a worker, one a type.
#[derive(Clone, Default)]
pub struct States {
    by_type: Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl States {
    /// The same states and one more; a state of the same type is replaced.
    pub fn with<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        Arc::make_mut(&mut self.by_type).insert(TypeId::of::<T>(), Arc::new(state));
        self
    }

    /// The state of that type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        let state = Arc::clone(self.by_type.get(&TypeId::of::<T>())?);
        state.downcast().ok().map(State)
    }

    /// Whether there is a state of that type.
    pub fn has(&self, state: TypeId) -> bool {
        self.by_type.contains_key(&state)
    }
}
