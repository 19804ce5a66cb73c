//! Identifiers as newtypes, so that one kind of hash never stands where another belongs.
//!
//! All 32-byte ids print and parse as lower-case hex and travel as CBOR byte strings.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Why a textual id was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseIdError {
    /// Wrong number of characters or a character outside `0-9a-f`.
    #[error("read {what} from {text:?}: expected {bytes} bytes as {digits} hexadecimal digits", digits = bytes * 2)]
    Hex {
        /// What was being read.
        what: &'static str,
        /// The offending text, cut to 80 characters.
        text: String,
        /// How many bytes were expected.
        bytes: usize,
    },
}

struct BytesVisitor<const N: usize>(&'static str);

impl<'de, const N: usize> de::Visitor<'de> for BytesVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {N} bytes", self.0)
    }

    fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<[u8; N], E> {
        v.try_into().map_err(|_| E::invalid_length(v.len(), &self))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<[u8; N], E> {
        parse_hex(self.0, v).map_err(E::custom)
    }
}

/// Reads exactly `N` bytes: a byte string on the wire, hex in JSON and TOML.
pub(crate) fn deserialize_array<'de, D: Deserializer<'de>, const N: usize>(
    what: &'static str,
    d: D,
) -> Result<[u8; N], D::Error> {
    if d.is_human_readable() {
        d.deserialize_str(BytesVisitor::<N>(what))
    } else {
        d.deserialize_bytes(BytesVisitor::<N>(what))
    }
}

/// Writes bytes as a byte string on the wire and as hex in JSON and TOML.
pub(crate) fn serialize_array<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    if s.is_human_readable() {
        s.serialize_str(&hex::encode(bytes))
    } else {
        s.serialize_bytes(bytes)
    }
}

/// For fields that are plain arrays: a byte string on the wire, hex in JSON and TOML.
pub mod bytes {
    use serde::{Deserializer, Serializer};

    /// Writes the bytes.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        s: S,
    ) -> Result<S::Ok, S::Error> {
        super::serialize_array(bytes, s)
    }

    /// Reads exactly `N` bytes.
    ///
    /// # Errors
    /// The deserializer's, or another length.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        d: D,
    ) -> Result<[u8; N], D::Error> {
        super::deserialize_array("a byte string", d)
    }
}

fn parse_hex<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], ParseIdError> {
    let mut out = [0u8; N];
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode_to_slice(digits, &mut out).map_err(|_| ParseIdError::Hex {
        what,
        text: text.chars().take(80).collect(),
        bytes: N,
    })?;
    Ok(out)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// All bytes zero: the absent value where a field is mandatory.
            pub const ZERO: Self = Self([0; $bytes]);

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The first eight hex digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::ZERO
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                parse_hex($what, s).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                serialize_array(&self.0, s)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                deserialize_array($what, d).map(Self)
            }
        }

        impl From<[u8; $bytes]> for $name {
            fn from(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
        }
    };
}

id!(
    /// A network: BLAKE3 of its signed profile text. Part of every signed prefix, so that nothing
    /// replays from one network to another.
    NetworkId, 32, "a network id"
);
id!(
    /// Who earns: BLAKE3 of the owner key.
    AccountId, 32, "an account id"
);
id!(
    /// A node: the 32 bytes of its ed25519 public key, which also is its libp2p PeerId and its
    /// iroh EndpointId.
    NodeId, 32, "a node id"
);
id!(
    /// An owner's ed25519 public key.
    OwnerPublic, 32, "an owner key"
);
id!(
    /// A task: BLAKE3 of network and canonical task bytes.
    TaskId, 32, "a task id"
);
id!(
    /// A campaign: BLAKE3 of network and canonical campaign bytes.
    CampaignId, 32, "a campaign id"
);
id!(
    /// A proof: BLAKE3 of the bytes that its signature covers.
    ProofId, 32, "a proof id"
);
id!(
    /// A blob: plain BLAKE3 of its bytes, as iroh-blobs addresses it.
    BlobId, 32, "a blob id"
);
id!(
    /// The head of the coordinator's log after some entry.
    LogHead, 32, "a log head"
);
id!(
    /// A node's promise of an output, made before anybody may see it.
    Commitment, 32, "a commitment"
);
id!(
    /// What a proof says was produced: BLAKE3 of kind and body bytes.
    OutputRoot, 32, "an output root"
);
id!(
    /// A released rule set: BLAKE3 of its parameters.
    RuleSetId, 32, "a rule set id"
);
id!(
    /// The root over a round's node set with weights and cohorts.
    NodeSetRoot, 32, "a node set root"
);
id!(
    /// Public randomness of a round.
    BeaconValue, 32, "a beacon value"
);
id!(
    /// A keccak-256 hash that a contract may check.
    Keccak, 32, "a keccak hash"
);
id!(
    /// The secret nonce of a commitment.
    SecretNonce, 32, "a secret nonce"
);
id!(
    /// A 20-byte EVM address.
    EvmAddress, 20, "an EVM address"
);
id!(
    /// An ed25519 signature.
    Signature, 64, "an ed25519 signature"
);
id!(
    /// A recoverable secp256k1 signature, `r || s || v` with `v` 27 or 28 and low `s`.
    EvmSignature, 65, "a secp256k1 signature"
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after, saturating at the end of time.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// A round: beacon, node set, assignments.
    Round
);
counter!(
    /// An epoch: what is settled together.
    Epoch
);
counter!(
    /// Milliseconds since 1970-01-01 UTC.
    UnixMs
);
counter!(
    /// A position in the coordinator's log; the first entry has height 0.
    Height
);

impl UnixMs {
    /// This instant plus a number of milliseconds, saturating.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl BlobId {
    /// The id of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// BLAKE3 in key-derivation mode: `domain` separates the uses, `parts` are length-prefixed so that
/// no two lists of parts hash alike.
#[must_use]
pub fn tagged_hash(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_as_hex_and_refuse_other_lengths() {
        let id = TaskId([7; 32]);
        assert_eq!(id.to_string().parse::<TaskId>().unwrap(), id);
        let error = "00ff".parse::<TaskId>().unwrap_err().to_string();
        assert!(error.contains("a task id") && error.contains("64 hexadecimal digits"), "{error}");
    }

    #[test]
    fn tagged_hashes_separate_domains_and_part_boundaries() {
        assert_ne!(tagged_hash("a", &[b"xy"]), tagged_hash("b", &[b"xy"]));
        assert_ne!(tagged_hash("a", &[b"x", b"y"]), tagged_hash("a", &[b"xy", b""]));
    }
}
