//! Who this node is: 24 words, a delegated node key, a settlement key, a payout address.
//!
//! The vault holds the words' entropy until the owner removes it (`identity words --remove`), the
//! node key and the settlement key. What is not secret stands in `identity/public.json`, so that
//! looking needs no passphrase. The owner key is derived only while something is signed with it.

mod keyring;
mod statements;
mod unlock;

pub use keyring::{IdentityError, Keyring, NodeKeys, Public};
pub use statements::{Outgoing, StatementError, Statements};
pub use unlock::{
    PASSPHRASE_COMMAND_VARIABLE, PASSPHRASE_FILE_VARIABLE, PASSPHRASE_VARIABLE, ask_passphrase,
    found_source, unlock_source,
};
