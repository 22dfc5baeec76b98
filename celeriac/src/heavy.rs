//! Work that takes its thread for long.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Bytes from which reading a message takes longer than a runtime's thread should be held.
pub(crate) const LARGE: usize = 256 * 1024;

/// Calls a function that may take its thread for long; the other tasks of the runtime go on meanwhile.
///
/// On a runtime of one thread they have to wait.
pub(crate) fn aside<T>(call: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(call),
        _ => call(),
    }
}
