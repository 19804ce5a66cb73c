//! The coordinator as a machine: events and time in, log entries out.
//!
//! [`Machine::handle`] decides what to say next and applies it to the state at once; the shell
//! makes entries and kept statements durable *before* it acknowledges anything or tells a node.
//! Restarted from its log and its kept statements, it goes on as if nothing had happened.

mod inbox;
mod lines;

use std::sync::Arc;

use openledger_wire::identity::{open_binding, open_registration};
use openledger_wire::log::{Beacon, Entry, Join, Leases, Line, Posted, TaskBatch, Whereabouts};
use openledger_wire::task::{Campaign, TaskSpec};
use openledger_wire::{
    Envelope, EnvelopeError, List, LogHead, NodeId, ProofId, Round, TaskId, UnixMs, limits,
};

use self::inbox::Inbox;
pub use self::lines::{ReceiptPath, receipts_of, verdicts_of};
use crate::params::Setup;
use crate::state::{ApplyError, Evidence, Judge, State};

/// What happens to a coordinator.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node connected.
    Hello {
        /// Its signed registration.
        registration: Envelope,
        /// Where its link comes from.
        whereabouts: Whereabouts,
    },
    /// A campaign was funded.
    Campaign(Campaign),
    /// Tasks of known campaigns.
    Tasks(Vec<TaskSpec>),
    /// A signed commit.
    Commit(Envelope),
    /// A signed proof.
    Proof(Envelope),
    /// A node gives a lease back.
    Decline {
        /// Who.
        node: NodeId,
        /// Which task.
        task: TaskId,
        /// Which wave.
        wave: u8,
    },
    /// An owner binds a payout address.
    Bind(Envelope),
    /// An owner revokes a node.
    Revoke(Envelope),
    /// Time passed.
    Tick,
    /// The beacon of the sealed round.
    Beacon(Beacon),
    /// An epoch's root is on chain.
    Posted(Posted),
}

/// An entry that was applied and must be made durable.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The entry.
    pub entry: Entry,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// The head after it.
    pub head: LogHead,
}

/// A statement that must be durable before it is acknowledged.
#[derive(Clone, Debug)]
pub enum Keep {
    /// A commit that is not in a closed set yet.
    Commit(Envelope),
    /// A proof.
    Proof(ProofId, Envelope),
}

/// What an event led to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// New entries, in order.
    pub logged: Vec<Logged>,
    /// What to keep with them.
    pub keep: Vec<Keep>,
    /// The item was already known; nothing changed.
    pub known: bool,
}

/// Why an event was refused; the state is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable code.
    pub code: &'static str,
    /// What was wrong and what to do.
    pub message: String,
    /// Worth trying again after this many milliseconds.
    pub retry_after_ms: Option<u32>,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }
}

impl From<EnvelopeError> for Refusal {
    fn from(error: EnvelopeError) -> Self {
        let code = match &error {
            EnvelopeError::OtherNetwork { .. } => "other-network",
            EnvelopeError::OtherDomain { .. } => "other-kind",
            EnvelopeError::UnknownVersion { .. } => "unknown-version",
            EnvelopeError::Signature { .. } => "bad-signature",
            _ => "malformed",
        };
        Self::new(code, error.to_string())
    }
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        Self::new("not-allowed", error.to_string())
    }
}

/// The coordinator.
pub struct Machine {
    state: State,
    judge: Arc<dyn Judge>,
    inbox: Inbox,
    outage: Outage,
}

/// After a restart, nodes get back the time that the coordinator was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// The machine never stopped, or made up for it.
    None,
    /// Restored; the next tick tells how long it was away.
    Unknown,
    /// Deadlines are not held against anybody before this.
    Until(UnixMs),
}

/// Nothing is looked up while new entries are made: their proofs are in the inbox.
fn no_evidence(_: &ProofId) -> Option<Envelope> {
    None
}

impl Machine {
    /// Starts a fresh log with its genesis.
    pub fn start(
        setup: Setup,
        judge: Arc<dyn Judge>,
        now: UnixMs,
    ) -> Result<(Self, Outcome), ApplyError> {
        let mut machine =
            Self { state: State::new(setup), judge, inbox: Inbox::default(), outage: Outage::None };
        let genesis = machine.state.genesis()?;
        let mut outcome = Outcome::default();
        machine.say(now, Line::Genesis(genesis), &no_evidence, &mut outcome)?;
        Ok((machine, outcome))
    }

