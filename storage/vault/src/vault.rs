//! The vault: named secrets in one encrypted file.
//!
//! Every change is on disk, whole, before the call returns, and an error leaves the vault as it
//! was, in memory and on disk. While it is open no other process opens it.

use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::contents::{Contents, Secret};
use crate::derive::KdfParams;
use crate::error::{FileError, GetError, SealError, VaultError};
use crate::files::{self, Privacy, beside};
use crate::limits;
use crate::lock::FileLock;
use crate::name::SecretName;
use crate::seal::Sealer;
use crate::unlock::{Passphrase, UnlockSource, UnlockWarning, key_path};

/// How a vault is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct VaultOptions {
    /// The cost of deriving its key.
    pub kdf: KdfParams,
}

/// What may be told about a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// When it was put in, in seconds since 1970.
    pub created_s: u64,
    /// When it was revoked, in seconds since 1970.
    pub revoked_s: Option<u64>,
    /// Its length, in bytes.
    pub bytes: usize,
}

/// An open vault.
pub struct Vault {
    path: PathBuf,
    sealer: Sealer,
    contents: Contents,
    source_warning: Option<UnlockWarning>,
    _lock: FileLock,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault")
            .field("path", &self.path)
            .field("secrets", &self.contents.0.len())
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// Makes an empty vault at `path`, readable by its owner alone.
    ///
    /// # Errors
    /// When there is a file already, the passphrase is too short, or the file cannot be written.
    pub fn create(
        path: impl AsRef<Path>,
        source: &UnlockSource,
        options: VaultOptions,
    ) -> Result<Self, VaultError> {
        Self::create_with(path.as_ref(), source, options, Contents::default())
    }

    /// Opens the vault at `path`.
    ///
    /// # Errors
    /// [`SealError::WrongPassphrase`] for a whole file, [`SealError::Damaged`] for another;
    /// [`FileError::InUse`] while another process has it open; [`FileError::TooOpen`] when others
    /// may read it.
    pub fn open(path: impl AsRef<Path>, source: &UnlockSource) -> Result<Self, VaultError> {
        let path = path.as_ref();
        if !exists(path)? {
            return Err(FileError::Missing { path: path.to_owned() }.into());
        }
        let lock = FileLock::acquire(&beside(path, ".lock"))?;
        let file = files::read(path, limits::FILE_BYTES_MAX, Privacy::Required)?;
        let passphrase = source.passphrase(path)?;
        let (contents, sealer) = Sealer::open(&file, &passphrase)?;
        let source_warning = source.warning(path);
        Ok(Self { path: path.to_owned(), sealer, contents, source_warning, _lock: lock })
    }

    /// Makes a vault at `path` from a file that [`Vault::export`] wrote.
    ///
    /// # Errors
    /// As [`Vault::open`] for the exported file, then as [`Vault::create`].
    pub fn import(
        exported: impl AsRef<Path>,
        passphrase: &Passphrase,
        path: impl AsRef<Path>,
        source: &UnlockSource,
        options: VaultOptions,
    ) -> Result<Self, VaultError> {
        let file = files::read(exported.as_ref(), limits::FILE_BYTES_MAX, Privacy::GivenByFolder)?;
        let (contents, _) = Sealer::open(&file, passphrase)?;
        Self::create_with(path.as_ref(), source, options, contents)
    }

    /// Writes all secrets to a new file under a passphrase of its own, to be carried elsewhere. It
    /// has the format of a vault and the full cost of key derivation.
    ///
    /// # Errors
    /// When the passphrase is too short, there is a file already, or it cannot be written.
    pub fn export(&self, to: impl AsRef<Path>, passphrase: &Passphrase) -> Result<(), VaultError> {
        self.export_with(to, passphrase, VaultOptions::default())
    }

    /// As [`Vault::export`], with another cost of key derivation.
    ///
    /// # Errors
    /// As [`Vault::export`].
    pub fn export_with(
        &self,
        to: impl AsRef<Path>,
        passphrase: &Passphrase,
        options: VaultOptions,
    ) -> Result<(), VaultError> {
        passphrase.check_for_new_vault()?;
        let file = Sealer::new(passphrase, options.kdf)?.seal(&self.contents)?;
        Ok(files::write_new(to.as_ref(), &file)?)
    }

