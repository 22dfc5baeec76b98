//! API keys: kept as a prefix that finds the row and the SHA-256 of the whole key, compared in constant time.
//!
//! The prefix is the first 8 characters of the key. Prefixes are unique in the database, but keys may begin alike
//! (`sk-demo-...`): a key whose prefix is taken gets as many more characters, up to 16, as it takes.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::store::{ApiKeyRow, Store, StoreError, User};

const SHORTEST: usize = 8;
const LONGEST: usize = 16;

/// The user whose active key this is.
///
/// # Errors
/// When the database is not available.
pub async fn authenticate(store: &Store, key: &str) -> Result<Option<User>, StoreError> {
    match find(store, key).await? {
        Some(row) => store.user(row.user_id).await,
        None => Ok(None),
    }
}

/// Gives a user another API key; whether it was new.
///
/// # Errors
/// When the database is not available.
pub async fn register(store: &Store, user_id: Uuid, key: &str) -> Result<bool, StoreError> {
    if find(store, key).await?.is_some() {
        return Ok(false);
    }
    for prefix in prefixes(key) {
        let row = ApiKeyRow { user_id, prefix: prefix.to_owned(), key_hash: hash(key) };
        if store.insert_api_key(&row).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// SHA-256 in lower-case hex.
pub fn hash(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether two texts are equal, in a time that depends on nothing but their lengths.
pub fn equal(left: &str, right: &str) -> bool {
    left.as_bytes().ct_eq(right.as_bytes()).into()
}

async fn find(store: &Store, key: &str) -> Result<Option<ApiKeyRow>, StoreError> {
    let expected = hash(key);
    let rows = store.active_api_keys(&prefixes(key)).await?;
    Ok(rows
        .into_iter()
        .fold(None, |found, row| if equal(&row.key_hash, &expected) { Some(row) } else { found }))
}

/// The first 8, 9, ... 16 characters; for a shorter key the whole key again and again.
fn prefixes(key: &str) -> [&str; LONGEST - SHORTEST + 1] {
    std::array::from_fn(|index| {
        let end = key.char_indices().nth(SHORTEST + index).map_or(key.len(), |(position, _)| position);
        &key[..end]
    })
}
