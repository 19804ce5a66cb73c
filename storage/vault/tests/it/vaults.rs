//! Vaults: round trips, rotation, unlocking, export, permissions, damage.

use std::fs;
use std::path::Path;

use openledger_vault::{
    FileError, GetError, KdfParams, Passphrase, SealError, SecretName, UnlockError, UnlockSource,
    UnlockWarning, Vault, VaultError, VaultOptions,
};

const WEAK: VaultOptions = VaultOptions { kdf: KdfParams::weak_for_tests() };
const PLANTED: &[u8; 32] = b"planted seed of exactly 32 bytes";

fn passphrase(text: &str) -> UnlockSource {
    UnlockSource::Passphrase(Passphrase::new(text))
}

fn correct() -> UnlockSource {
    passphrase("correct horse")
}

fn new_vault(path: &Path) -> Vault {
    let mut vault = Vault::create(path, &correct(), WEAK).unwrap();
    vault.put(&SecretName::recovery(), PLANTED, 10).unwrap();
    vault
}

#[test]
fn secrets_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let name = new_vault(&path).rotate(SecretName::NODE_KEY_ROLE, &[5; 32], 11).unwrap();
    assert_eq!(name.as_str(), "node-key-1");
    let vault = Vault::open(&path, &correct()).unwrap();
    assert_eq!(*vault.get_array::<32>(&SecretName::recovery()).unwrap(), *PLANTED);
    assert_eq!(vault.get(&name).unwrap().as_slice(), [5; 32]);
    let list = vault.list();
    assert_eq!(list.len(), 2);
    assert_eq!((list[0].created_s, list[0].bytes, list[0].revoked_s), (11, 32, None));
    let error = vault.get_array::<31>(&name).unwrap_err();
    assert!(matches!(error, GetError::Length { bytes: 32, expected: 31, .. }), "{error:?}");
    assert_eq!(vault.warnings(), [UnlockWarning::WeakDerivation]);
    assert!(!format!("{vault:?}").contains("planted"));
}

#[test]
fn rotation_revokes_the_earlier_keys_of_the_role_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = new_vault(&folder.path().join("vault"));
    let names: Vec<_> =
        (1..=11_u8).map(|n| vault.rotate("node-key", &[n; 32], n.into()).unwrap()).collect();
    assert_eq!(vault.current("node-key").as_ref(), names.last());
    assert_eq!(names[10].as_str(), "node-key-11");
    let error = vault.get(&names[0]).unwrap_err();
    assert!(matches!(error, GetError::Revoked { revoked_s: 2, .. }), "{error:?}");
    assert!(vault.get(&SecretName::recovery()).is_ok());
    vault.revoke(&names[10], 99).unwrap();
    assert_eq!(vault.current("node-key"), None);
    let next = vault.rotate("node-key", &[12; 32], 100).unwrap();
    assert_eq!(next.as_str(), "node-key-12");
    assert!(matches!(vault.rotate("Node Key", &[1], 1), Err(VaultError::BadRole { .. })));
}

#[test]
fn names_are_not_taken_twice_and_missing_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = new_vault(&folder.path().join("vault"));
    let recovery = SecretName::recovery();
    let error = vault.put(&recovery, &[1], 1).unwrap_err();
    assert!(matches!(error, VaultError::Occupied { .. }), "{error:?}");
    vault.remove(&recovery).unwrap();
    assert!(matches!(vault.remove(&recovery), Err(VaultError::Missing { .. })));
    assert!(matches!(vault.get(&recovery), Err(GetError::Missing { .. })));
    let error = vault.put(&recovery, &[1; 5000], 1).unwrap_err();
    assert!(matches!(error, VaultError::Seal(SealError::TooLarge { .. })), "{error:?}");
    assert!(vault.list().is_empty());
}

