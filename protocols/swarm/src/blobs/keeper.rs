//! Keeps a store usable while disks run full and are emptied again.
//!
//! A disk is looked at before it is full to the last byte: work stops while there is still room for
//! promises and logs, and a store that ended nonetheless is opened again once there is room.
//! Deliberately absent: making room, which only the disk's owner can.

use std::path::Path;
use std::time::Duration;

use super::IrohBlobs;
use crate::defaults::blobs as defaults;

const MIB: u64 = 1 << 20;

/// What is missing where a folder lies, in words that name the remedy; `None` while there is room
/// for work, or where the system does not say.
#[must_use]
pub fn lack_of_room(folder: &Path) -> Option<String> {
    // Before it is made, a folder will lie where the nearest one above it does.
    let at = folder.ancestors().find(|at| at.exists())?;
    let stat = rustix::fs::statvfs(at).ok()?;
    judge(folder, stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn judge(folder: &Path, free_bytes: u64) -> Option<String> {
    let needed_bytes = defaults::ROOM_BYTES_MIN;
    (free_bytes < needed_bytes).then(|| {
        format!(
            "the disk is full: {} MiB free at {}, at least {} MiB needed; free some space there, \
             then work goes on by itself",
            free_bytes / MIB,
            folder.display(),
            needed_bytes / MIB
        )
    })
}

/// Looks off the reactor: a disk may be slow to answer.
async fn look(folder: &Path) -> Option<String> {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || lack_of_room(&folder)).await.unwrap_or_default()
}

impl IrohBlobs {
    /// Watches disk and store until the store is shut down. `tell` gets why no work can be taken
    /// at the moment whenever that changes, and `None` once it can be again.
    pub async fn keep_open(self, tell: impl Fn(Option<String>)) {
        let mut told: Option<String> = None;
        let mut due = tokio::time::interval(Duration::from_millis(defaults::LOOK_MS));
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let shelf = self.shelf();
            let problem = match look(shelf.dir()).await {
                Some(lack) => Some(lack),
                None => match shelf.reopen().await {
                    Ok(false) => None,
                    Ok(true) => {
                        tracing::info!("the blob store had ended and is open again");
                        None
                    }
                    Err(error) => Some(format!("failed to {error}")),
                },
            };
            if shelf.is_closed().await {
                return;
            }
            if problem == told {
                continue;
            }
            match (&told, &problem) {
                (None, Some(problem)) => tracing::error!("{problem}"),
                (Some(_), None) => tracing::info!("there is room again and work goes on"),
                // How much is missing changes all the time.
                _ => {}
            }
            tell(problem.clone());
            told = problem;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        assert_eq!(judge(Path::new("/data"), defaults::ROOM_BYTES_MIN), None);
        let lack = judge(Path::new("/data"), 3 * MIB + 5).unwrap();
        for part in ["3 MiB free at /data", "32 MiB needed", "free some space"] {
            assert!(lack.contains(part), "{part:?} is not in {lack:?}");
        }
    }

    #[test]
    fn a_folder_to_come_lies_where_the_nearest_one_above_it_does() {
        let here = tempfile::tempdir().unwrap();
        let free = |at: &Path| {
            let stat = rustix::fs::statvfs(at).unwrap();
            stat.f_bavail * stat.f_frsize >= defaults::ROOM_BYTES_MIN
        };
        assert_eq!(lack_of_room(&here.path().join("a/b")).is_none(), free(here.path()));
    }
}
