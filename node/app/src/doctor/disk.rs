//! Free space where the data folder lies.

use std::path::Path;

use openledger_web::doctor::Finding;
use rustix::fs::{StatVfs, statvfs};

use super::examine::Patient;
use super::machine::{bytes, quoted};
use crate::limits;

const CODE: &str = "disk";

/// What a file system has left for this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    bytes: u64,
    /// Files that can still be made; `None` where the file system does not count them.
    files: Option<u64>,
}

impl Space {
    fn of(stat: &StatVfs) -> Self {
        let files = (stat.f_files > 0).then_some(stat.f_favail);
        Self { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), files }
    }
}

/// Free space against the least that is needed, and against what the node may use.
pub(super) fn findings(patient: &Patient) -> Vec<Finding> {
    let folder = patient.data.path();
    // Before the first start, the folder will be made in the nearest one that is there.
    let nearest = || folder.ancestors().find(|at| at.exists());
    let Some(at) = patient.machine.disk.as_deref().or_else(nearest) else { return Vec::new() };
    let space = match statvfs(at) {
        Ok(stat) => Space::of(&stat),
        Err(error) => {
            let found = format!("the file system of {} does not answer", at.display());
            let mend = "mount it again, or choose another folder with --data-dir";
            return vec![Finding::error(CODE, found, error.to_string(), mend)];
        }
    };
    let mut left = limits::FILES_WALKED_MAX;
    let blobs = used(&patient.data.join("blobs"), &mut left);
    let quota = patient.config.work.disk_mib_max << 20;
    vec![judge(folder, space, blobs, quota)]
}

fn judge(folder: &Path, space: Space, blobs: u64, quota: u64) -> Finding {
    let least = limits::DISK_FREE_BYTES_MIN;
    let free = bytes(space.bytes);
    if let Some(files) = space.files.filter(|files| *files < limits::DISK_FREE_FILES_MIN) {
        let found = format!("{files} files can still be made at {}", folder.display());
        let mend = format!(
            "remove files that are not needed there, or move the folder: `--data-dir`, now {}",
            quoted(folder)
        );
        return Finding::error(CODE, found, "the file system has no room for more files", mend);
    }
    let found = format!("{free} free at {}", folder.display());
    if space.bytes < least {
        let cause = format!(
            "the disk is full: the node needs at least {} for promises, logs and work in hand",
            bytes(least)
        );
        let mend = format!(
            "free at least {} there (`du -xh {} | sort -h | tail` shows what is large), or move the folder to another disk and name it with `--data-dir`",
            bytes(least.saturating_sub(space.bytes)),
            quoted(folder)
        );
        return Finding::error(CODE, found, cause, mend);
    }
    let to_come = quota.saturating_sub(blobs);
    let usable = space.bytes - least;
    if usable < to_come {
        let fitting = (blobs.saturating_add(usable)) >> 20;
        let cause = format!(
            "pages and documents may take {} more (work.disk_mib_max = {}), which does not fit",
            bytes(to_come),
            quota >> 20
        );
        let mend = format!(
            "free {}, or let the node use less: `openledger config set work.disk_mib_max {fitting}`",
            bytes(to_come - usable)
        );
        return Finding::warning(CODE, found, cause, mend);
    }
    Finding::fine(CODE, found)
}

/// Bytes of the files below a folder, until `left` files were seen.
fn used(folder: &Path, left: &mut u64) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let mut sum = 0u64;
    for entry in entries.filter_map(Result::ok) {
        let Some(rest) = left.checked_sub(1) else { break };
        *left = rest;
        // Links are not followed: `metadata` of an entry does not.
        match entry.metadata() {
            Ok(data) if data.is_dir() => sum = sum.saturating_add(used(&entry.path(), left)),
            Ok(data) => sum = sum.saturating_add(data.len()),
            Err(_) => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_web::doctor::Severity;

    const GIB: u64 = 1 << 30;

    #[test]
    fn too_little_is_an_error_and_less_than_allowed_a_warning_with_what_fits() {
        let judged = |bytes, files, blobs| {
            judge(Path::new("/data"), Space { bytes, files }, blobs, 20 * GIB)
        };
        assert_eq!(judged(40 * GIB, None, 0).severity, Severity::Fine);
        assert_eq!(judged(GIB, Some(1 << 20), 20 * GIB).severity, Severity::Fine, "all is there");
        let warning = judged(8 * GIB + limits::DISK_FREE_BYTES_MIN, None, 0);
        assert_eq!(warning.severity, Severity::Warning);
        let mend = warning.mend.unwrap();
        assert!(mend.contains("free 12.0 GiB") && mend.contains("disk_mib_max 8192"), "{mend}");
        assert_eq!(judged(1 << 20, None, 20 * GIB).severity, Severity::Error);
        let files = judged(40 * GIB, Some(3), 0);
        assert!(files.severity == Severity::Error && files.found.starts_with("3 files"));
    }

    #[test]
    fn the_walk_ends() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(folder.path().join(name), [0; 10]).unwrap();
        }
        assert_eq!(used(folder.path(), &mut 100), 30);
        assert_eq!(used(folder.path(), &mut 2), 20);
    }
}