    /// Replays a log. Kept commits and proofs are fed through [`Machine::handle`] afterwards.
    pub fn restore(
        setup: Setup,
        judge: Arc<dyn Judge>,
        entries: &mut dyn Iterator<Item = Vec<u8>>,
        proofs: &dyn Fn(&ProofId) -> Option<Envelope>,
    ) -> Result<Self, ApplyError> {
        let mut state = State::new(setup);
        for bytes in entries {
            state.apply(&Entry::from_bytes(&bytes)?, judge.as_ref(), &proofs)?;
        }
        Ok(Self { state, judge, inbox: Inbox::default(), outage: Outage::Unknown })
    }

    /// The state after all that was said.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The sealed round that waits for its beacon, and when it was sealed: the beacon must be the
    /// first public one after that.
    #[must_use]
    pub fn wants_beacon(&self) -> Option<(Round, UnixMs)> {
        self.state.wants_beacon()
    }

    /// Whether deadlines are suspended at `now`.
    fn in_grace(&self, now: UnixMs) -> bool {
        match self.outage {
            Outage::None => false,
            Outage::Unknown => true,
            Outage::Until(end) => now < end,
        }
    }

    /// Notes how long the machine was away: since its last entry, and at most one lease.
    fn note_outage(&mut self, now: UnixMs) {
        if self.outage == Outage::Unknown {
            let away_ms = now.0.saturating_sub(self.state.at().0);
            let lease_ms = self.state.setup().rules.lease_ms;
            self.outage = Outage::Until(now.plus_ms(away_ms.min(lease_ms)));
        }
    }

    /// Takes an event in.
    pub fn handle(&mut self, now: UnixMs, event: Event) -> Result<Outcome, Refusal> {
        // The log's clock never runs backwards, whatever the machine's does.
        let now = now.max(self.state.at());
        let mut outcome = Outcome::default();
        match event {
            Event::Hello { registration, whereabouts } => {
                self.hello(now, registration, whereabouts, &mut outcome)?;
            }
            Event::Campaign(campaign) => self.campaign(now, campaign, &mut outcome)?,
            Event::Tasks(tasks) => self.tasks(now, tasks, &mut outcome)?,
            Event::Commit(envelope) => self.take_commit(now, envelope, &mut outcome)?,
            Event::Proof(envelope) => self.take_proof(envelope, &mut outcome)?,
            Event::Decline { node, task, wave } => self.inbox.decline(node, task, wave),
            Event::Bind(envelope) => self.bind(now, envelope, &mut outcome)?,
            Event::Revoke(envelope) => {
                self.say(now, Line::Revoke(envelope), &no_evidence, &mut outcome)?;
            }
            Event::Tick => self.tick(now, &mut outcome)?,
            Event::Beacon(beacon) => self.beacon(now, beacon, &mut outcome)?,
            Event::Posted(posted) if self.state.is_posted(posted.epoch) => outcome.known = true,
            Event::Posted(posted) => {
                self.say(now, Line::Posted(posted), &no_evidence, &mut outcome)?;
            }
        }
        Ok(outcome)
    }

    /// Logs a line: applies it, so that a line which the rules refuse is never said.
    fn say(
        &mut self,
        now: UnixMs,
        line: Line,
        evidence: &dyn Evidence,
        outcome: &mut Outcome,
    ) -> Result<(), ApplyError> {
        let (height, previous) = (self.state.next_height(), self.state.head());
        let entry = Entry { height, previous, at: now, line };
        let bytes = entry.to_bytes()?;
        self.state.apply(&entry, self.judge.as_ref(), evidence)?;
        outcome.logged.push(Logged { entry, bytes, head: self.state.head() });
        Ok(())
    }

    fn hello(
        &mut self,
        now: UnixMs,
        registration: Envelope,
        whereabouts: Whereabouts,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        let network = self.state.setup().network;
        let member = open_registration(&registration, network, now)
            .map_err(|e| Refusal::new("bad-registration", e.to_string()))?;
        let weight_min = self.state.setup().rules.weight_min_milli;
        let unchanged = self.state.node(&member.node).is_some_and(|known| {
            known.member == member
                && known.whereabouts == whereabouts
                && known.weight_milli >= weight_min
        });
        if unchanged {
            outcome.known = true;
            return Ok(());
        }
        self.say(now, Line::Join(Join { registration, whereabouts }), &no_evidence, outcome)?;
        Ok(())
    }

