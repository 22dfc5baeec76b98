//! Who does the cryptography of TLS in this process.

/// Has ring do it, unless somebody chose already.
pub(crate) fn install_provider() {
    // A provider that is there serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
