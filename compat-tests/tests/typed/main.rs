//! Types and trust: what a task takes is known and checked on both sides, and who sent it can be proved.

mod arguments;
mod publish;
mod rusty;
mod security;
mod stage;
mod stubs;
