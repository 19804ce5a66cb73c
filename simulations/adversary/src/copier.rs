//! Commits to a random root and reveals what a neighbour found.
//!
//! It does no work at all. After its set is closed it listens for a neighbour's proof of the same
//! task, and if none comes, it takes the last one of the same kind that it heard. What it reveals
//! does not open its commitment, which is what secret nonces and closed sets are for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use openledger_app::conduct::{Conduct, Shortcut};
use openledger_wire::link::LeasedTask;
use openledger_wire::proof::{Proof, proof_id};
use openledger_wire::{Commitment, Envelope, NetworkId, NodeKey};

use crate::cheats::Cheats;
use crate::fabricator::invented;
use crate::invent::Inventor;
use crate::limits;

/// A node that copies its neighbours.
#[derive(Debug)]
pub struct Copier {
    inventor: Inventor,
    cheats: Cheats,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    heard: VecDeque<Envelope>,
    /// By the id of the proof that was prepared: what is sent in its place; nothing yet at the
    /// first time of asking.
    sent: BTreeMap<[u8; 32], Option<Envelope>>,
}

impl Copier {
    /// A copier; the inventor gives what stands in its outbox until there is something to copy.
    #[must_use]
    pub fn new(inventor: Inventor, cheats: Cheats) -> Self {
        Self { inventor, cheats, state: Mutex::default() }
    }

    /// What is sent in place of the proof that was prepared; the same each time.
    fn copy(&self, prepared: &Envelope, key: &NodeKey, network: NetworkId) -> Option<Envelope> {
        let own = prepared.open::<Proof>(network).ok()?.value;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.sent.get(&prepared.id()).cloned();
        if let Some(Some(copied)) = known {
            return Some(copied);
        }
        let neighbours: Vec<Proof> = state
            .heard
            .iter()
            .rev()
            .filter_map(|heard| Some(heard.open::<Proof>(network).ok()?.value))
            .filter(|proof| proof.node != own.node && proof.body.kind == own.body.kind)
            .collect();
        let same = neighbours.iter().find(|proof| proof.task == own.task);
        if same.is_none() && known.is_none() {
            state.sent.insert(prepared.id(), None);
            return None;
        }
        let source = same.or(neighbours.first()).unwrap_or(&own);
        let copied = Proof {
            input: source.input,
            output: source.output,
            body: source.body.clone(),
            ..own.clone()
        };
        let envelope = Envelope::seal(&copied, network, key).ok()?;
        state.sent.insert(prepared.id(), Some(envelope.clone()));
        Some(envelope)
    }
}

impl Conduct for Copier {
    fn shortcut(&self, leased: &LeasedTask) -> Option<Shortcut> {
        Some(invented(&self.inventor, leased).unwrap_or_else(Shortcut::Decline))
    }

    fn commitment(&self, honest: Commitment, _: &LeasedTask) -> Commitment {
        let mut random = honest.0;
        // Without randomness the honest one is turned round, which opens as little.
        if getrandom::fill(&mut random).is_err() {
            random.reverse();
        }
        Commitment(random)
    }

    fn proof(&self, honest: Envelope, key: &NodeKey, network: NetworkId) -> Option<Envelope> {
        let copied = self.copy(&honest, key, network)?;
        let proof = copied.open::<Proof>(network).ok()?.value;
        self.cheats.note(proof_id(&copied), &proof, "copied behind a random commitment").ok()?;
        Some(copied)
    }

    fn heard(&self, proof: &Envelope) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.heard.push_back(proof.clone());
        if state.heard.len() > limits::HEARD_MAX {
            state.heard.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::proof::ProofBody;
    use openledger_wire::task::TaskKind;
    use openledger_wire::{Blob, BlobId, Round, SecretNonce, TaskId};

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn proof(key: &NodeKey, task: u8, content: u8) -> Envelope {
        let body = ProofBody {
            kind: TaskKind::Fetch,
            version: 1,
            bytes: Blob::new(vec![content; 9]).unwrap(),
        };
        let (task, nonce) = (TaskId([task; 32]), SecretNonce([content; 32]));
        let (node, output) = (key.public(), body.output_root());
        let proof = Proof {
            task,
            node,
            wave: 0,
            round: Round(1),
            seq: 1,
            input: BlobId::ZERO,
            output,
            commitment: Commitment::new(&task, &node, &nonce, &output),
            nonce,
            body,
        };
        Envelope::seal(&proof, NETWORK, key).unwrap()
    }

    #[test]
    fn the_copy_is_the_neighbours_and_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cheats = Cheats::open(&folder.path().join("cheats.jsonl")).unwrap();
        let copier = Copier::new(Inventor::new([1; 32]), cheats);
        let (own, neighbour) = (NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32]));
        let prepared = proof(&own, 5, 1);
        assert!(copier.proof(prepared.clone(), &own, NETWORK).is_none(), "it waits once");
        copier.heard(&proof(&neighbour, 4, 8));
        copier.heard(&proof(&neighbour, 5, 9));
        copier.heard(&proof(&neighbour, 6, 7));
        let sent = copier.proof(prepared.clone(), &own, NETWORK).unwrap();
        let copied = sent.open::<Proof>(NETWORK).unwrap().value;
        assert_eq!((copied.body.bytes[0], copied.node), (9, own.public()));
        assert!(!copied.opens());
        assert_eq!(copier.proof(prepared, &own, NETWORK).unwrap(), sent, "the same each time");
        let noted = std::fs::read_to_string(folder.path().join("cheats.jsonl")).unwrap();
        assert_eq!(noted.lines().count(), 1);
        assert!(noted.contains(&proof_id(&sent).to_string()));
    }

    #[test]
    fn without_its_task_it_takes_what_it_last_heard() {
        let folder = tempfile::tempdir().unwrap();
        let cheats = Cheats::open(&folder.path().join("cheats.jsonl")).unwrap();
        let copier = Copier::new(Inventor::new([1; 32]), cheats);
        let (own, neighbour) = (NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32]));
        copier.heard(&proof(&neighbour, 4, 8));
        let prepared = proof(&own, 5, 1);
        assert!(copier.proof(prepared.clone(), &own, NETWORK).is_none());
        let sent = copier.proof(prepared, &own, NETWORK).unwrap();
        assert_eq!(sent.open::<Proof>(NETWORK).unwrap().value.body.bytes[0], 8);
    }
}
