//! Tests whose promise has a size that takes long: usually smaller, and whole when the environment says so.

/// The number in the environment variable `name`, else `usual`.
///
/// # Panics
/// When the variable holds no number.
pub fn size(name: &str, usual: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => usual,
    }
}
