//! The signed envelope around everything that a node or an owner says.
//!
//! Signed are the body bytes *as sent*, behind a prefix that names domain, version and network:
//! `"openledger" || len(domain) || domain || version (u16 BE) || network id || body`. A verifier
//! never re-encodes. What a contract may judge is signed differently: see [`crate::eip712`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::Blob;
use crate::codec::{self, DecodeError, EncodeError};
use crate::ids::{NetworkId, NodeId, Signature};
use crate::keys::{KeyError, NodeKey, OwnerKey, verify_ed25519};
use crate::limits;

/// A type that is signed: its domain separates it from all others.
pub trait Signable: Serialize + DeserializeOwned {
    /// Name of the kind of statement; never reused for another one.
    const DOMAIN: &'static str;
    /// Version of its encoding.
    const VERSION: u16;
    /// Bound of its encoding in bytes.
    const BYTES_MAX: usize;
}

/// Why an envelope was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Meant for another network.
    #[error(
        "open a {domain} message: it belongs to network {theirs}, this is {ours}; use that network's profile"
    )]
    OtherNetwork {
        /// What it should be.
        domain: &'static str,
        /// Network in the envelope.
        theirs: NetworkId,
        /// Network here.
        ours: NetworkId,
    },
    /// Another kind of statement.
    #[error("open a {expected} message: this is a {found:?}; send it to the right place")]
    OtherDomain {
        /// What it should be.
        expected: &'static str,
        /// What it says it is.
        found: String,
    },
    /// A version that this build does not know.
    #[error(
        "open a {domain} message: version {found} is unknown here, this build knows {known}; update the older side"
    )]
    UnknownVersion {
        /// Kind of statement.
        domain: &'static str,
        /// Version in the envelope.
        found: u16,
        /// Version of this build.
        known: u16,
    },
    /// The signature does not hold.
    #[error("open a {domain} message of {signer:?}: {source}")]
    Signature {
        /// Kind of statement.
        domain: &'static str,
        /// Who is said to have signed.
        signer: NodeId,
        /// What is wrong.
        source: KeyError,
    },
    /// The body is not what it should be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A signed statement as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Kind of statement.
    domain: crate::bounded::Text<32>,
    /// Version of the body's encoding.
    version: u16,
    /// The network it is meant for.
    network: NetworkId,
    /// The ed25519 key that signed: a node's or an owner's.
    signer: NodeId,
    /// The statement, canonically encoded.
    body: Blob<{ limits::ENVELOPE_MAX }>,
    /// Over prefix and body.
    signature: Signature,
}

/// A statement whose signature, network and version were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    /// What was said.
    pub value: T,
    /// By whom (an owner's key reads as bytes too).
    pub signer: NodeId,
    /// BLAKE3 of the bytes that were signed: the statement's id.
    pub id: [u8; 32],
}

