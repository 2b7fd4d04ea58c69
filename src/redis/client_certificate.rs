//! Client certificate for a Redis that requires one.

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret, SecretString};

/// A certificate with its chain, and its private key, both in PEM form. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    pub(super) chain: Vec<u8>,
    pub(super) key: SecretString,
}

/// Reason why certificate and key cannot be used. `Display` repeats nothing of the key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotACertificate {
    /// The certificate cannot be parsed.
    #[error("holds no certificate in PEM form")]
    Chain,
    /// The key cannot be parsed.
    #[error("holds no private key in PEM form; one that is encrypted cannot be used")]
    Key,
    /// Certificate and key do not match, or have an unknown type.
    #[error("holds a private key that cannot be used with the certificate: {0}")]
    Pair(rustls::Error),
}

impl ClientCertificate {
    /// Parses a certificate with its chain, and its private key.
    ///
    /// # Errors
    /// They cannot be parsed, or do not match.
    pub fn new(chain: Vec<u8>, key: SecretString) -> Result<Self, NotACertificate> {
        // The parser's text may repeat a line of the key, so it is dropped.
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<_, _>>()
            .map_err(|_| NotACertificate::Chain)?;
        if certificates.is_empty() {
            return Err(NotACertificate::Chain);
        }
        let private = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
            .map_err(|_| NotACertificate::Key)?;
        CertifiedKey::from_der(certificates, private, &ring::default_provider())
            .map_err(NotACertificate::Pair)?;
        Ok(Self { chain, key })
    }
}
