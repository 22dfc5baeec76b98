//! Room on the stack for recursions whose depth a message chooses.

/// Bytes that must be left for one more level: what several levels of any type's code take in a debug build.
const RED_ZONE: usize = 128 * 1024;
/// Bytes of each further piece of stack.
const PIECE: usize = 2 * 1024 * 1024;

/// Calls the function for the next level of a nested value, on a further piece of stack when this one is nearly used up.
#[inline]
pub(crate) fn deeper<T>(call: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(RED_ZONE, PIECE, call)
}
