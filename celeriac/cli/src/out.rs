//! Writing to standard output and standard error, which may be closed or full.

use std::fmt::Display;
use std::io::Write;

use crate::failure::Failure;

/// Writes a line to standard output.
///
/// # Errors
/// The reader is gone, which ends the program quietly, or nothing more can be written, as on a full disk.
pub(crate) fn say(line: impl Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failure::from)
}

/// Writes a text to standard output.
///
/// # Errors
/// The same as [`say`].
pub(crate) fn write(text: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(Failure::from)
}

/// Writes a line to standard error; if that is closed, there is nobody to tell.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
