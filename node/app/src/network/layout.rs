//! Data folders of earlier versions, which knew one network at a time.
//!
//! Profile, delegation, binding, outbox and account lay in the network's folder already and are
//! read on as they are (the outbox migrates itself and keeps a copy). Remembered peers lay beside
//! all networks; they move into the network that is started first.

use std::fs;

use crate::data_dir::{DataDir, DataDirError};

use super::Network;

/// Moves remembered peers of the older layout into the folder of `network`, unless that network
/// remembers some already.
///
/// # Errors
/// [`DataDirError::Io`].
pub fn settle_peers(data: &DataDir, network: &Network) -> Result<(), DataDirError> {
    let (old, new) = (data.join("peers"), network.folder.join("peers"));
    if !old.is_dir() || new.exists() {
        return Ok(());
    }
    fs::rename(&old, &new).map_err(|source| DataDirError::Io { action: "move", path: old, source })
}
