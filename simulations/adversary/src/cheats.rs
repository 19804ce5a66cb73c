//! The record of dishonest proofs: one JSON object per line.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use openledger_wire::proof::Proof;
use openledger_wire::{ProofId, TaskId};
use serde::{Deserialize, Serialize};

/// One dishonest proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cheat {
    /// The proof as it was sent.
    pub proof: ProofId,
    /// Its task.
    pub task: TaskId,
    /// Kind of work.
    pub kind: String,
    /// What is wrong with it.
    pub what: String,
}

/// Writes each dishonest proof once.
#[derive(Debug)]
pub struct Cheats {
    state: Mutex<(File, BTreeSet<ProofId>)>,
}

impl Cheats {
    /// Appends to a file, which is made if it is missing.
    ///
    /// # Errors
    /// The file's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { state: Mutex::new((file, BTreeSet::new())) })
    }

    /// Notes a dishonest proof before it is sent, so that none is missing from the record.
    ///
    /// # Errors
    /// The file's; the proof must not be sent then.
    pub fn note(&self, id: ProofId, proof: &Proof, what: &str) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, noted) = &mut *state;
        if noted.contains(&id) {
            return Ok(());
        }
        let kind = proof.body.kind.name().to_owned();
        let cheat = Cheat { proof: id, task: proof.task, kind, what: what.to_owned() };
        let mut line = serde_json::to_string(&cheat)?;
        line.push('\n');
        // One write, so that a reader never sees half a line.
        file.write_all(line.as_bytes())?;
        noted.insert(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::proof::ProofBody;
    use openledger_wire::task::TaskKind;
    use openledger_wire::{Blob, BlobId, Commitment, NodeId, OutputRoot, Round, SecretNonce};

    #[test]
    fn each_proof_is_noted_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cheats.jsonl");
        let body = ProofBody { kind: TaskKind::Fetch, version: 1, bytes: Blob::default() };
        let proof = Proof {
            task: TaskId([1; 32]),
            node: NodeId([2; 32]),
            wave: 0,
            round: Round(1),
            seq: 1,
            input: BlobId::ZERO,
            output: OutputRoot::ZERO,
            commitment: Commitment::ZERO,
            nonce: SecretNonce::ZERO,
            body,
        };
        let cheats = Cheats::open(&path).unwrap();
        for id in [3, 3, 4] {
            cheats.note(ProofId([id; 32]), &proof, "invented").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Cheat> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read.iter().map(|cheat| cheat.proof.0[0]).collect::<Vec<_>>(), [3, 4]);
        assert_eq!((read[0].kind.as_str(), read[0].what.as_str()), ("fetch", "invented"));
    }
}
