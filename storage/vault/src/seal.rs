//! The bytes of a vault file.
//!
//! `"OLVAULT\n"`, a header's length (u16, big-endian), the header as JSON (anybody may read what
//! made the file and what deriving its key costs), the encrypted content, its tag, and a BLAKE3
//! checksum of all before. Everything before the content is authenticated with it. The checksum
//! guards against nobody; it is there to tell a damaged file from a wrong passphrase.

use argon2::RECOMMENDED_SALT_LEN;
use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::contents::Contents;
use crate::derive::{KdfParams, Key};
use crate::error::SealError;
use crate::limits;
use crate::unlock::Passphrase;

const MAGIC: &[u8; 8] = b"OLVAULT\n";
const FORMAT: u32 = 1;
const SCHEMA: &str = "openledger-vault";
const KDF: &str = "argon2id";
const CIPHER: &str = "xchacha20-poly1305";
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = blake3::OUT_LEN;

pub(crate) type Salt = [u8; RECOMMENDED_SALT_LEN];

/// A derived key with what it was derived by, so that a vault can be written again without its
/// passphrase.
pub(crate) struct Sealer {
    key: Key,
    salt: Salt,
    kdf: KdfParams,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: String,
    format: u32,
    writer: String,
    kdf: String,
    cost: KdfParams,
    salt: String,
    cipher: String,
    nonce: String,
}

/// The part of a header that every format will keep.
#[derive(Deserialize)]
struct Probe {
    schema: String,
    format: u32,
    writer: String,
}

impl Sealer {
    /// Derives a key with a fresh salt.
    pub(crate) fn new(passphrase: &Passphrase, kdf: KdfParams) -> Result<Self, SealError> {
        let salt = random()?;
        let key = kdf.derive(passphrase, &salt)?;
        Ok(Self { key, salt, kdf })
    }

    pub(crate) const fn kdf(&self) -> KdfParams {
        self.kdf
    }

    /// Encrypts `contents` under a fresh nonce (24 random bytes never repeat).
    pub(crate) fn seal(&self, contents: &Contents) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let header = Header {
            schema: SCHEMA.to_owned(),
            format: FORMAT,
            writer: concat!("openledger ", env!("CARGO_PKG_VERSION")).to_owned(),
            kdf: KDF.to_owned(),
            cost: self.kdf,
            salt: hex::encode(self.salt),
            cipher: CIPHER.to_owned(),
            nonce: hex::encode(nonce),
        };
        let unwritable = |_| SealError::Damaged { detail: "its header cannot be written" };
        let header = serde_json::to_vec(&header).map_err(unwritable)?;
        let header_len = u16::try_from(header.len())
            .map_err(|_| SealError::Damaged { detail: "its header is too long" })?;
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&header_len.to_be_bytes());
        file.extend_from_slice(&header);

        let mut content = contents.to_bytes(0)?;
        let tag = XChaCha20Poly1305::new((&*self.key).into())
            .encrypt_in_place_detached((&nonce).into(), &file, &mut content)
            .map_err(|_| SealError::Damaged { detail: "its content cannot be encrypted" })?;
        file.extend_from_slice(&content);
        file.extend_from_slice(&tag);
        let checksum = blake3::hash(&file);
        file.extend_from_slice(checksum.as_bytes());
        Ok(file)
    }

    /// Opens the bytes of a file; gives its content and what is needed to write it again.
    pub(crate) fn open(
        file: &[u8],
        passphrase: &Passphrase,
    ) -> Result<(Contents, Self), SealError> {
        let damaged = |detail| SealError::Damaged { detail };
        let (prefix, header) = split_header(file)?;
        let body_end = file
            .len()
            .checked_sub(CHECKSUM_BYTES)
            .filter(|end| *end >= prefix.len() + TAG_BYTES)
            .ok_or(damaged("it is cut short"))?;
        let (authentic, checksum) = file.split_at(body_end);
        // Constant time is not needed: the checksum is no secret.
        if blake3::hash(authentic).as_bytes() != checksum {
            return Err(damaged("its checksum differs"));
        }
        let header: Header =
            serde_json::from_slice(header).map_err(|_| damaged("its header is not readable"))?;
        if header.kdf != KDF || header.cipher != CIPHER {
            return Err(damaged("it names another cipher"));
        }
        let salt: Salt = unhex(&header.salt).ok_or(damaged("its salt is not readable"))?;
        let nonce: [u8; NONCE_BYTES] =
            unhex(&header.nonce).ok_or(damaged("its nonce is not readable"))?;
        let key = header.cost.derive(passphrase, &salt)?;

        let sealed = authentic.get(prefix.len()..).ok_or(damaged("it is cut short"))?;
        let (content, tag) =
            sealed.split_last_chunk::<TAG_BYTES>().ok_or(damaged("it is cut short"))?;
        let mut content = Zeroizing::new(content.to_vec());
        XChaCha20Poly1305::new((&*key).into())
            .decrypt_in_place_detached((&nonce).into(), prefix, &mut content, tag.into())
            .map_err(|_| SealError::WrongPassphrase)?;
        let contents =
            Contents::from_bytes(&content).ok_or(damaged("its content is not readable"))?;
        Ok((contents, Self { key, salt, kdf: header.cost }))
    }
}

