//! Encrypted keys at rest.
//!
//! A [`Vault`] is one file of named secrets under a passphrase (argon2id, XChaCha20-Poly1305). An
//! [`UnlockSource`] says where the passphrase comes from, for people and for unattended nodes. An
//! [`IdentityLock`] keeps one live copy of an identity on a machine.
//!
//! Secrets are bytes here: what they are keys of, and the words that a recovery secret is written
//! down as, belong to the wire. That nothing is signed twice is the outbox's care, which keeps the
//! promises. Nothing here reads a clock; times are arguments.

mod contents;
mod derive;
mod error;
mod files;
pub mod limits;
mod lock;
mod name;
mod seal;
mod unlock;
mod vault;

pub use derive::KdfParams;
pub use error::{FileError, GetError, SealError, UnlockError, VaultError};
pub use lock::IdentityLock;
pub use name::{InvalidName, SecretName};
pub use unlock::{Passphrase, UnlockSource, UnlockWarning};
pub use vault::{SecretInfo, Vault, VaultOptions};
