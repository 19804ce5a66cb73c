//! Model files in the folder: whole, or cut short.
//!
//! Only headers are looked at: they say how long the file must be. Whether the weights are the
//! publisher's is known by their hash, when a model is taken over as a blob.

use std::path::{Path, PathBuf};

use openledger_models::{Gguf, GgufError, Mapped};
use openledger_web::doctor::Finding;

use super::examine::Patient;
use super::machine::{bytes, quoted};
use crate::limits;

const CODE: &str = "model";

/// Looks at each model file.
pub(super) fn findings(patient: &Patient) -> Vec<Finding> {
    let mut files = Vec::new();
    find(&patient.data.join("models"), limits::DOCTOR_MODEL_DEPTH_MAX, &mut files);
    files.sort();
    let needed = patient.config.work.kinds.iter().any(|kind| kind == "infer");
    let mut findings: Vec<Finding> = files.iter().filter_map(|file| look(file, needed)).collect();
    if findings.is_empty() {
        let found = match files.len() {
            0 => "no model files yet".to_owned(),
            count => format!("{count} model files are whole"),
        };
        findings.push(Finding::fine(CODE, found));
    }
    findings
}

/// Collects model files below a folder.
fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if files.len() >= limits::DOCTOR_MODELS_MAX {
            return;
        }
        if path.is_dir() {
            if let Some(depth) = depth.checked_sub(1) {
                find(&path, depth, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "gguf") {
            files.push(path);
        }
    }
}

/// What is wrong with one file, if anything.
fn look(file: &Path, needed: bool) -> Option<Finding> {
    let again = format!(
        "`rm {}`, then get the file again and compare its size with the publisher's",
        quoted(file)
    );
    let (found, cause, mend) = match Mapped::open(file) {
        Err(error) => (
            format!("{} does not open", file.display()),
            format!("failed to {error}"),
            format!("`chmod u+r {}`, or {again}", quoted(file)),
        ),
        Ok(mapped) => match Gguf::parse(&mapped) {
            Ok(_) => return None,
            Err(GgufError::Truncated { place, missing, at_least }) => {
                let least = if at_least { "at least " } else { "" };
                let has = bytes(mapped.len() as u64);
                (
                    format!(
                        "{} is cut short: it has {has}, {least}{missing} bytes are missing ({place})",
                        file.display()
                    ),
                    "a download or copy was interrupted, or the disk was full".to_owned(),
                    again,
                )
            }
            Err(error) => (
                format!("{} is no model that can be used", file.display()),
                format!("failed to {error}"),
                again,
            ),
        },
    };
    // Without inference, a bad model harms nobody.
    Some(if needed {
        Finding::error(CODE, found, cause, mend)
    } else {
        Finding::warning(CODE, found, cause, mend)
    })
}
