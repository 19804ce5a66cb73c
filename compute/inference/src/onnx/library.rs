//! The library of ONNX Runtime: loaded once for the process, by its path.
//!
//! Nothing is looked for: the path is configuration. What the library may do is decided by whoever
//! names it, as with any program that is started; a model file never loads one.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::error::OnnxError;

/// What this process has loaded. ONNX Runtime keeps state that is the process's, so there is one
/// library and it is never let go of.
struct Loaded {
    library: OnnxLibrary,
    environment: Environment,
    /// Libraries of execution providers, by their paths.
    plugins: Vec<PathBuf>,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// No code that may panic half-way changes what the lock guards, so a poisoned one is as good.
fn loaded() -> MutexGuard<'static, Option<Loaded>> {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A library of ONNX Runtime that this process has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxLibrary {
    path: PathBuf,
    version: String,
}

impl OnnxLibrary {
    /// Where it was loaded from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, as the file's name has it (`libonnxruntime.so.1.31.1`); else the commit that
    /// it was built from.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Loads ONNX Runtime from this file, or finds that this process has loaded it already, and says
/// which version it is. Versions before 1.22 are refused.
///
/// # Errors
/// A file that is not there, that is no such library, or that is too old; another library that is
/// loaded already.
pub fn onnx_library(path: &Path) -> Result<OnnxLibrary, OnnxError> {
    let mut held = loaded();
    if let Some(loaded) = held.as_ref() {
        return same(&loaded.library, path);
    }
    let own = load(path)?;
    let library = own.library.clone();
    *held = Some(own);
    Ok(library)
}

/// The library that this process has loaded.
pub(super) fn present() -> Option<OnnxLibrary> {
    loaded().as_ref().map(|loaded| loaded.library.clone())
}

/// What sessions are made in.
pub(super) fn environment(path: &Path) -> Result<Environment, OnnxError> {
    onnx_library(path)?;
    let absent = || OnnxError::Library { path: path.to_owned(), reason: "it is gone".to_owned() };
    loaded().as_ref().map(|loaded| loaded.environment.clone()).ok_or_else(absent)
}

/// Has the library load another one, with an execution provider in it, once.
pub(super) fn plugin(name: &str, path: &Path) -> Result<(), OnnxError> {
    let wrong = |reason| OnnxError::Plugin { path: path.to_owned(), reason };
    let file = path.canonicalize().map_err(|error| wrong(error.to_string()))?;
    let mut held = loaded();
    let Some(loaded) = held.as_mut() else { return Ok(()) };
    if loaded.plugins.contains(&file) {
        return Ok(());
    }
    let registered = loaded.environment.register_ep_library(name, &file);
    registered.map_err(|error| wrong(error.to_string()))?;
    loaded.plugins.push(file);
    Ok(())
}

fn same(library: &OnnxLibrary, path: &Path) -> Result<OnnxLibrary, OnnxError> {
    let asked = path.canonicalize();
    if library.path == path || asked.is_ok_and(|asked| asked == library.path) {
        return Ok(library.clone());
    }
    Err(OnnxError::Other { loaded: library.path.clone(), asked: path.to_owned() })
}

fn load(path: &Path) -> Result<Loaded, OnnxError> {
    let wrong = |reason: String| OnnxError::Library { path: path.to_owned(), reason };
    // The loader's own words for a missing file are a page long.
    let file = path.canonicalize().map_err(|error| wrong(error.to_string()))?;
    if !file.is_file() {
        return Err(wrong("it is no file".to_owned()));
    }
    let builder = ort::init_from(&file).map_err(|error| wrong(error.to_string()))?;
    let builder = builder.with_name("openledger").with_telemetry(false);
    let environment = builder.build().map_err(|error| wrong(error.to_string()))?;
    environment.set_log_level(LogLevel::Error);
    let version = version_of(&file);
    let library = OnnxLibrary { path: file, version };
    Ok(Loaded { library, environment, plugins: Vec::new() })
}

/// The digits of the file's name; else the commit in what the library says of its build.
fn version_of(file: &Path) -> String {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let digits: Vec<&str> =
        name.split('.').filter(|part| part.bytes().all(|b| b.is_ascii_digit())).collect();
    if digits.len() >= 2 {
        return digits.join(".");
    }
    let info = ort::info();
    let commit = info.split_once("git-commit-id=").map_or(info, |(_, rest)| rest);
    format!("commit {}", commit.split(',').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_and_one_that_is_no_library_are_errors() {
        let error = onnx_library(Path::new("/nowhere/libonnxruntime.so")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/libonnxruntime.so"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let error = load(folder.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("no file"), "{error}");
        let file = folder.path().join("libonnxruntime.so");
        std::fs::write(&file, b"no library").unwrap();
        let error = load(&file).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("libonnxruntime.so"), "{error}");
    }

    #[test]
    fn a_version_is_read_from_the_files_name() {
        assert_eq!(version_of(Path::new("/lib/libonnxruntime.so.1.31.1")), "1.31.1");
        assert_eq!(version_of(Path::new("/lib/libonnxruntime.1.31.1.dylib")), "1.31.1");
    }
}
