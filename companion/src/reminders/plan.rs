//! Which channels a delivery uses, given what earlier ones have left.

use crate::{
    notify::Channel,
    store::{Begun, ChannelDelivery, ChannelStatus},
};

/// What is to be done with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send by it.
    Send,
    /// Nothing: it has delivered already.
    Delivered,
    /// Nothing: an earlier sending may have been delivered, and would be repeated.
    Uncertain,
}

/// The channels that reach the user, each with what is to be done.
pub(super) fn of<'a>(begun: &Begun, channels: &'a [Channel]) -> Vec<(&'a Channel, Step)> {
    let reaching =
        channels.iter().filter(|channel| channel.reaches(&begun.email, begun.push_token.as_deref()));
    reaching.map(|channel| (channel, step(begun, channel))).collect()
}

fn step(begun: &Begun, channel: &Channel) -> Step {
    let before = begun.before.iter().find(|before| before.channel == channel.name());
    match before.map(|before| before.status) {
        Some(ChannelStatus::Delivered) => Step::Delivered,
        Some(ChannelStatus::Sending | ChannelStatus::Uncertain) if !channel.recognises_repetition() => {
            Step::Uncertain
        }
        _ => Step::Send,
    }
}

/// What is recorded before anything is sent.
pub(super) fn to_record(steps: &[(&Channel, Step)]) -> Vec<ChannelDelivery> {
    let record = |(channel, step): &(&Channel, Step)| {
        let status = match step {
            Step::Send => ChannelStatus::Sending,
            Step::Uncertain => ChannelStatus::Uncertain,
            Step::Delivered => return None,
        };
        Some(ChannelDelivery { channel: channel.name().to_owned(), status })
    };
    steps.iter().filter_map(record).collect()
}
