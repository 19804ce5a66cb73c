//! The files that people write, in a fixed order.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Folders that hold what is built, fetched, recorded or other people's.
const SKIPPED: [&str; 8] =
    ["target", "node_modules", "out", "cache", "corpus", "fixtures", "broadcast", "fuzz-crashes"];

/// Endings of files that people write.
const WRITTEN: [&str; 7] = ["rs", "toml", "md", "sh", "sol", "yml", "html"];

/// Largest file that is read, in bytes: what people write is far smaller.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A file as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path from the root, with forward slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The root's names and the written files below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// What lies in the root.
    pub root: Vec<String>,
    /// Every path from the root, files and folders, that is not skipped.
    pub paths: Vec<String>,
    /// The written files.
    pub files: Vec<File>,
}

impl Tree {
    /// Reads a tree.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, "")?;
        tree.paths.sort();
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.root.sort();
        Ok(tree)
    }

    fn walk(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            if prefix.is_empty() {
                self.root.push(name.clone());
            }
            self.paths.push(path.clone());
            let kind = entry.file_type()?;
            if kind.is_dir() && name != ".git" && !SKIPPED.contains(&name.as_str()) {
                self.walk(&entry.path(), &path)?;
            } else if kind.is_file() && is_written(&path) {
                self.take(&entry.path(), path)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, from: &Path, path: String) -> Result<()> {
        if fs::metadata(from)?.len() > FILE_BYTES_MAX {
            return Ok(());
        }
        let text = fs::read_to_string(from).with_context(|| format!("read {path} as UTF-8"))?;
        self.files.push(File { path, text });
        Ok(())
    }
}

fn is_written(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((_, ending)) if !name.starts_with('.') => WRITTEN.contains(&ending),
        Some((_, ending)) => ending == "toml",
        // Scripts without an ending, such as `.ci/run`.
        None => path.starts_with(".ci/"),
    }
}
