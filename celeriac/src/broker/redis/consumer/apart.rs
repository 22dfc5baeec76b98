//! Results in another database of the server, as long as it lets one transaction reach both: settlements that hold results
//! go back to the worker when it does not, to be committed in steps.

use super::Consumer;
use crate::broker::Receiver;
use crate::broker::redis::connection::{Connection, server_error};
use crate::broker::redis::exchange::is_full;
use crate::broker::redis::rights::Missing;
use crate::broker::redis::selection::{APART, Selection};
use crate::broker::redis::transaction::Transaction;
use crate::broker::refusals::{Effect, Refusal, Work};

/// The right that is missing.
const RIGHT: &str = "SELECT";

impl<R: Receiver> Consumer<R> {
    /// What a transaction needs to reach the results, if they are in a database of their own.
    pub(super) fn selection(&self) -> Option<&Selection> {
        self.results.selection()
    }

    /// Asks whether one transaction may reach both databases; the right that is missing if not.
    ///
    /// # Errors
    /// The connection broke over that, or is in the wrong database now, or the server refuses everything.
    pub(super) async fn ask_for_selection(
        &self,
        connection: &mut Connection,
    ) -> Result<Option<Missing>, String> {
        let Some(selection) = self.selection() else { return Ok(None) };
        if selection.is_hopeless() {
            let reason = "the connection breaks when the database is changed in a transaction".to_owned();
            return Ok(Some(Missing::comfort(RIGHT, APART, reason)));
        }
        let mut answer = selection.ask(connection, selection.question()).await?;
        if answer.iter().filter_map(server_error).any(|reason| is_full(&reason)) {
            answer = selection.ask(connection, selection.question_of_full()).await?;
        }
        let refused = selection.note_answer(&answer)?;
        Ok(refused.map(|reason| Missing::comfort(RIGHT, APART, reason)))
    }

    /// Whether what belongs to results is not to be committed here.
    pub(super) fn is_apart(&self) -> bool {
        self.selection().is_some_and(|selection| !selection.is_allowed())
    }

    /// Notes that the server does not let a transaction reach both databases any more.
    pub(super) fn note_unselected(&self, reason: &str) {
        if let Some(selection) = self.selection() {
            selection.refuse();
            let refusal = Refusal::new(Work::Right, RIGHT, format!("{APART} ({reason})"));
            self.refusals.note(refusal.with(Effect::Limited));
        }
    }

    /// Gives what holds results back to the worker, and keeps the messages.
    pub(super) fn part_ways(&mut self, transaction: &mut Transaction) {
        for part in transaction.take_parts() {
            if part.commands.results.is_empty() {
                transaction.add(part);
            } else {
                let part = self.hold_apart(Some(transaction), part);
                self.receiver.separated(part.into_settlement());
            }
        }
    }

    /// Does so with the transaction under way, of which nothing was carried out.
    pub(super) fn part_present_ways(&mut self) {
        if let Some(mut transaction) = self.transaction.take() {
            self.part_ways(&mut transaction);
            self.reseal(transaction);
        }
    }
}
