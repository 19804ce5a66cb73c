//! The guard over a store in a file, across reopening.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use openledger_vault::{DoubleSign, GuardKey, GuardStore, GuardStoreError, Recorded, SignGuard};

/// Lines of `key hash`, synced one by one.
struct Lines(Mutex<PathBuf>);

impl GuardStore for Lines {
    fn first(
        &self,
        key: &[u8],
        _epoch: u64,
        hash: &[u8; 32],
    ) -> Result<Option<Vec<u8>>, GuardStoreError> {
        let path = self.0.lock().unwrap();
        let text = fs::read_to_string(&*path).unwrap_or_default();
        let key = hex::encode(key);
        let earlier = text.lines().find_map(|line| line.strip_prefix(&format!("{key} ")));
        if let Some(earlier) = earlier {
            return Ok(Some(hex::decode(earlier)?));
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&*path)?;
        writeln!(file, "{key} {}", hex::encode(hash))?;
        file.sync_all()?;
        Ok(None)
    }
}

fn guard(path: &Path) -> SignGuard {
    SignGuard::new(Lines(Mutex::new(path.to_owned())))
}

#[test]
fn a_different_hash_is_refused_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signed");
    let key = GuardKey::for_task(&[1; 32], 1, "commit").unwrap();
    let other = GuardKey::for_task(&[1; 32], 2, "commit").unwrap();
    assert_eq!(guard(&path).check_and_record(&key, 1, &[2; 32]).unwrap(), Recorded::Now);
    let guard = guard(&path);
    assert_eq!(guard.check_and_record(&key, 1, &[2; 32]).unwrap(), Recorded::Before);
    let error = guard.check_and_record(&key, 1, &[3; 32]).unwrap_err();
    assert!(matches!(error, DoubleSign::Different { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&"03".repeat(32)) && text.contains(&"02".repeat(32)), "{text}");
    assert_eq!(guard.check_and_record(&other, 1, &[3; 32]).unwrap(), Recorded::Now);
}

#[test]
fn of_many_threads_one_hash_wins() {
    let folder = tempfile::tempdir().unwrap();
    let guard = guard(&folder.path().join("signed"));
    let key = GuardKey::new(b"once").unwrap();
    let allowed: usize = std::thread::scope(|scope| {
        let sign = |hash: u8| guard.check_and_record(&key, 1, &[hash; 32]).is_ok();
        let threads: Vec<_> = (0..8).map(|hash| scope.spawn(move || sign(hash))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|ok| *ok).count()
    });
    assert_eq!(allowed, 1);
}