#[test]
fn a_wrong_passphrase_is_no_damage_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    drop(new_vault(&path));
    let before = fs::read(&path).unwrap();
    let error = Vault::open(&path, &passphrase("correct house")).unwrap_err();
    assert!(matches!(error, VaultError::Seal(SealError::WrongPassphrase)), "{error:?}");
    assert!(error.to_string().contains("24 words"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn damaged_and_foreign_files_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    drop(new_vault(&path));
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[700] ^= 4;
    for bad in [flipped, good[..good.len() / 2].to_vec(), Vec::new(), b"a letter".to_vec()] {
        fs::write(&path, &bad).unwrap();
        let error = Vault::open(&path, &correct()).unwrap_err();
        assert!(
            matches!(error, VaultError::Seal(SealError::Damaged { .. } | SealError::NotAVault)),
            "{error:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), bad);
    }
    fs::write(&path, vec![0; 3 << 20]).unwrap();
    let error = Vault::open(&path, &correct()).unwrap_err();
    assert!(matches!(error, VaultError::File(FileError::TooLong { .. })), "{error:?}");
    let error = Vault::open(folder.path().join("none"), &correct()).unwrap_err();
    assert!(matches!(error, VaultError::File(FileError::Missing { .. })), "{error:?}");
}

#[test]
fn a_changed_passphrase_opens_and_the_older_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let mut vault = new_vault(&path);
    vault.change_passphrase(&passphrase("battery staple"), WEAK).unwrap();
    vault.put(&SecretName::new("later").unwrap(), &[1], 1).unwrap();
    drop(vault);
    assert!(Vault::open(&path, &correct()).is_err());
    assert_eq!(Vault::open(&path, &passphrase("battery staple")).unwrap().list().len(), 2);
}

#[test]
fn a_key_file_unlocks_alone_and_warns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let key = folder.path().join("vault.key");
    let vault = Vault::create(&path, &UnlockSource::KeyFile, VaultOptions::default()).unwrap();
    let warning = UnlockWarning::KeyBesideVault { path: key.clone() };
    assert_eq!(vault.warnings(), std::slice::from_ref(&warning));
    assert!(warning.to_string().contains("vault.key"), "{warning}");
    drop(vault);
    let source = UnlockSource::detect(&path, "OPENLEDGER_NO_SUCH_VARIABLE").unwrap();
    let mut vault = Vault::open(&path, &source).unwrap();
    vault.change_passphrase(&correct(), WEAK).unwrap();
    assert!(!key.exists());
    assert_eq!(vault.warnings(), [UnlockWarning::WeakDerivation]);
    vault.change_passphrase(&UnlockSource::KeyFile, WEAK).unwrap();
    drop(vault);
    let good = fs::read(&key).unwrap();
    fs::write(&key, &good[..30]).unwrap();
    let error = Vault::open(&path, &UnlockSource::KeyFile).unwrap_err();
    assert!(matches!(error, VaultError::Unlock(UnlockError::BadKeyFile { .. })), "{error:?}");
    fs::write(&key, &good).unwrap();
    Vault::open(&path, &UnlockSource::KeyFile).unwrap();
}

#[test]
fn an_export_is_carried_to_another_vault() {
    let folder = tempfile::tempdir().unwrap();
    let vault = new_vault(&folder.path().join("vault"));
    let exported = folder.path().join("exported");
    let phrase = Passphrase::new("for the journey");
    vault.export_with(&exported, &phrase, WEAK).unwrap();
    let error = vault.export_with(&exported, &phrase, WEAK).unwrap_err();
    assert!(matches!(error, VaultError::File(FileError::Exists { .. })), "{error:?}");
    let to = folder.path().join("other");
    let wrong = Passphrase::new("for the journez");
    assert!(Vault::import(&exported, &wrong, &to, &correct(), WEAK).is_err());
    assert!(!to.exists());
    let other = Vault::import(&exported, &phrase, &to, &passphrase("new home!"), WEAK).unwrap();
    assert_eq!(other.list(), vault.list());
    assert_eq!(other.get(&SecretName::recovery()), vault.get(&SecretName::recovery()));
    let again = Vault::import(&exported, &phrase, &to, &correct(), WEAK).unwrap_err();
    assert!(matches!(again, VaultError::File(FileError::Exists { .. })), "{again:?}");
}

#[test]
fn no_file_holds_a_secret_and_none_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = new_vault(&folder.path().join("vault"));
    vault.rotate("node-key", PLANTED, 1).unwrap();
    vault
        .export_with(folder.path().join("exported"), &Passphrase::new("for the journey"), WEAK)
        .unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for needle in [PLANTED.as_slice(), b"correct horse", b"for the journey"] {
            assert!(!bytes.windows(needle.len()).any(|piece| piece == needle), "{path:?}");
        }
        names.push(path.file_name().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["exported", "vault", "vault.lock"]);
}

#[test]
fn a_vault_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = new_vault(&path);
    let error = Vault::open(&path, &correct()).unwrap_err();
    assert!(matches!(error, VaultError::File(FileError::InUse { .. })), "{error:?}");
    drop(vault);
    Vault::open(&path, &correct()).unwrap();
    let error = Vault::create(&path, &correct(), WEAK).unwrap_err();
    assert!(matches!(error, VaultError::File(FileError::Exists { .. })), "{error:?}");
}

#[cfg(unix)]
#[test]
fn wide_permissions_are_refused_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    drop(new_vault(&path));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Vault::open(&path, &correct()).unwrap_err();
    assert!(matches!(error, VaultError::File(FileError::TooOpen { mode: 0o644, .. })), "{error:?}");
    let remedy = format!("chmod 600 {}", path.display());
    assert!(error.to_string().contains(&remedy), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    let file = folder.path().join("passphrase");
    fs::write(&file, "correct horse\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let source = UnlockSource::File(file.clone());
    assert!(Vault::open(&path, &source).unwrap_err().to_string().contains("chmod 600"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let mut vault = Vault::open(&path, &source).unwrap();
    vault.put(&SecretName::new("later").unwrap(), &[1], 1).unwrap();
    assert_eq!(mode(&path), 0o600);
}
