//! A small disk for one node, which chaos can fill up.
//!
//! The devnet enters a mount namespace of its own first (mount_namespaces(7)), through the
//! system's `unshare`: so the mount ends with the last of its processes, however they end. That
//! takes root on Linux; elsewhere there is no small disk, and the figures say so.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::child::Spawn;
use crate::limits;

/// Set where the namespace was entered already.
const ENTERED: &str = "OPENLEDGER_DEVNET_MOUNTS";
/// The file that fills the disk.
const BALLAST: &str = "ballast";

/// Whether this process may mount.
#[must_use]
pub fn is_possible() -> bool {
    std::env::var_os(ENTERED).is_some()
}

/// Becomes the same program in a mount namespace of its own, where the system allows it; comes
/// back where it does not, or where this is done already.
///
/// # Errors
/// When the program cannot be started again.
pub fn enter(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    if is_possible() || !rustix::process::geteuid().is_root() || !is_allowed() {
        return Ok(());
    }
    let own = std::env::current_exe().context("find this program's file")?;
    let mut command = unshare();
    let error = command.arg(own).args(arguments).env(ENTERED, "1").exec();
    Err(error).context("enter a mount namespace")
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command
}

/// Containers take the right away from root.
fn is_allowed() -> bool {
    let mut command = unshare();
    let silent = command.arg("true").stdin(Stdio::null()).stdout(Stdio::null());
    silent.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Puts a small disk in the place of a folder, which must be empty.
///
/// # Errors
/// What `mount` says.
pub async fn mount(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let options = format!("size={}m,mode=700", limits::SMALL_DISK_MIB);
    Spawn::new("mount a small disk", Path::new("mount"))
        .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
        .arg(folder.as_os_str())
        .output()
        .await
        .map(|_| ())
}

/// Takes the small disk away with all that is on it. It ends with the devnet's processes at the
/// latest, so a failure is nothing to stop for.
pub async fn unmount(folder: &Path) {
    let unmount = Spawn::new("unmount a small disk", Path::new("umount")).arg(folder.as_os_str());
    let _ = unmount.output().await;
}

/// Writes until nothing more fits; gives the file to remove.
///
/// # Errors
/// When something else is wrong than that the disk is full.
pub fn fill(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(BALLAST);
    let mut file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    for piece_len in [1 << 20, 4_096, 1] {
        let piece = vec![0; piece_len];
        // More than fits, so that this ends on any disk.
        for _ in 0..=limits::SMALL_DISK_MIB << 8 {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("fill a disk"),
            }
        }
    }
    Ok(path)
}
