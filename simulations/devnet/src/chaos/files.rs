//! Model files of running nodes, cut short on purpose.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use openledger_wire::BlobId;

/// A model file of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What its name says that it holds.
    pub blob: BlobId,
}

impl ModelFile {
    /// Cuts the file in half.
    ///
    /// # Errors
    /// The file system's.
    pub fn cut(&self) -> anyhow::Result<()> {
        let failed = || format!("cut {} short", self.path.display());
        let file = OpenOptions::new().write(true).open(&self.path).with_context(failed)?;
        let len = file.metadata().with_context(failed)?.len();
        file.set_len(len / 2).with_context(failed)
    }

    /// Whether it holds what its name says.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        fs::read(&self.path).is_ok_and(|bytes| BlobId::of(&bytes) == self.blob)
    }
}

/// The files with this ending that a node has for itself alone, by name. What the node shares with
/// whoever added it, or with other nodes, is none of the devnet's to harm.
#[must_use]
pub fn own_files(data: &Path, extension: &str) -> Vec<ModelFile> {
    let Ok(entries) = fs::read_dir(data.join("models")) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let wanted = paths.filter(|path| path.extension().is_some_and(|it| it == extension));
    let alone = wanted.filter(|path| {
        fs::symlink_metadata(path).is_ok_and(|data| data.is_file() && data.nlink() == 1)
    });
    let mut files: Vec<ModelFile> = alone
        .filter_map(|path| {
            let blob = path.file_stem()?.to_str()?.parse().ok()?;
            Some(ModelFile { path, blob })
        })
        .collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_node_alone_is_cut_and_others_are_not_touched() {
        let data = tempfile::tempdir().unwrap();
        let models = data.path().join("models");
        fs::create_dir(&models).unwrap();
        let bytes = vec![7; 1_000];
        let blob = BlobId::of(&bytes);
        let own = models.join(format!("{blob}.gguf"));
        fs::write(&own, &bytes).unwrap();
        let shared = data.path().join("shared");
        fs::write(&shared, b"of somebody else").unwrap();
        let other = BlobId::of(b"of somebody else");
        fs::hard_link(&shared, models.join(format!("{other}.gguf"))).unwrap();
        fs::write(models.join(format!("{blob}.json")), b"{}").unwrap();

        let files = own_files(data.path(), "gguf");
        assert_eq!(files, [ModelFile { path: own.clone(), blob }]);
        assert!(files[0].is_whole());
        files[0].cut().unwrap();
        assert!(!files[0].is_whole());
        assert_eq!(fs::metadata(own).unwrap().len(), 500);
        assert!(own_files(&data.path().join("none"), "gguf").is_empty());
    }
}