    /// Binds an address to an account that has a node; the same binding again changes nothing.
    fn bind(
        &mut self,
        now: UnixMs,
        envelope: Envelope,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        let setup = self.state.setup();
        let binding = open_binding(&envelope, setup.network, &setup.domain)
            .map_err(|e| Refusal::new("bad-binding", e.to_string()))?;
        let Some(account) = self.state.account(&binding.typed.account) else {
            let message =
                "take a payout binding: no node of this account has joined; start one first";
            return Err(Refusal::new("unknown-account", message));
        };
        let pending = account.payout_pending.map(|(_, payout)| payout);
        let bound = [account.payout, pending].contains(&Some(binding.typed.payout));
        if bound && account.payout_nonce == binding.typed.nonce {
            outcome.known = true;
            return Ok(());
        }
        self.say(now, Line::Bind(envelope), &no_evidence, outcome)?;
        Ok(())
    }

    fn campaign(
        &mut self,
        now: UnixMs,
        campaign: Campaign,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        let id = campaign
            .id(self.state.setup().network)
            .map_err(|e| Refusal::new("malformed", e.to_string()))?;
        if self.state.campaigns().any(|(known, _)| *known == id) {
            outcome.known = true;
            return Ok(());
        }
        self.say(now, Line::Campaign(campaign), &no_evidence, outcome)?;
        Ok(())
    }

    fn tasks(
        &mut self,
        now: UnixMs,
        tasks: Vec<TaskSpec>,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        let network = self.state.setup().network;
        let mut fresh = std::collections::BTreeSet::new();
        let new: Vec<TaskSpec> = tasks
            .into_iter()
            .filter(|spec| {
                let id = spec.id(network).ok();
                id.is_some_and(|id| self.state.task(&id).is_none() && fresh.insert(id))
            })
            .collect();
        outcome.known = new.is_empty();
        // All or nothing: what one batch has logged, a refusal of the next could not take back.
        if let Some((spec, why)) = new.iter().find_map(|s| Some((s, self.state.task_fault(s)?))) {
            let kind = spec.kind.name();
            return Err(Refusal::new(
                "not-allowed",
                format!("take {kind} tasks: {why}; see the rule set"),
            ));
        }
        for chunk in new.chunks(limits::BATCH_TASKS_MAX) {
            let tasks = List::new(chunk.to_vec()).unwrap_or_default();
            self.say(now, Line::Tasks(TaskBatch { tasks }), &no_evidence, outcome)?;
        }
        Ok(())
    }

    /// What time itself brings: receipts, closed sets, verdicts, seals and closes, in an order in
    /// which each can build on the one before.
    fn tick(&mut self, now: UnixMs, outcome: &mut Outcome) -> Result<(), Refusal> {
        self.note_outage(now);
        self.close_sets(now, outcome)?;
        self.give_receipts(now, outcome)?;
        self.give_verdicts(now, outcome)?;
        let derived = self.state.derived().to_vec();
        if !derived.is_empty() {
            self.tasks(now, derived, outcome)?;
        }
        self.close_epochs(now, outcome)?;
        self.seal_round(now, outcome)?;
        outcome.known = false;
        Ok(())
    }

    fn seal_round(&mut self, now: UnixMs, outcome: &mut Outcome) -> Result<(), ApplyError> {
        let round = self.state.round(now);
        let due = self.state.last_round().is_none_or(|last| round > last);
        if !due || self.in_grace(now) || self.state.is_sealed() || self.state.tasks_open() == 0 {
            return Ok(());
        }
        let (seal, _) = self.state.seal(round, now, self.judge.as_ref());
        if seal.open_tasks == 0 || seal.nodes == 0 {
            return Ok(());
        }
        self.say(now, Line::Round(seal), &no_evidence, outcome)
    }

    fn beacon(
        &mut self,
        now: UnixMs,
        beacon: Beacon,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        if self.wants_beacon().is_none_or(|(round, _)| round != beacon.round) {
            outcome.known = true;
            return Ok(());
        }
        let round = beacon.round;
        self.say(now, Line::Beacon(beacon), &no_evidence, outcome)?;
        let rows = self.state.due_leases(now).unwrap_or_default();
        let rows = List::new(rows).map_err(|e| Refusal::new("too-many-leases", e.to_string()))?;
        self.say(now, Line::Leases(Leases { round, rows }), &no_evidence, outcome)?;
        Ok(())
    }
}
