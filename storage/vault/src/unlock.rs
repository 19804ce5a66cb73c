//! Where the passphrase of a vault comes from: a person, the environment, a file, systemd, or a
//! key file for nodes that must start alone.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{FileError, UnlockError};
use crate::files::{self, Privacy, beside};
use crate::limits;

/// A passphrase, wiped when dropped and never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes a passphrase over.
    #[must_use]
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn check_for_new_vault(&self) -> Result<(), UnlockError> {
        let bytes = self.0.len();
        if bytes < limits::PASSPHRASE_BYTES_MIN {
            return Err(UnlockError::TooShort { bytes });
        }
        self.check_length()
    }

    fn check_length(&self) -> Result<(), UnlockError> {
        let bytes = self.0.len();
        if bytes > limits::PASSPHRASE_BYTES_MAX {
            return Err(UnlockError::TooLong { bytes });
        }
        Ok(())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Where the passphrase comes from.
#[derive(Debug, Clone)]
pub enum UnlockSource {
    /// The caller has it, from a prompt for instance.
    Passphrase(Passphrase),
    /// An environment variable of this name.
    Environment(String),
    /// A file, readable by its owner alone; a line end at its end does not count.
    File(PathBuf),
    /// systemd's credential [`UnlockSource::CREDENTIAL`] (`LoadCredential=` or
    /// `LoadCredentialEncrypted=` in the unit).
    SystemdCredential,
    /// A key file beside the vault, made with it: for nodes that must start alone. It protects
    /// copies of the vault, not the folder that holds both; see [`UnlockWarning`].
    KeyFile,
}

/// A weakness that the owner of a vault chose and should be told of at each start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnlockWarning {
    /// The key lies beside the vault.
    KeyBesideVault {
        /// The key file.
        path: PathBuf,
    },
    /// The passphrase is in the environment.
    PassphraseInEnvironment {
        /// The variable.
        name: String,
    },
    /// The passphrase can be guessed cheaply.
    WeakDerivation,
}

impl fmt::Display for UnlockWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyBesideVault { path } => write!(
                f,
                "the key of the vault lies beside it ({}): whoever can read this folder can use \
                 the node's keys; keep the owner key elsewhere, and copy only one of the two \
                 files into a backup",
                path.display()
            ),
            Self::PassphraseInEnvironment { name } => write!(
                f,
                "the passphrase is in the environment variable {name}: other programs of this \
                 user can read it; a systemd credential or a file is safer"
            ),
            Self::WeakDerivation => f.write_str(
                "the vault was made with the key derivation for tests: its passphrase can be \
                 guessed; export it and import it again",
            ),
        }
    }
}

impl UnlockSource {
    /// The name under which systemd passes the passphrase.
    pub const CREDENTIAL: &'static str = "openledger-passphrase";

    /// The source that an unattended start finds: systemd's credential, the environment variable
    /// `variable`, or a key file beside `vault`, in this order; `None` when somebody must be asked.
    #[must_use]
    pub fn detect(vault: &Path, variable: &str) -> Option<Self> {
        Self::detect_with(vault, variable, &|name| std::env::var_os(name))
    }

    fn detect_with(vault: &Path, variable: &str, environment: Environment<'_>) -> Option<Self> {
        if credential_path(environment).is_some_and(|path| path.exists()) {
            return Some(Self::SystemdCredential);
        }
        if environment(variable).is_some() {
            return Some(Self::Environment(variable.to_owned()));
        }
        key_path(vault).exists().then_some(Self::KeyFile)
    }

    /// Finds the passphrase of the vault at `vault`.
    pub(crate) fn passphrase(&self, vault: &Path) -> Result<Passphrase, UnlockError> {
        self.passphrase_with(vault, &|name| std::env::var_os(name))
    }

    fn passphrase_with(
        &self,
        vault: &Path,
        environment: Environment<'_>,
    ) -> Result<Passphrase, UnlockError> {
        let passphrase = match self {
            Self::Passphrase(passphrase) => passphrase.clone(),
            Self::Environment(name) => {
                let text = environment(name)
                    .ok_or_else(|| UnlockError::NoVariable { name: name.clone() })?;
                Passphrase::new(text.into_encoded_bytes())
            }
            Self::File(path) => read_line(path, Privacy::Required)?,
            Self::SystemdCredential => {
                let missing = UnlockError::NoCredential { credential: Self::CREDENTIAL };
                match credential_path(environment) {
                    Some(path) if path.exists() => read_line(&path, Privacy::GivenByFolder)?,
                    _ => return Err(missing),
                }
            }
            Self::KeyFile => {
                let path = key_path(vault);
                let key = read_line(&path, Privacy::Required)?;
                let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                if key.as_bytes().len() != 64 || !key.as_bytes().iter().all(is_digit) {
                    return Err(UnlockError::BadKeyFile { path });
                }
                key
            }
        };
        passphrase.check_length()?;
        Ok(passphrase)
    }

