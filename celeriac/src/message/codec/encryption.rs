//! Encrypted bodies, for arguments that nobody who reads the broker shall see. Celery has no such serializer; docs/encryption.md has
//! one for Python programs.
//!
//! `1, length of the key's id, the id, 16 random bytes, ciphertext`: AES-256-GCM under a key and nonce that HKDF-SHA-256 makes of
//! the shared key and the random bytes, so that no two messages have the same. The bytes before the ciphertext are
//! authenticated too. The plaintext is `content type, 0, content encoding, 0, body`.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Content, ENCRYPTED, Wrap};
use crate::config::Config;
use crate::message::ProtocolError;

const VERSION: u8 = 1;
const SALT: usize = 16;
const KEY: usize = 32;
const NONCE: usize = 12;
const INFO: &[u8] = b"celeriac encrypted body";

/// Encrypts with the first of its keys, and decrypts with each.
pub struct Encryption {
    keys: Vec<Key>,
}

struct Key {
    id: String,
    secret: [u8; KEY],
}

impl Encryption {
    /// With the keys of `celeriac_encryption_keys`.
    ///
    /// # Errors
    /// There is none, or one that is not of the form `ID:64 hexadecimal digits`.
    pub fn from_config(config: &Config) -> Result<Self, ProtocolError> {
        Self::new(config.celeriac_encryption_keys.as_deref().unwrap_or_default())
    }

    /// With keys as the setting has them: `ID:64 hexadecimal digits`, separated by commas.
    ///
    /// # Errors
    /// As [`Encryption::from_config`].
    pub fn new(keys: &str) -> Result<Self, ProtocolError> {
        // The key itself is never shown.
        let bad = |reason: String| ProtocolError::Security { setting: "celeriac_encryption_keys", reason };
        let read = |key: &str| {
            let (id, digits) = key.trim().split_once(':')?;
            let digit = |place: usize| u8::from_str_radix(digits.get(place * 2..place * 2 + 2)?, 16).ok();
            let secret: Vec<u8> = (0..KEY).map_while(digit).collect();
            let fits = digits.len() == KEY * 2 && !digits.contains('+') && (1..=255).contains(&id.len());
            Some(Key { id: id.to_owned(), secret: secret.try_into().ok().filter(|_| fits)? })
        };
        let keys: Vec<&str> = keys.split(',').filter(|key| !key.trim().is_empty()).collect();
        if keys.is_empty() {
            return Err(bad(
                "is not set\nhint: ID:64 hexadecimal digits, as of `openssl rand -hex 32`".to_owned()
            ));
        }
        let keys = keys.iter().enumerate().map(|(index, key)| {
            read(key)
                .ok_or_else(|| bad(format!("key {} is not of the form ID:64 hexadecimal digits", index + 1)))
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }
}

impl Wrap for Encryption {
    fn name(&self) -> &'static str {
        ENCRYPTED
    }

    fn is_secret(&self) -> bool {
        true
    }

    fn content_type(&self) -> &'static str {
        "application/x-celeriac-encrypted"
    }

    fn content_encoding(&self) -> &'static str {
        "binary"
    }

    fn wrap(&self, content: &Content) -> Result<Vec<u8>, ProtocolError> {
        let failed = |_| ProtocolError::encode(ENCRYPTED, "the system gives no random bytes");
        let key = self.keys.first().ok_or_else(|| ProtocolError::encode(ENCRYPTED, "there is no key"))?;
        let mut salt = [0; SALT];
        SystemRandom::new().fill(&mut salt).map_err(failed)?;
        let mut head = vec![VERSION, key.id.len() as u8];
        head.extend_from_slice(key.id.as_bytes());
        head.extend_from_slice(&salt);
        let mut text =
            [content.content_type.as_bytes(), content.content_encoding.as_bytes(), &content.body].join(&0);
        let (sealing, nonce) = key.derive(&salt).map_err(failed)?;
        sealing.seal_in_place_append_tag(nonce, Aad::from(&head), &mut text).map_err(failed)?;
        head.append(&mut text);
        Ok(head)
    }

    fn unwrap(&self, data: &[u8]) -> Result<Content, ProtocolError> {
        let refuse = |reason: String| ProtocolError::NotTrusted { reason };
        let parts = || {
            let (&version, rest) = data.split_first()?;
            let (&length, rest) = rest.split_first()?;
            let (id, rest) = rest.split_at_checked(length.into())?;
            let (salt, text) = rest.split_at_checked(SALT)?;
            (version == VERSION).then_some((id, salt, text))
        };
        let (id, salt, text) =
            parts().ok_or_else(|| refuse("the body is not an encrypted one".to_owned()))?;
        let key = self.keys.iter().find(|key| key.id.as_bytes() == id).ok_or_else(|| {
            refuse(format!(
                "no key {:?} is known\nhint: celeriac_encryption_keys",
                String::from_utf8_lossy(id)
            ))
        })?;
        let damaged = || refuse("the body is not what was encrypted".to_owned());
        let (opening, nonce) = key.derive(salt).map_err(|_| damaged())?;
        let head = &data[..data.len() - text.len()];
        let mut text = text.to_vec();
        let plain = opening.open_in_place(nonce, Aad::from(head), &mut text).map_err(|_| damaged())?;
        let mut parts = plain.splitn(3, |byte| *byte == 0);
        let mut part = || parts.next().map(<[u8]>::to_vec);
        let [content_type, content_encoding, body] = [part(), part(), part()];
        let text = |part: Option<Vec<u8>>| String::from_utf8(part?).ok();
        Ok(Content {
            content_type: text(content_type).ok_or_else(damaged)?,
            content_encoding: text(content_encoding).ok_or_else(damaged)?,
            body: body.ok_or_else(damaged)?,
        })
    }
}

impl Key {
    /// The key and the nonce of one message.
    fn derive(&self, salt: &[u8]) -> Result<(LessSafeKey, Nonce), ring::error::Unspecified> {
        struct Length;
        impl KeyType for Length {
            fn len(&self) -> usize {
                KEY + NONCE
            }
        }
        let mut bytes = [0; KEY + NONCE];
        Salt::new(HKDF_SHA256, salt).extract(&self.secret).expand(&[INFO], Length)?.fill(&mut bytes)?;
        let (key, nonce) = bytes.split_at(KEY);
        Ok((LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?), Nonce::try_assume_unique_for_key(nonce)?))
    }
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        formatter.debug_struct("Encryption").field("keys", &ids).finish()
    }
}
