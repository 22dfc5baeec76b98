//! The name that a task has when it is given none: its path, with dots as in Python.

/// Bytes of that path with dots for `::`.
pub const fn dotted_length(path: &str) -> usize {
    let bytes = path.as_bytes();
    let (mut from, mut length) = (0, 0);
    while from < bytes.len() {
        from += if bytes[from] == b':' { 2 } else { 1 };
        length += 1;
    }
    length
}

/// That path with dots for `::`, of the length that [`dotted_length`] gives.
pub const fn dotted<const LENGTH: usize>(path: &str) -> [u8; LENGTH] {
    let bytes = path.as_bytes();
    let mut name = [b'.'; LENGTH];
    let (mut from, mut to) = (0, 0);
    while to < LENGTH {
        if bytes[from] == b':' {
            from += 2;
        } else {
            name[to] = bytes[from];
            from += 1;
        }
        to += 1;
    }
    name
}
