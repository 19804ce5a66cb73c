//! Everything that this node keeps for networks, those included that it is not in at the moment.

use std::path::PathBuf;

use super::Network;
use super::registry::PROFILE;
use crate::data_dir::DataDir;

impl Network {
    /// Networks that have a folder here: known ones, and those that were removed and may come back.
    /// Folders whose profile this version does not read are passed over.
    #[must_use]
    pub fn kept(data: &DataDir) -> Vec<Self> {
        let mut folders: Vec<PathBuf> = ["networks", "removed"]
            .iter()
            .filter_map(|name| std::fs::read_dir(data.join(name)).ok())
            .flatten()
            .filter_map(Result::ok)
            .map(|folder| folder.path())
            .filter(|folder| folder.join(PROFILE).is_file())
            .collect();
        folders.sort();
        folders.into_iter().filter_map(|folder| Self::in_folder(folder).ok()).collect()
    }
}
