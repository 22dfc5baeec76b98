//! The name that was meant by one with a typing error.

/// The name that is nearest, if it is near enough to have been meant.
pub(super) fn nearest(name: &str, names: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let (distance, nearest) = names
        .into_iter()
        .map(|known| (edit_distance(name, known), known))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= name.len() / 4 + 1).then_some(nearest)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