    /// The passphrase for a new vault; a key file is made if there is none.
    pub(crate) fn new_passphrase(&self, vault: &Path) -> Result<Passphrase, UnlockError> {
        let path = key_path(vault);
        if matches!(self, Self::KeyFile) && !path.exists() {
            let mut key = Zeroizing::new([0_u8; 32]);
            getrandom::fill(key.as_mut_slice()).map_err(UnlockError::Random)?;
            let mut text = Zeroizing::new(vec![b'\n'; 65]);
            if let Some(digits) = text.get_mut(..64) {
                // 32 bytes are 64 digits, so this cannot fail.
                let _ = hex::encode_to_slice(key.as_slice(), digits);
            }
            files::write_new(&path, &text)?;
        }
        let passphrase = self.passphrase(vault)?;
        passphrase.check_for_new_vault()?;
        Ok(passphrase)
    }

    /// What the owner should know of this source.
    pub(crate) fn warning(&self, vault: &Path) -> Option<UnlockWarning> {
        match self {
            Self::KeyFile => Some(UnlockWarning::KeyBesideVault { path: key_path(vault) }),
            Self::Environment(name) => {
                Some(UnlockWarning::PassphraseInEnvironment { name: name.clone() })
            }
            Self::Passphrase(_) | Self::File(_) | Self::SystemdCredential => None,
        }
    }
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn credential_path(environment: Environment<'_>) -> Option<PathBuf> {
    let folder = environment("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty())?;
    Some(PathBuf::from(folder).join(UnlockSource::CREDENTIAL))
}

/// Where the key file of a vault lies.
pub(crate) fn key_path(vault: &Path) -> PathBuf {
    beside(vault, ".key")
}

/// A file's content without the line end at its end.
fn read_line(path: &Path, privacy: Privacy) -> Result<Passphrase, FileError> {
    let mut bytes = files::read(path, limits::PASSPHRASE_BYTES_MAX + 2, privacy)?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(Passphrase(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn private_file(path: &Path, content: &str) {
        files::replace(path, content.as_bytes()).unwrap();
    }

    #[test]
    fn credentials_come_before_the_environment_and_a_key_file() {
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("vault");
        let credentials = folder.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        let environment = |name: &str| match name {
            "CREDENTIALS_DIRECTORY" => Some(credentials.clone().into_os_string()),
            "SECRET" => Some("from the environment".into()),
            _ => None,
        };
        let detect = |variable: &str| UnlockSource::detect_with(&vault, variable, &environment);
        assert!(detect("NONE").is_none());
        private_file(&key_path(&vault), "x");
        assert!(matches!(detect("NONE"), Some(UnlockSource::KeyFile)));
        assert!(matches!(detect("SECRET"), Some(UnlockSource::Environment(_))));
        fs::write(credentials.join(UnlockSource::CREDENTIAL), "from systemd\r\n").unwrap();
        let source = detect("SECRET").unwrap();
        assert!(matches!(source, UnlockSource::SystemdCredential));

        let found = source.passphrase_with(&vault, &environment).unwrap();
        assert_eq!(found.as_bytes(), b"from systemd");
        let source = UnlockSource::Environment("SECRET".to_owned());
        let found = source.passphrase_with(&vault, &environment).unwrap();
        assert_eq!(found.as_bytes(), b"from the environment");
    }

    #[test]
    fn missing_sources_name_their_remedy() {
        let vault = Path::new("/nonexistent/vault");
        let none = |_: &str| None;
        let error =
            |source: UnlockSource| source.passphrase_with(vault, &none).unwrap_err().to_string();
        assert!(error(UnlockSource::Environment("ABC".to_owned())).contains("ABC is not set"));
        assert!(error(UnlockSource::SystemdCredential).contains("LoadCredential="));
        assert!(error(UnlockSource::KeyFile).contains("/nonexistent/vault.key"));
    }

    #[test]
    fn slips_are_no_passphrases_and_none_is_shown() {
        let short = UnlockSource::Passphrase(Passphrase::new("abc"));
        let error = short.new_passphrase(Path::new("vault")).unwrap_err();
        assert!(matches!(error, UnlockError::TooShort { bytes: 3 }), "{error:?}");
        let long = UnlockSource::Passphrase(Passphrase::new("x".repeat(2000)));
        assert!(long.passphrase(Path::new("vault")).is_err());
        assert!(!format!("{short:?}").contains("abc"));
    }
}
