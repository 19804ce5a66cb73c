//! The coordinator of a world: feeds its machine, keeps what must last, dies and comes back.

use std::sync::Arc;

use anyhow::Result;
use openledger_rules::beacon::stub_value;
use openledger_rules::bundle::named_proofs;
use openledger_rules::{Bundle, Event, Keep, Logged, Machine, Outcome};
use openledger_wire::log::{Beacon, BeaconProof, Entry, Line};
use openledger_wire::{Blob, ProofId, UnixMs, limits};

use super::{ExactJudge, Happening, World};

impl World {
    pub(super) fn tick(&mut self) -> Result<()> {
        self.later(200, Happening::Tick);
        if self.network.chance(self.config.crash_permille / 5) {
            self.crash()?;
        }
        self.feed(Event::Tick)?;
        while let Some((round, _)) = self.machine.wants_beacon() {
            let value = stub_value(self.setup.network, round);
            self.feed(Event::Beacon(Beacon { round, value, proof: BeaconProof::Stub }))?;
        }
        Ok(())
    }

    /// The coordinator dies and comes back from what was durable.
    fn crash(&mut self) -> Result<()> {
        self.crashes += 1;
        let proofs = &self.durable.proofs;
        let lookup = |id: &ProofId| proofs.get(id).cloned();
        let mut entries = self.durable.entries.iter().cloned();
        self.machine =
            Machine::restore(self.setup.clone(), Arc::new(ExactJudge), &mut entries, &lookup)?;
        let kept: Vec<Event> = self
            .durable
            .commits
            .iter()
            .cloned()
            .map(Event::Commit)
            .chain(self.durable.proofs.values().cloned().map(Event::Proof))
            .collect();
        for event in kept {
            // Statements about tasks that are over are refused, as they should be.
            let _over = self.machine.handle(UnixMs(self.now), event);
        }
        for node in 0..self.nodes.len() {
            self.send(Happening::Sync(node));
        }
        Ok(())
    }

    pub(super) fn feed(&mut self, event: Event) -> Result<bool> {
        match self.machine.handle(UnixMs(self.now), event) {
            Ok(outcome) => {
                self.keep(&outcome);
                self.tell(&outcome.logged)?;
                Ok(true)
            }
            Err(refusal) => {
                self.history.update(refusal.code.as_bytes());
                Ok(false)
            }
        }
    }

    pub(super) fn keep(&mut self, outcome: &Outcome) {
        for logged in &outcome.logged {
            self.history.update(&logged.head.0);
            self.durable.entries.push(logged.bytes.clone());
        }
        for keep in &outcome.keep {
            match keep {
                Keep::Commit(envelope) => self.durable.commits.push(envelope.clone()),
                Keep::Proof(id, envelope) => {
                    self.durable.proofs.insert(*id, envelope.clone());
                }
            }
        }
    }

    fn tell(&mut self, logged: &[Logged]) -> Result<()> {
        for logged in logged {
            match &logged.entry.line {
                Line::Leases(leases) => {
                    for lease in &leases.rows {
                        self.lease(*lease, leases.round)?;
                    }
                }
                Line::Closed(closed) => {
                    for set in &closed.sets {
                        for (node, _) in &set.commits {
                            let Some(node) = self.index.get(node).copied() else { continue };
                            let (task, wave) = (set.task, set.wave);
                            self.send(Happening::Proof { node, task, wave });
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Log entries so far.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        Ok(self.durable.entries.iter().map(|b| Entry::from_bytes(b)).collect::<Result<_, _>>()?)
    }

    /// The bundles of all closed epochs, as the coordinator publishes them.
    pub fn bundles(&self) -> Result<Vec<Bundle>> {
        let mut bundles = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        for entry in self.entries()? {
            let close = match &entry.line {
                Line::Epoch(close) => Some(close.epoch),
                _ => None,
            };
            entries.push(entry);
            if let Some(epoch) = close {
                let ids = named_proofs(&entries);
                let proofs = ids.iter().filter_map(|id| self.durable.proofs.get(id).cloned());
                let proofs = proofs.collect();
                let bytes =
                    entries.iter().map(|e| Ok(Blob::<{ limits::LINE_MAX }>::new(e.to_bytes()?)?));
                let bytes = bytes.collect::<Result<Vec<_>>>()?;
                bundles.push(Bundle { epoch, entries: bytes, proofs });
                entries.clear();
            }
        }
        Ok(bundles)
    }
}
