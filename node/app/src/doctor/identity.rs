//! The vault and what unlocks it; the node key's delegation.

use std::error::Error as _;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use openledger_vault::{FileError, SealError, UnlockError, UnlockSource, Vault, VaultError};
use openledger_web::doctor::Finding;
use rustix::process::geteuid;

use super::examine::Patient;
use super::machine::quoted;
use crate::identity::{
    Keyring, PASSPHRASE_COMMAND_VARIABLE, PASSPHRASE_VARIABLE, Statements, found_source,
};
use crate::limits;
use crate::network::Network;
use crate::time;

const CODE: &str = "identity";

/// Whether there is an identity that the node can use.
pub(super) fn findings(patient: &Patient) -> Vec<Finding> {
    vec![look(patient)]
}

fn look(patient: &Patient) -> Finding {
    let (data, path) = (&patient.data, Keyring::path(&patient.data));
    let public = Keyring::public(data);
    if !Keyring::exists(data) {
        if public.is_err() {
            return Finding::fine(CODE, "none yet; `openledger up` makes one");
        }
        let found = format!("the vault {} is gone", path.display());
        let cause = "it was removed or not carried over with the rest of the folder";
        let mend = "put it back from a copy, or make this machine a node of your account again: `openledger identity restore` with the 24 words";
        return Finding::error(CODE, found, cause, mend);
    }
    let public = match public {
        Ok(public) => public,
        Err(error) => {
            let found = "what may be told about the identity does not read";
            let mend = "put identity/public.json back from a copy, or move the folder `identity` away and use `openledger identity restore` with the 24 words";
            return Finding::error(CODE, found, format!("failed to {error}"), mend);
        }
    };
    let named = format!("node {}, account {}", public.node.short(), public.account.short());
    if patient.running.is_some() {
        return Finding::fine(CODE, format!("{named}; in use by the running node"));
    }
    let me = geteuid().as_raw();
    if fs::metadata(&path).is_ok_and(|metadata| metadata.uid() != me) {
        return Finding::skipped(CODE, format!("{named}; the vault is another user's"));
    }
    let source = match found_source(&path) {
        Ok(source) => source,
        Err(error) => {
            let found = format!("{named}; nothing gives the passphrase");
            let mend = format!(
                "make that command print it, or unset {PASSPHRASE_COMMAND_VARIABLE} to be asked"
            );
            return Finding::error(CODE, found, format!("failed to {error}"), mend);
        }
    };
    let Some(source) = source else {
        return Finding::fine(
            CODE,
            format!(
                "{named}; locked: the passphrase is asked for at each start, or taken from {PASSPHRASE_VARIABLE}"
            ),
        );
    };
    let Some(beside) = Beside::of(&path) else {
        return Finding::skipped(CODE, format!("{named}; no temporary folder to try the key in"));
    };
    match Vault::open(beside.vault(), &source) {
        Ok(_) => Finding::fine(CODE, format!("{named}; unlocks without being asked")),
        Err(error) => locked(&beside, &source, &error, &named),
    }
}

/// Another way to the files of a vault: links in a folder of our own. An open vault is locked
/// beside its path, so a node that starts at this very moment is not kept from its own.
struct Beside {
    folder: PathBuf,
    real: PathBuf,
}

impl Beside {
    fn of(vault: &Path) -> Option<Self> {
        let real = fs::canonicalize(vault).ok()?;
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).ok()?;
        let name = format!("openledger-doctor-{}", hex::encode(random));
        let beside = Self { folder: std::env::temp_dir().join(name), real };
        DirBuilder::new().mode(0o700).create(&beside.folder).ok()?;
        symlink(&beside.real, beside.vault()).ok()?;
        let key = with_key(&beside.real);
        if key.exists() {
            symlink(&key, with_key(&beside.vault())).ok()?;
        }
        Some(beside)
    }

    fn vault(&self) -> PathBuf {
        self.folder.join("vault")
    }

    /// An error's words, about the real files.
    fn words(&self, error: &VaultError) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        let (ours, real) = (self.vault(), &self.real);
        text.replace(&ours.display().to_string(), &real.display().to_string())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Links go, what they lead to stays.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The key file beside a vault.