    /// A secret that has not been revoked.
    ///
    /// # Errors
    /// When there is none of that name, or it was revoked.
    pub fn get(&self, name: &SecretName) -> Result<Zeroizing<Vec<u8>>, GetError> {
        let missing = || GetError::Missing { name: name.clone() };
        let secret = self.contents.0.get(name).ok_or_else(missing)?;
        match secret.revoked_s {
            Some(revoked_s) => Err(GetError::Revoked { name: name.clone(), revoked_s }),
            None => Ok(secret.bytes.clone()),
        }
    }

    /// A secret of `N` bytes (seeds have 32) that has not been revoked.
    ///
    /// # Errors
    /// As [`Vault::get`], and when it has another length.
    pub fn get_array<const N: usize>(
        &self,
        name: &SecretName,
    ) -> Result<Zeroizing<[u8; N]>, GetError> {
        let bytes = self.get(name)?;
        let mut array = Zeroizing::new([0; N]);
        if bytes.len() != N {
            return Err(GetError::Length { name: name.clone(), bytes: bytes.len(), expected: N });
        }
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    /// The newest secret of a role that has not been revoked: of `node-key-1` and `node-key-2` the
    /// second.
    #[must_use]
    pub fn current(&self, role: &str) -> Option<SecretName> {
        self.of_role(role).filter(|(_, _, secret)| secret.revoked_s.is_none()).last_name()
    }

    /// What is inside, by name; no secret among it.
    #[must_use]
    pub fn list(&self) -> Vec<SecretInfo> {
        let info = |(name, secret): (&SecretName, &Secret)| SecretInfo {
            name: name.clone(),
            created_s: secret.created_s,
            revoked_s: secret.revoked_s,
            bytes: secret.bytes.len(),
        };
        self.contents.0.iter().map(info).collect()
    }

    /// Puts a new secret in.
    ///
    /// # Errors
    /// When the name is taken or the secret is too long, or the file cannot be written.
    pub fn put(&mut self, name: &SecretName, bytes: &[u8], now_s: u64) -> Result<(), VaultError> {
        if self.contents.0.contains_key(name) {
            return Err(VaultError::Occupied { name: name.clone() });
        }
        let mut next = self.contents.clone();
        next.0.insert(name.clone(), new_secret(bytes, now_s));
        self.save(next)
    }

    /// Marks a secret as revoked: it stays, and is not given out any more.
    ///
    /// # Errors
    /// When there is none, or the file cannot be written.
    pub fn revoke(&mut self, name: &SecretName, now_s: u64) -> Result<(), VaultError> {
        let mut next = self.contents.clone();
        let secret =
            next.0.get_mut(name).ok_or_else(|| VaultError::Missing { name: name.clone() })?;
        secret.revoked_s.get_or_insert(now_s);
        self.save(next)
    }

    /// Takes a secret out for good.
    ///
    /// # Errors
    /// When there is none, or the file cannot be written.
    pub fn remove(&mut self, name: &SecretName) -> Result<(), VaultError> {
        let mut next = self.contents.clone();
        if next.0.remove(name).is_none() {
            return Err(VaultError::Missing { name: name.clone() });
        }
        self.save(next)
    }

    /// Puts the next secret of a role in, revokes the earlier ones, both in one write, and gives
    /// the new name: `node-key-2` after `node-key-1`. Numbers are not used twice while the last
    /// one is kept.
    ///
    /// # Errors
    /// For a role that makes no names, or when the file cannot be written.
    pub fn rotate(
        &mut self,
        role: &str,
        bytes: &[u8],
        now_s: u64,
    ) -> Result<SecretName, VaultError> {
        let bad_role = || VaultError::BadRole { role: role.chars().take(64).collect() };
        if role.len() > 48 {
            return Err(bad_role());
        }
        let last = self.of_role(role).last_number().unwrap_or(0);
        let number = last.checked_add(1).ok_or_else(bad_role)?;
        let name = SecretName::new(&format!("{role}-{number}")).map_err(|_| bad_role())?;
        let mut next = self.contents.clone();
        for (earlier, secret) in &mut next.0 {
            if earlier.number_in(role).is_some() {
                secret.revoked_s.get_or_insert(now_s);
            }
        }
        next.0.insert(name.clone(), new_secret(bytes, now_s));
        self.save(next)?;
        Ok(name)
    }

    /// Encrypts everything anew under another passphrase. Copies of the older file still open with
    /// the older one: after a leak, rotate the keys too.
    ///
    /// # Errors
    /// When the passphrase is too short or not found, or the file cannot be written; the older one
    /// holds then.
    pub fn change_passphrase(
        &mut self,
        source: &UnlockSource,
        options: VaultOptions,
    ) -> Result<(), VaultError> {
        let passphrase = source.new_passphrase(&self.path)?;
        let sealer = Sealer::new(&passphrase, options.kdf)?;
        files::replace(&self.path, &sealer.seal(&self.contents)?)?;
        self.sealer = sealer;
        self.source_warning = source.warning(&self.path);
        if !matches!(source, UnlockSource::KeyFile) {
            // It opens nothing any more; a leftover would only mislead.
            let _ = fs::remove_file(key_path(&self.path));
        }
        Ok(())
    }

    /// What the owner should be told at each start.
    #[must_use]
    pub fn warnings(&self) -> Vec<UnlockWarning> {
        let weak = self.sealer.kdf().is_weak().then_some(UnlockWarning::WeakDerivation);
        self.source_warning.iter().cloned().chain(weak).collect()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn create_with(
        path: &Path,
        source: &UnlockSource,
        options: VaultOptions,
        contents: Contents,
    ) -> Result<Self, VaultError> {
        if exists(path)? {
            return Err(FileError::Exists { path: path.to_owned() }.into());
        }
        let lock = FileLock::acquire(&beside(path, ".lock"))?;
        let passphrase = source.new_passphrase(path)?;
        let sealer = Sealer::new(&passphrase, options.kdf)?;
        files::write_new(path, &sealer.seal(&contents)?)?;
        let source_warning = source.warning(path);
        Ok(Self { path: path.to_owned(), sealer, contents, source_warning, _lock: lock })
    }

    fn save(&mut self, next: Contents) -> Result<(), VaultError> {
        let file = self.sealer.seal(&next)?;
        if file.len() > limits::FILE_BYTES_MAX {
            let (value, value_max) = (file.len(), limits::FILE_BYTES_MAX);
            return Err(SealError::TooLarge { what: "the vault", value, value_max }.into());
        }
        files::replace(&self.path, &file)?;
        self.contents = next;
        Ok(())
    }

    fn of_role(&self, role: &str) -> impl Iterator<Item = (u32, &SecretName, &Secret)> {
        let numbered = move |(name, secret)| {
            let name: &SecretName = name;
            Some((name.number_in(role)?, name, secret))
        };
        self.contents.0.iter().filter_map(numbered)
    }
}

/// The highest numbered of a role's secrets.
trait Highest<'a>: Iterator<Item = (u32, &'a SecretName, &'a Secret)> + Sized {
    fn last_number(self) -> Option<u32> {
        self.map(|(number, _, _)| number).max()
    }

    fn last_name(self) -> Option<SecretName> {
        self.max_by_key(|(number, _, _)| *number).map(|(_, name, _)| name.clone())
    }
}

impl<'a, I: Iterator<Item = (u32, &'a SecretName, &'a Secret)>> Highest<'a> for I {}

fn new_secret(bytes: &[u8], created_s: u64) -> Secret {
    Secret { bytes: Zeroizing::new(bytes.to_vec()), created_s, revoked_s: None }
}

fn exists(path: &Path) -> Result<bool, FileError> {
    fs::exists(path).map_err(|source| files::io_error("read", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_vault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault");
        let source = UnlockSource::Passphrase(Passphrase::new("correct horse"));
        let options = VaultOptions { kdf: KdfParams::weak_for_tests() };
        let mut vault = Vault::create(&path, &source, options).unwrap();
        vault.put(&SecretName::recovery(), &[7; 32], 1).unwrap();

        let mut next = vault.contents.clone();
        next.0.clear();
        files::stage(&path, &vault.sealer.seal(&next).unwrap()).unwrap();
        drop(vault);

        let mut vault = Vault::open(&path, &source).unwrap();
        assert_eq!(vault.list().len(), 1);
        // And the draft that was left behind is in nobody's way.
        vault.remove(&SecretName::recovery()).unwrap();
        assert!(!beside(&path, ".new").exists());
    }
}