/// Splits off everything before the content, and the header within it; refuses other files and
/// newer formats.
fn split_header(file: &[u8]) -> Result<(&[u8], &[u8]), SealError> {
    let damaged = |detail| SealError::Damaged { detail };
    if file.len() > limits::FILE_BYTES_MAX {
        return Err(damaged("it is too long"));
    }
    let rest = file.strip_prefix(MAGIC).ok_or(SealError::NotAVault)?;
    let (length, rest) = rest.split_first_chunk().ok_or(damaged("it is cut short"))?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length > limits::HEADER_BYTES_MAX {
        return Err(damaged("its header is too long"));
    }
    let header = rest.get(..length).ok_or(damaged("it is cut short"))?;
    let probe: Probe =
        serde_json::from_slice(header).map_err(|_| damaged("its header is not readable"))?;
    if probe.schema != SCHEMA {
        return Err(SealError::NotAVault);
    }
    if probe.format > FORMAT {
        let writer = probe.writer.chars().take(limits::NAME_BYTES_MAX).collect();
        return Err(SealError::Newer { found: probe.format, supported: FORMAT, writer });
    }
    let prefix = file.get(..MAGIC.len() + 2 + length).ok_or(damaged("it is cut short"))?;
    Ok((prefix, header))
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SealError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::Secret;
    use crate::name::SecretName;

    const PLANTED: &[u8] = b"planted secret, thirty-two bytes";

    fn sealed() -> Vec<u8> {
        let mut contents = Contents::default();
        let bytes = Zeroizing::new(PLANTED.to_vec());
        let secret = Secret { bytes, created_s: 1, revoked_s: None };
        contents.0.insert(SecretName::recovery(), secret);
        let sealer = Sealer::new(&passphrase(), KdfParams::weak_for_tests()).unwrap();
        sealer.seal(&contents).unwrap()
    }

    fn passphrase() -> Passphrase {
        Passphrase::new("correct horse")
    }

    /// Makes a changed file's checksum right again, as somebody with bad intent would.
    fn with_right_checksum(mut file: Vec<u8>) -> Vec<u8> {
        let end = file.len() - CHECKSUM_BYTES;
        let checksum = blake3::hash(&file[..end]);
        file[end..].copy_from_slice(checksum.as_bytes());
        file
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        let good = sealed();
        assert!(Sealer::open(&good, &passphrase()).is_ok());
        for place in 0..good.len() {
            for bit in [0x01, 0x80] {
                let mut bad = good.clone();
                bad[place] ^= bit;
                let refused = |file: &[u8]| Sealer::open(file, &passphrase()).is_err();
                assert!(refused(&bad), "byte {place}");
                if place < good.len() - CHECKSUM_BYTES {
                    assert!(refused(&with_right_checksum(bad)), "byte {place}, checksum mended");
                }
            }
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let good = sealed();
        for length in 0..good.len() {
            assert!(Sealer::open(&good[..length], &passphrase()).is_err(), "{length} bytes");
        }
        let mut longer = good;
        longer.push(0);
        assert!(Sealer::open(&longer, &passphrase()).is_err());
    }

    #[test]
    fn damage_and_a_wrong_passphrase_are_told_apart() {
        let good = sealed();
        let wrong = Sealer::open(&good, &Passphrase::new("correct house")).err();
        assert!(matches!(wrong, Some(SealError::WrongPassphrase)), "{wrong:?}");
        let mut bad = good;
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        let damaged = Sealer::open(&bad, &passphrase()).err();
        assert!(matches!(damaged, Some(SealError::Damaged { .. })), "{damaged:?}");
    }

    #[test]
    fn a_newer_format_and_other_files_are_refused_by_name() {
        let file = sealed();
        let text = String::from_utf8_lossy(&file[10..]).into_owned();
        assert!(text.contains("\"format\":1"), "{text}");
        let place = file.windows(10).position(|piece| piece == b"\"format\":1").unwrap();
        let mut newer = file;
        newer[place + 9] = b'7';
        let error = Sealer::open(&newer, &passphrase()).err().unwrap();
        assert!(matches!(error, SealError::Newer { found: 7, supported: 1, .. }), "{error:?}");
        let error = Sealer::open(b"-----BEGIN KEY-----", &passphrase()).err().unwrap();
        assert!(matches!(error, SealError::NotAVault), "{error:?}");
    }

    #[test]
    fn nothing_secret_is_in_the_bytes_and_no_two_files_are_alike() {
        let (one, other) = (sealed(), sealed());
        for needle in [PLANTED, b"planted", b"correct horse", b"recovery-entropy"] {
            assert!(!one.windows(needle.len()).any(|piece| piece == needle));
        }
        assert_ne!(one, other);
        assert_eq!(one.len(), other.len());
    }
}