fn with_key(vault: &Path) -> PathBuf {
    let mut path = vault.as_os_str().to_owned();
    path.push(".key");
    path.into()
}

fn locked(beside: &Beside, source: &UnlockSource, error: &VaultError, named: &str) -> Finding {
    let path = &beside.real;
    let found = format!("{named}; the vault {} does not open", path.display());
    let folder = path.parent().unwrap_or(path);
    let again = format!(
        "`mv {0} {0}.old`, then `openledger identity restore` with the 24 words",
        quoted(folder)
    );
    match error {
        VaultError::File(FileError::TooOpen { path, .. })
        | VaultError::Unlock(UnlockError::File(FileError::TooOpen { path, .. }))
            if path.starts_with(&beside.folder) =>
        {
            Finding::skipped(CODE, format!("{named}; others may read its files"))
        }
        VaultError::Seal(SealError::WrongPassphrase) => {
            let whence = match source {
                UnlockSource::Environment(name) => format!("the variable {name}"),
                UnlockSource::SystemdCredential => {
                    format!("systemd's credential {}", UnlockSource::CREDENTIAL)
                }
                UnlockSource::File(file) => format!("the file {}", file.display()),
                UnlockSource::Passphrase(_) => {
                    format!("the command in {PASSPHRASE_COMMAND_VARIABLE}")
                }
                UnlockSource::KeyFile => format!("the key file {}.key", path.display()),
            };
            let cause = format!("the passphrase of {whence} is not that of this vault");
            let mend = format!("put the right one into {whence}; if it is lost: {again}");
            Finding::error(CODE, found, cause, mend)
        }
        VaultError::Unlock(_) => {
            let mend = format!("do what the cause says, or set {PASSPHRASE_VARIABLE}");
            Finding::error(CODE, found, beside.words(error), mend)
        }
        error => {
            let mend = format!("put the files back from a copy; if there is none: {again}");
            Finding::error(CODE, found, beside.words(error), mend)
        }
    }
}

/// Whether the node key may act for the account in a network.
pub(super) fn delegation(patient: &Patient, network: &Network) -> Vec<Finding> {
    const CODE: &str = "delegation";
    let Ok(public) = Keyring::public(&patient.data) else {
        return vec![Finding::skipped(CODE, "there is no identity yet")];
    };
    let now = time::now();
    let restore =
        "put the 24 words back: `openledger identity restore`; it is signed anew at the next start";
    // Without the words this only reads.
    let finding = match Statements::of(network).delegation(public.node, None, now) {
        Ok(Some((_, delegation))) => {
            let left_ms = delegation.expires.0.saturating_sub(now.0);
            let found = format!("the node key may act for the account for {}", time::span(left_ms));
            if left_ms < limits::DELEGATION_RENEW_MS && !public.has_words {
                let cause = "the 24 words that renew it are not on this machine";
                Finding::warning(CODE, found, cause, restore)
            } else {
                Finding::fine(CODE, found)
            }
        }
        Ok(None) if public.has_words => Finding::fine(CODE, "is signed at the next start"),
        Ok(None) => {
            let found = "the node key has no valid delegation in this network";
            let cause =
                "it ended, or is of another node key, and the 24 words are not on this machine";
            Finding::error(CODE, found, cause, restore)
        }
        Err(error) => {
            let found = "the delegation does not read";
            let mend = format!(
                "`rm {}`; it is signed anew at the next start if the 24 words are here",
                quoted(&network.folder.join("delegation.cbor"))
            );
            Finding::error(CODE, found, format!("failed to {error}"), mend)
        }
    };
    vec![finding]
}