/// What is signed: prefix and body.
fn signed_bytes(domain: &str, version: u16, network: &NetworkId, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10 + 1 + domain.len() + 2 + 32 + body.len());
    bytes.extend_from_slice(b"openledger");
    // Domains are constants of at most 32 bytes.
    bytes.push(u8::try_from(domain.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(domain.as_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&network.0);
    bytes.extend_from_slice(body);
    bytes
}

impl Envelope {
    /// Signs a statement with a node key.
    pub fn seal<T: Signable>(
        value: &T,
        network: NetworkId,
        key: &NodeKey,
    ) -> Result<Self, EncodeError> {
        Self::seal_with(value, network, key.public(), |bytes| key.sign(bytes))
    }

    /// Signs a statement with an owner key.
    pub fn seal_as_owner<T: Signable>(
        value: &T,
        network: NetworkId,
        key: &OwnerKey,
    ) -> Result<Self, EncodeError> {
        Self::seal_with(value, network, NodeId(key.public().0), |bytes| key.sign(bytes))
    }

    fn seal_with<T: Signable>(
        value: &T,
        network: NetworkId,
        signer: NodeId,
        sign: impl FnOnce(&[u8]) -> Signature,
    ) -> Result<Self, EncodeError> {
        let too_long = |reason: String| EncodeError::Unencodable { what: T::DOMAIN, reason };
        let body = codec::encode(value)?;
        if body.len() > T::BYTES_MAX {
            return Err(too_long(format!("{} bytes, limit {}", body.len(), T::BYTES_MAX)));
        }
        let signature = sign(&signed_bytes(T::DOMAIN, T::VERSION, &network, &body));
        Ok(Self {
            domain: crate::bounded::Text::new(T::DOMAIN).map_err(|e| too_long(e.to_string()))?,
            version: T::VERSION,
            network,
            signer,
            body: Blob::new(body).map_err(|e| too_long(e.to_string()))?,
            signature,
        })
    }

    /// Checks network, domain, version and signature, and only then decodes the body.
    pub fn open<T: Signable>(&self, network: NetworkId) -> Result<Verified<T>, EnvelopeError> {
        if &*self.domain != T::DOMAIN {
            let found = self.domain.to_string();
            return Err(EnvelopeError::OtherDomain { expected: T::DOMAIN, found });
        }
        if self.network != network {
            let (domain, theirs) = (T::DOMAIN, self.network);
            return Err(EnvelopeError::OtherNetwork { domain, theirs, ours: network });
        }
        if self.version != T::VERSION {
            let (domain, found, known) = (T::DOMAIN, self.version, T::VERSION);
            return Err(EnvelopeError::UnknownVersion { domain, found, known });
        }
        let bytes = signed_bytes(T::DOMAIN, T::VERSION, &network, &self.body);
        verify_ed25519(&self.signer.0, &bytes, &self.signature).map_err(|source| {
            EnvelopeError::Signature { domain: T::DOMAIN, signer: self.signer, source }
        })?;
        let value = codec::decode(&self.body, T::BYTES_MAX)?;
        Ok(Verified { value, signer: self.signer, id: *blake3::hash(&bytes).as_bytes() })
    }

    /// The id that [`Envelope::open`] will give, before the signature is checked.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        let bytes = signed_bytes(&self.domain, self.version, &self.network, &self.body);
        *blake3::hash(&bytes).as_bytes()
    }

    /// Who is said to have signed.
    #[must_use]
    pub fn signer(&self) -> NodeId {
        self.signer
    }

    /// The canonical bytes of the whole envelope.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        codec::encode(self)
    }

    /// Reads an envelope; nothing in it is believed yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, limits::ENVELOPE_MAX + 512)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        n: u64,
    }
    impl Signable for Note {
        const DOMAIN: &'static str = "test note";
        const VERSION: u16 = 3;
        const BYTES_MAX: usize = 64;
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Other {
        n: u64,
    }
    impl Signable for Other {
        const DOMAIN: &'static str = "test other";
        const VERSION: u16 = 3;
        const BYTES_MAX: usize = 64;
    }

    #[test]
    fn an_envelope_opens_only_as_what_it_is_where_it_belongs() {
        let key = NodeKey::from_seed(&[1; 32]);
        let (here, there) = (NetworkId([1; 32]), NetworkId([2; 32]));
        let sealed = Envelope::seal(&Note { n: 5 }, here, &key).unwrap();
        let sealed = Envelope::from_bytes(&sealed.to_bytes().unwrap()).unwrap();
        let opened = sealed.open::<Note>(here).unwrap();
        assert_eq!((opened.value, opened.signer), (Note { n: 5 }, key.public()));
        assert_eq!(opened.id, sealed.id());
        assert!(matches!(sealed.open::<Note>(there), Err(EnvelopeError::OtherNetwork { .. })));
        assert!(matches!(sealed.open::<Other>(here), Err(EnvelopeError::OtherDomain { .. })));
        let newer = Envelope { version: 4, ..sealed.clone() };
        assert!(matches!(newer.open::<Note>(here), Err(EnvelopeError::UnknownVersion { .. })));
        let forged = Envelope { signer: NodeKey::from_seed(&[2; 32]).public(), ..sealed.clone() };
        assert!(matches!(forged.open::<Note>(here), Err(EnvelopeError::Signature { .. })));
        let altered = Envelope { body: Blob::new(encode_note(6)).unwrap(), ..sealed };
        assert!(matches!(altered.open::<Note>(here), Err(EnvelopeError::Signature { .. })));
    }

    fn encode_note(n: u64) -> Vec<u8> {
        codec::encode(&Note { n }).unwrap()
    }
}
