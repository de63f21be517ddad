//! TLS towards PostgreSQL: verified against the relation's CA; without a CA encrypted but not verified.

use super::error::{Error, Result};
use super::server::Server;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The TLS side of a connection to this server.
///
/// # Errors
/// [`Error::Found`] when the relation's CA is not a PEM certificate.
pub(super) fn connector(server: &Server) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(server, error.to_string()))?;
    let config = match &server.ca {
        Some(pem) => builder.with_root_certificates(roots(server, pem)?),
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))),
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

fn roots(server: &Server, pem: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(server, error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(server, error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable(server, "it holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn unusable(server: &Server, why: String) -> Error {
    Error::found(
        format!("use TLS with {}", server.address()),
        format!("the CA certificate from the relation is unusable ({why})"),
        "check the certificates integration of the PostgreSQL application",
    )
}

/// Accepts any certificate, but only from a server that holds its key.
///
/// This is what libpq's `sslmode=prefer` and `require` do without a root certificate: the relation
/// gave no CA, so there is nothing to verify against, and an encrypted connection that an active
/// attacker could stand in is still better than a readable one. With a CA this type is never used.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
