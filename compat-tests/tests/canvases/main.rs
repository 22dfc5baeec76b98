//! Canvases at Celery's own worker, at ours, and at both together; at random, and of one large size.

mod client;
mod generated;
mod large;
mod stage;
