//! What can go wrong, one enum per operation. No message ever holds a secret.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::limits;
use crate::name::SecretName;

/// An error of the files around a vault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// Others may read it.
    #[error("{} can be read by others (mode {mode:03o}): run `chmod {remedy} {}`",
            path.display(), path.display())]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The mode that it should have, as one types it.
        remedy: &'static str,
    },
    /// Another process holds its lock.
    #[error("{} is in use by {holder}: stop that process first; one identity runs once on a \
             machine", path.display())]
    InUse {
        /// What is locked.
        path: PathBuf,
        /// "process 123" or "another process".
        holder: String,
    },
    /// It is there already, and nothing is overwritten.
    #[error("{} exists already: name another file, or move it away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It is not there.
    #[error("there is no file {}: create it first, or check the path", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is longer than such a file can be.
    #[error("{} has {bytes} bytes, more than such a file can have ({bytes_max}): check the path",
            path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "read", "write", "lock".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// An error of sealing or opening the bytes of a vault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The bytes are no vault at all.
    #[error("this is no vault file: check the path")]
    NotAVault,
    /// A newer program wrote it.
    #[error(
        "the vault was written by {writer} in format {found}, and this program reads up to \
             format {supported}: update this program"
    )]
    Newer {
        /// The format of the file.
        found: u32,
        /// The newest format known here.
        supported: u32,
        /// Who wrote it.
        writer: String,
    },
    /// The file does not match its own checksum, or its parts do not fit.
    #[error(
        "the vault file is damaged ({detail}): restore it from a copy, or make it anew from \
             the recovery words"
    )]
    Damaged {
        /// What does not fit.
        detail: &'static str,
    },
    /// The file is whole, and the passphrase does not open it.
    #[error(
        "wrong passphrase (the file itself is undamaged): try again, or recover with the \
             24 words"
    )]
    WrongPassphrase,
    /// The header asks for more work than a vault needs.
    #[error(
        "the vault asks for {value} {what} of key derivation, and {value_max} is the most \
             that is accepted: it is no vault of this program"
    )]
    Derivation {
        /// "KiB", "passes" or "lanes".
        what: &'static str,
        /// The value asked for.
        value: u32,
        /// The limit.
        value_max: u32,
    },
    /// More secrets, or longer ones, than fit.
    #[error("{what} is too large: {value}, where {value_max} is the most")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        value: usize,
        /// The limit.
        value_max: usize,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// An error of finding the passphrase.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// The environment variable is not set.
    #[error("the environment variable {name} is not set: set it, or choose another way to unlock")]
    NoVariable {
        /// Its name.
        name: String,
    },
    /// systemd passed no credential.
    #[error(
        "systemd passed no credential {credential:?}: add \
             `LoadCredential={credential}:/path/to/file` to the unit"
    )]
    NoCredential {
        /// The credential's name.
        credential: &'static str,
    },
    /// The key file does not hold a key.
    #[error("{} holds no key of 64 hexadecimal digits: restore it from a copy, or recover with \
             the 24 words", path.display())]
    BadKeyFile {
        /// The key file.
        path: PathBuf,
    },
    /// Too short for a new vault.
    #[error("the passphrase has {bytes} bytes: use at least {}", limits::PASSPHRASE_BYTES_MIN)]
    TooShort {
        /// Its length.
        bytes: usize,
    },
    /// Longer than a passphrase can be.
    #[error("the passphrase has {bytes} bytes: use at most {}", limits::PASSPHRASE_BYTES_MAX)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The system gave no random bytes for a key file.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The file with the passphrase cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// An error of making, opening or changing a vault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The passphrase.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// The content.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No such secret to change.
    #[error("the vault holds no secret {name}: `list` names those it holds")]
    Missing {
        /// The name asked for.
        name: SecretName,
    },
    /// A secret of that name is there already.
    #[error("the vault holds a secret {name} already: remove it first, or rotate it")]
    Occupied {
        /// The name.
        name: SecretName,
    },
    /// A role whose numbered names are no valid names.
    #[error("{role:?} is no role: use lower-case letters, digits and '-', at most 48")]
    BadRole {
        /// The role.
        role: String,
    },
}

/// An error of reading a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GetError {
    /// There is none of that name.
    #[error("the vault holds no secret {name}: `list` names those it holds")]
    Missing {
        /// The name asked for.
        name: SecretName,
    },
    /// It was revoked, so nothing may be signed with it any more.
    #[error("the secret {name} was revoked at {revoked_s} (seconds since 1970): use its successor")]
    Revoked {
        /// The name asked for.
        name: SecretName,
        /// When, in seconds since 1970.
        revoked_s: u64,
    },
    /// It has another length than the caller needs.
    #[error("the secret {name} has {bytes} bytes, not {expected}: it is a secret of another kind")]
    Length {
        /// The name asked for.
        name: SecretName,
        /// Its length.
        bytes: usize,
        /// The length needed.
        expected: usize,
    },
}
