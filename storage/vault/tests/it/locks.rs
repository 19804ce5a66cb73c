//! One live copy per identity, one process per vault.

use openledger_vault::{FileError, IdentityLock};

#[test]
fn an_identity_is_live_once() {
    let folder = tempfile::tempdir().unwrap();
    let locks = folder.path().join("locks");
    let held = IdentityLock::acquire_in(&locks, b"node one").unwrap();
    let error = IdentityLock::acquire_in(&locks, b"node one").unwrap_err();
    assert!(matches!(error, FileError::InUse { .. }), "{error:?}");
    let holder = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    let _other = IdentityLock::acquire_in(&locks, b"node two").unwrap();
    drop(held);
    IdentityLock::acquire_in(&locks, b"node one").unwrap();
}

#[cfg(unix)]
#[test]
fn a_lock_folder_of_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let error = IdentityLock::acquire_in(folder.path(), b"node").unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
}
