//! Chords that are easy to get wrong: applied in odd ways, large, slow, with parts that end without a result.

mod counters;
mod endings;
mod joining;
mod reapplied;
mod stage;
mod unread;
