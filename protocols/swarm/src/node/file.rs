//! `peers.txt`: the remembered peers on disk. Losing it is no loss of money, so a file that makes
//! no sense is a warning, never a reason not to start.

use std::io::{Read, Write};
use std::path::Path;

use crate::defaults::peers as defaults;

/// Name of the file in the data folder.
const NAME: &str = "peers.txt";

/// Reads the file; nothing if it is missing, too long or unreadable.
pub(super) fn load(dir: &Path) -> Option<String> {
    let path = dir.join(NAME);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(e) => {
            tracing::warn!("failed to read {}: {e}; starting without it", path.display());
            return None;
        }
    };
    let mut text = String::new();
    match file.take(defaults::FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Some(text),
        Err(e) => {
            tracing::warn!("failed to read {}: {e}; starting without it", path.display());
            None
        }
    }
}

/// Replaces the file as a whole: written aside, synced, renamed.
pub(super) fn save(dir: &Path, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let aside = dir.join(format!("{NAME}.new"));
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&aside, dir.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("not/there/yet");
        assert_eq!(load(&inner), None);
        save(&inner, "one, and longer").unwrap();
        save(&inner, "two").unwrap();
        assert_eq!(load(&inner).as_deref(), Some("two"));
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
        std::fs::write(inner.join(NAME), [0xff, 0xfe]).unwrap();
        assert_eq!(load(&inner), None);
    }
}
