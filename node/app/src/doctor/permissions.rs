//! Who may read secrets, who may write, and whose the files are.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use openledger_web::doctor::Finding;
use rustix::fs::{Access, access};
use rustix::process::geteuid;

use super::examine::Patient;
use super::machine::{quoted, sudo_user, user};
use crate::limits;

const CODE: &str = "permissions";

/// What only the owner may read, below the data folder.
const SECRETS: [&str; 4] = ["identity", "identity/vault", "identity/vault.key", "control.json"];

/// Where a node writes, below the data folder.
const WRITTEN: [&str; 7] = ["", "identity", "networks", "blobs", "peers", "logs", "models"];

/// Everything that is wrong with rights, or that nothing is.
pub(super) fn findings(patient: &Patient) -> Vec<Finding> {
    let root = patient.data.path();
    let me = geteuid().as_raw();
    let Ok(metadata) = fs::metadata(root) else { return vec![not_there(root)] };
    if !metadata.is_dir() {
        let found = format!("{} is no folder", root.display());
        let mend = "name another folder with --data-dir, or move that file away";
        return vec![Finding::error(CODE, found, "a file lies where the data folder should", mend)];
    }
    let owner = metadata.uid();
    let mut findings = Vec::new();
    if owner != me {
        findings.push(other_owner(root, owner, me));
    } else if let Some(foreign) = foreign(root, owner) {
        let (path, uid) = foreign;
        let found = format!("{} belongs to user {}", path.display(), user(uid));
        let cause = "the node was once started as another user, with sudo for instance";
        let mend = format!("`sudo chown -R {} {}`", user(owner), quoted(root));
        findings.push(Finding::error(CODE, found, cause, mend));
    }
    findings.extend(SECRETS.iter().filter_map(|name| too_open(&root.join(name))));
    findings.extend(WRITTEN.iter().filter_map(|name| not_writable(&root.join(name), owner == me)));
    if metadata.permissions().mode() & 0o022 != 0 {
        let found = format!("{} can be written by others", root.display());
        let cause = "whoever writes there can replace the node's files";
        let mend = format!("`chmod go-w {}`", quoted(root));
        findings.push(Finding::warning(CODE, found, cause, mend));
    }
    if findings.is_empty() {
        let found = format!("{} is {}'s, and secrets are private", root.display(), user(owner));
        findings.push(Finding::fine(CODE, found));
    }
    findings
}

/// The folder is made at the first start, if it can be.
fn not_there(root: &Path) -> Finding {
    let Some(above) = root.ancestors().skip(1).find(|above| above.exists()) else {
        return Finding::fine(CODE, "the folder is made at the first start");
    };
    match not_writable(above, true) {
        None => Finding::fine(CODE, format!("{} is made at the first start", root.display())),
        Some(finding) => finding,
    }
}

fn other_owner(root: &Path, owner: u32, me: u32) -> Finding {
    let found =
        format!("{} belongs to user {}, this is user {}", root.display(), user(owner), user(me));
    if me == 0 {
        let cause = "what root makes there, the node of its owner cannot use";
        let mend = format!(
            "run commands as its owner: `sudo -u {} openledger …`; if it is meant to be root's: `chown -R root {}`",
            sudo_user(owner),
            quoted(root)
        );
        return Finding::warning(CODE, found, cause, mend);
    }
    let cause = "a node only runs on a folder of its own user";
    let mend = format!(
        "`sudo chown -R {} {}`, or run as its owner: `sudo -u {} openledger …`",
        user(me),
        quoted(root),
        sudo_user(owner)
    );
    Finding::error(CODE, found, cause, mend)
}

/// A file in the folder that belongs to somebody else.
fn foreign(root: &Path, owner: u32) -> Option<(PathBuf, u32)> {
    let mut waiting = vec![root.to_owned()];
    let mut left = limits::FILES_WALKED_MAX;
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.filter_map(Result::ok) {
            left = left.checked_sub(1)?;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.uid() != owner {
                return Some((entry.path(), metadata.uid()));
            }
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    None
}

fn too_open(path: &Path) -> Option<Finding> {
    let metadata: Metadata = fs::symlink_metadata(path).ok()?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return None;
    }
    let remedy = if metadata.is_dir() { "700" } else { "600" };
    let found = format!("{} can be used by others (mode {mode:03o})", path.display());
    let cause = "it holds keys or leads to them, so the node refuses to use it like this";
    let mend = format!("`chmod {remedy} {}`", quoted(path));
    Some(Finding::error(CODE, found, cause, mend))
}

fn not_writable(path: &Path, mine: bool) -> Option<Finding> {
    let metadata = fs::metadata(path).ok()?;
    let wanted =
        if metadata.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    let error = access(path, wanted).err()?;
    let found = format!("{} cannot be written", path.display());
    let (cause, mend) = match error {
        rustix::io::Errno::ROFS => (
            "its file system is mounted read-only".to_owned(),
            format!(
                "mount it for writing (`sudo mount -o remount,rw \"$(findmnt -no TARGET -T {})\"`), or name another folder with --data-dir",
                quoted(path)
            ),
        ),
        // Whose it is was told already.
        _ if !mine => return None,
        error => (error.to_string(), format!("`chmod u+rwx {}`", quoted(path))),
    };
    Some(Finding::error(CODE, found, cause, mend))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_secrets_are_named_with_the_command_that_closes_them() {
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("vault");
        fs::write(&vault, "x").unwrap();
        fs::set_permissions(&vault, fs::Permissions::from_mode(0o640)).unwrap();
        let finding = too_open(&vault).unwrap();
        assert!(finding.found.contains("mode 640"), "{}", finding.found);
        assert_eq!(finding.mend, Some(format!("`chmod 600 {}`", vault.display())));
        fs::set_permissions(&vault, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(too_open(&vault), None);
        assert_eq!(too_open(&folder.path().join("none")), None);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        assert!(not_there(&folder.path().join("a/b")).ok);
    }
}
