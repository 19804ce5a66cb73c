//! TLS 1.3 with raw ed25519 public keys on both sides (RFC 7250, RFC 8410), through ring.
//!
//! No certificate, no name, no authority: the key is the identity. Sessions are not resumed, so
//! that each connection proves its key anew.

use std::sync::{Arc, Mutex, PoisonError};

use openledger_wire::{NodeId, NodeKey};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

use super::error::LinkError;

/// Name of the protocol and its version, compared in the handshake.
const ALPN: &[u8] = b"openledger/link/1";

/// What stands before the 32 key bytes in an ed25519 SubjectPublicKeyInfo (RFC 8410 section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What stands before the 32 seed bytes in an ed25519 PKCS#8 key (RFC 8410 section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

fn spki(node: &NodeId) -> Vec<u8> {
    [&SPKI_PREFIX[..], node.as_bytes()].concat()
}

fn node_of_spki(spki: &[u8]) -> Option<NodeId> {
    let key = spki.strip_prefix(&SPKI_PREFIX[..])?;
    key.try_into().ok().map(NodeId)
}

fn keys_error(e: impl std::fmt::Display) -> LinkError {
    LinkError::Keys { reason: e.to_string() }
}

fn certified(key: &NodeKey, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, LinkError> {
    let seed = key.seed();
    let pkcs8 = [&PKCS8_PREFIX[..], &seed[..]].concat();
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    let signing = provider.key_provider.load_private_key(secret).map_err(keys_error)?;
    let public = CertificateDer::from(spki(&key.public()));
    Ok(Arc::new(CertifiedKey::new(vec![public], signing)))
}

/// The server's side: any well-formed node key may knock; the caller asks [`peer_node`] which.
pub(super) fn server(key: &NodeKey) -> Result<quinn::crypto::rustls::QuicServerConfig, LinkError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let own = certified(key, &provider)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(keys_error)?
        .with_client_cert_verifier(Arc::new(AnyNode { algorithms }))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(own)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    quinn::crypto::rustls::QuicServerConfig::try_from(Arc::new(config)).map_err(keys_error)
}

/// The key that another server showed, if it was not the pinned one.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Option<NodeId>>);

impl Shown {
    /// Takes what was seen since the last call.
    pub(super) fn take(&self) -> Option<NodeId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The client's side: only the server with this key is trusted.
pub(super) fn client(
    key: &NodeKey,
    server: NodeId,
    shown: Arc<Shown>,
) -> Result<quinn::crypto::rustls::QuicClientConfig, LinkError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let own = certified(key, &provider)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(keys_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OneServer { server, shown, algorithms }))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    quinn::crypto::rustls::QuicClientConfig::try_from(Arc::new(config)).map_err(keys_error)
}

/// Whose key the other side of an established connection proved.
pub(super) fn peer_node(connection: &quinn::Connection) -> Option<NodeId> {
    let identity = connection.peer_identity()?;
    let shown = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?;
    node_of_spki(shown.first()?)
}

fn verify_signature(
    message: &[u8],
    shown: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
    verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
}

fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
}

#[derive(Debug)]
struct AnyNode {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyNode {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match node_of_spki(shown) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(rustls::Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, shown, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct OneServer {
    server: NodeId,
    shown: Arc<Shown>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for OneServer {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let node = node_of_spki(shown);
        if node == Some(self.server) {
            return Ok(ServerCertVerified::assertion());
        }
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = node;
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, shown, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
