//! The double-sign guard: one purpose, one signature.
//!
//! Before a node signs what the swarm can hold against it (a commitment, a proof, a reveal), the
//! hash of it is recorded under the task, the attempt and the purpose. The same hash may be signed
//! again, after a restart for instance; another one is refused. The idea is that of validators'
//! slashing-protection records (EIP-3076).
//!
//! The record itself is kept by a [`GuardStore`], which must be durable before it answers.

use std::error::Error;
use std::fmt;

use thiserror::Error;

use crate::limits;

/// What a guard store fails with.
pub type GuardStoreError = Box<dyn Error + Send + Sync>;

/// A durable record of first values, such as a register of the tables crate. Closures are such
/// stores:
///
/// ```
/// use openledger_vault::{GuardKey, Recorded, SignGuard};
/// # use std::{collections::BTreeMap, sync::Mutex};
/// # let rows = Mutex::new(BTreeMap::<Vec<u8>, Vec<u8>>::new());
/// # let first = move |key: &[u8], _epoch: u64, hash: &[u8]| {
/// #     let earlier = rows.lock().unwrap().get(key).cloned();
/// #     if earlier.is_none() { rows.lock().unwrap().insert(key.to_vec(), hash.to_vec()); }
/// #     Ok::<_, std::io::Error>(earlier)
/// # };
/// // In production: `register.first(&store, key, epoch, hash)`.
/// let guard = SignGuard::new(move |key: &[u8], epoch: u64, hash: &[u8; 32]| {
///     Ok(first(key, epoch, hash)?)
/// });
/// let key = GuardKey::for_task(&[1; 32], 1, "commit").unwrap();
/// assert_eq!(guard.check_and_record(&key, 7, &[2; 32]).unwrap(), Recorded::Now);
/// assert_eq!(guard.check_and_record(&key, 7, &[2; 32]).unwrap(), Recorded::Before);
/// assert!(guard.check_and_record(&key, 7, &[3; 32]).is_err());
/// ```
pub trait GuardStore: Send + Sync {
    /// Records `hash` as the first of `key`, durably before it returns, and gives `None`; or gives
    /// what was recorded first. `epoch` is for pruning: a store refuses epochs it has pruned.
    ///
    /// # Errors
    /// Whatever keeps the record from being made; nothing may be signed then.
    fn first(
        &self,
        key: &[u8],
        epoch: u64,
        hash: &[u8; 32],
    ) -> Result<Option<Vec<u8>>, GuardStoreError>;
}

impl<F> GuardStore for F
where
    F: Fn(&[u8], u64, &[u8; 32]) -> Result<Option<Vec<u8>>, GuardStoreError> + Send + Sync,
{
    fn first(
        &self,
        key: &[u8],
        epoch: u64,
        hash: &[u8; 32],
    ) -> Result<Option<Vec<u8>>, GuardStoreError> {
        self(key, epoch, hash)
    }
}

/// What may be signed once: up to [`limits::GUARD_KEY_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuardKey(Vec<u8>);

impl GuardKey {
    /// A key of the caller's making.
    ///
    /// # Errors
    /// [`DoubleSign::BadKey`] when it is empty or too long.
    pub fn new(bytes: &[u8]) -> Result<Self, DoubleSign> {
        if bytes.is_empty() || bytes.len() > limits::GUARD_KEY_BYTES_MAX {
            return Err(DoubleSign::BadKey { bytes: bytes.len() });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The key of one purpose of one attempt at a task.
    ///
    /// # Errors
    /// [`DoubleSign::BadKey`] when the purpose is longer than 28 bytes.
    pub fn for_task(task: &[u8; 32], attempt: u32, purpose: &str) -> Result<Self, DoubleSign> {
        let parts = [task.as_slice(), &attempt.to_be_bytes(), purpose.as_bytes()];
        Self::new(&parts.concat())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// When the hash was recorded; both allow signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// By this call.
    Now,
    /// By an earlier one: the same thing is signed again.
    Before,
}

/// Why nothing may be signed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DoubleSign {
    /// Something else was signed for this purpose.
    #[error(
        "refused to sign {} where {} was signed before for the same purpose: two different \
             signatures would be held against this node; is a second copy of it running?",
        hex::encode(hash),
        hex::encode(earlier)
    )]
    Different {
        /// The hash offered.
        hash: [u8; 32],
        /// The hash signed earlier.
        earlier: Vec<u8>,
    },
    /// The record could not be made, or the epoch has been pruned.
    #[error("cannot record what is to be signed, so it is not signed")]
    Store(#[source] GuardStoreError),
    /// A key that cannot be one.
    #[error("a guard key of {bytes} bytes: use 1 to {}", limits::GUARD_KEY_BYTES_MAX)]
    BadKey {
        /// Its length.
        bytes: usize,
    },
}

/// Refuses to sign two different things for one purpose.
pub struct SignGuard {
    store: Box<dyn GuardStore>,
}

impl fmt::Debug for SignGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignGuard")
    }
}

impl SignGuard {
    /// A guard over a durable store.
    #[must_use]
    pub fn new(store: impl GuardStore + 'static) -> Self {
        Self { store: Box::new(store) }
    }

    /// Whether the thing with this hash may be signed. When this returns `Ok`, the hash is on
    /// record, durably.
    ///
    /// # Errors
    /// [`DoubleSign::Different`] when another hash is on record; [`DoubleSign::Store`] when the
    /// record cannot be made. Nothing may be signed on any error.
    pub fn check_and_record(
        &self,
        key: &GuardKey,
        epoch: u64,
        hash: &[u8; 32],
    ) -> Result<Recorded, DoubleSign> {
        match self.store.first(&key.0, epoch, hash).map_err(DoubleSign::Store)? {
            None => Ok(Recorded::Now),
            Some(earlier) if earlier == hash => Ok(Recorded::Before),
            Some(earlier) => Err(DoubleSign::Different { hash: *hash, earlier }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_parts_apart() {
        let key = |attempt, purpose| GuardKey::for_task(&[1; 32], attempt, purpose).unwrap();
        assert_ne!(key(1, "commit"), key(2, "commit"));
        assert_ne!(key(1, "commit"), key(1, "proof"));
        assert!(GuardKey::for_task(&[1; 32], 1, &"x".repeat(29)).is_err());
        assert!(GuardKey::new(b"").is_err());
    }

    #[test]
    fn a_store_that_fails_allows_no_signature() {
        let guard = SignGuard::new(|_: &[u8], _: u64, _: &[u8; 32]| Err("disk full".into()));
        let key = GuardKey::new(b"key").unwrap();
        let error = guard.check_and_record(&key, 1, &[0; 32]).unwrap_err();
        assert!(matches!(error, DoubleSign::Store(_)), "{error:?}");
        assert!(error.source().is_some());
    }
}
