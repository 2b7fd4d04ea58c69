//! The server: its URL, and the trusted authorities.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use hyper::Uri;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// URL of an instance with default configuration.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8001";
const EXPECTED: &str = "expected: http://host[:port][/path], or https://";

/// A server that can be called.
pub(super) struct Server {
    base: String,
    /// TLS configuration.
    pub(super) tls: ClientConfig,
}

impl Server {
    /// Parses URL and certificates; the error is a text for people.
    pub(super) fn find(url: &str, ca: Option<&OsStr>) -> Result<Self, String> {
        let url = if url.is_empty() { DEFAULT_URL } else { url };
        let (base, scheme) = base(url)?;
        let ca = ca.filter(|file| !file.is_empty());
        let roots = match (scheme.as_str(), ca) {
            (_, Some(file)) => given_authorities(file)?,
            ("https", None) => system_authorities()?,
            (_, None) => RootCertStore::empty(),
        };
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { base, tls })
    }

    /// Its URL without a final slash; contains no secret.
    pub(super) fn url(&self) -> &str {
        &self.base
    }
}

/// Parses a URL to which paths can be appended, and its scheme.
fn base(url: &str) -> Result<(String, String), String> {
    // The text is not repeated, because it may be a secret.
    if url.contains('@') {
        return Err(format!("--url (VX11_OPERATOR_URL): a URL takes no user or password; {EXPECTED}"));
    }
    let wrong = || format!("--url (VX11_OPERATOR_URL): {url:?} is no URL of a service; {EXPECTED}");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme)).ok_or_else(wrong)?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
    // An invalid port would silently become the default of the scheme.
    let port = authority.as_str()[authority.host().len()..].strip_prefix(':');
    if port.is_some_and(|port| port.parse::<u16>().is_err()) || url.contains(['?', '#']) {
        return Err(wrong());
    }
    Ok((format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')), scheme.to_owned()))
}

fn given_authorities(file: &OsStr) -> Result<RootCertStore, String> {
    let file = Path::new(file);
    let complaint = |problem: &str| format!("--ca (VX11_OPERATOR_CA): the file {} {problem}", file.display());
    let pem = std::fs::read(file).map_err(|error| complaint(&format!("cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| complaint(&format!("holds a certificate that cannot be used: {error}")))?;
    }
    if roots.is_empty() { Err(complaint("holds no certificate in PEM form")) } else { Ok(roots) }
}

fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Unusable certificates of the system are skipped.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this system trusts no authority; give certificates as --ca (VX11_OPERATOR_CA)".to_owned()
        );
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_appended_to_any_form_of_the_url() {
        for (written, read) in [
            ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
            ("https://events.example/", "https://events.example"),
            ("https://events.example/behind/this//", "https://events.example/behind/this"),
            ("HTTP://[::1]:80/", "http://[::1]:80"),
        ] {
            assert_eq!(base(written).unwrap().0, read);
        }
    }

    #[test]
    fn what_is_no_url_of_a_service_is_refused_and_a_password_in_it_not_repeated() {
        for wrong in [
            "localhost:8001",
            "/path",
            "ftp://host",
            "http://",
            "http://:80",
            "http://host:99999",
            "http://host:port",
            "http://host:",
            "http://host/?a=b",
            "http://host/#a",
            "http://a b",
            "redis://host",
        ] {
            assert!(base(wrong).unwrap_err().contains(EXPECTED), "{wrong}");
        }
        assert!(!base("https://user:secret@host").unwrap_err().contains("secret"));
    }
}
