//! The life of one lease as a pure state machine.
//!
//! Two rules are kept here whatever the events say: a promise once made never changes (one
//! commitment per task and wave), and a proof leaves only against a closed set that holds it.

use openledger_wire::UnixMs;
use openledger_wire::link::{ClosedNotice, SignedVerdict};

use crate::check::{CheckError, Judge};
use crate::event::{Effect, Event, Refusal};
use crate::limits;
use crate::record::{Stage, Work};

impl Work {
    /// Applies one event and says what is to be done.
    ///
    /// # Errors
    /// [`Refusal`] where the event does not fit or is not believed; the record is then unchanged,
    /// except that a closed set without the node's commitment ends the lease as withheld.
    pub fn apply(
        &mut self,
        judge: &Judge,
        now: UnixMs,
        event: Event,
    ) -> Result<Vec<Effect>, Refusal> {
        match event {
            Event::Started => self.started(now),
            Event::Crashed => self.crashed(now),
            Event::Retry => self.retry(now),
            Event::Declined(why) => self.declined(now, &why),
            Event::Promised(promise) => {
                if self.promise.is_some() {
                    return Ok(self.resume(now));
                }
                self.expect_open("a finished output")?;
                self.promise = Some(*promise);
                self.reach(Stage::Committed, now);
                Ok(vec![Effect::SendCommit])
            }
            Event::CommitHeld => {
                if let Some(promise) = &mut self.promise {
                    promise.commit_held = true;
                }
                Ok(Vec::new())
            }
            Event::CommitRefused(why) => {
                if self.stage == Stage::Committed {
                    self.end(Stage::Refused, now, &format!("commitment refused: {why}"));
                }
                Ok(Vec::new())
            }
            Event::Closed(notice) => self.closed(judge, now, &notice),
            Event::ProofHeld => {
                if let Some(promise) = &mut self.promise {
                    promise.proof_held = true;
                }
                if self.stage == Stage::Closed {
                    self.reach(Stage::Sent, now);
                }
                Ok(Vec::new())
            }
            Event::ProofRefused(why) => {
                if matches!(self.stage, Stage::Closed | Stage::Sent) {
                    self.end(Stage::Refused, now, &format!("proof refused: {why}"));
                }
                Ok(Vec::new())
            }
            Event::ProofUnknown => Ok(self.forgotten()),
            Event::Receipt(receipt) => {
                if self.receipt.is_none() {
                    self.receipt = Some(*receipt);
                }
                if matches!(
                    self.stage,
                    Stage::Committed | Stage::Closed | Stage::Sent | Stage::Refused
                ) {
                    self.why = Default::default();
                    self.reach(Stage::Receipted, now);
                }
                Ok(Vec::new())
            }
            Event::Verdict(verdict) => self.judged(now, *verdict),
            Event::EpochClosed { epoch, vested } => {
                let due = self.epoch().is_some_and(|own| own <= epoch);
                if due && self.stage == Stage::Judged {
                    self.reach(Stage::Counted, now);
                }
                if due && vested && self.stage == Stage::Counted && self.is_accepted() {
                    self.reach(Stage::Vested, now);
                }
                Ok(Vec::new())
            }
            Event::Claimed => {
                if self.stage == Stage::Vested {
                    self.reach(Stage::Paid, now);
                }
                Ok(Vec::new())
            }
            Event::Tick => {
                if self.stage.is_open() && self.deadline <= now {
                    let why = "not done before its deadline; leaving is free before a commitment";
                    self.end(Stage::Expired, now, why);
                }
                Ok(Vec::new())
            }
        }
    }

    /// What is to be done about this lease after a restart or a new connection.
    #[must_use]
    pub fn resume(&self, now: UnixMs) -> Vec<Effect> {
        let Some(promise) = &self.promise else {
            return match self.stage {
                Stage::Leased | Stage::Working if now < self.deadline => vec![Effect::Work],
                _ => Vec::new(),
            };
        };
        match self.stage {
            Stage::Committed if !promise.commit_held => vec![Effect::SendCommit],
            Stage::Closed if !promise.proof_held => vec![Effect::SendProof],
            _ => Vec::new(),
        }
    }

    /// Whether the node still waits for the coordinator's word on its proof.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        matches!(self.stage, Stage::Committed | Stage::Closed | Stage::Sent | Stage::Receipted)
    }

    fn started(&mut self, now: UnixMs) -> Result<Vec<Effect>, Refusal> {
        self.expect_open("work")?;
        if self.attempts >= limits::ATTEMPTS_MAX {
            let why = format!("given back after {} attempts that did not end", self.attempts);
            return self.declined(now, &why);
        }
        self.attempts += 1;
        self.reach(Stage::Working, now);
        Ok(Vec::new())
    }

    fn crashed(&mut self, now: UnixMs) -> Result<Vec<Effect>, Refusal> {
        self.expect_open("a crash")?;
        self.crashes = self.crashes.saturating_add(1);
        if self.crashes >= limits::CRASHES_MAX {
            let why = format!(
                "quarantined: a worker process died of this input {} times, so it is given back",
                self.crashes
            );
            return self.declined(now, &why);
        }
        self.reach(Stage::Leased, now);
        Ok(vec![Effect::Work])
    }

    fn retry(&mut self, now: UnixMs) -> Result<Vec<Effect>, Refusal> {
        self.expect_open("another attempt")?;
        self.reach(Stage::Leased, now);
        Ok(vec![Effect::Work])
    }

    fn declined(&mut self, now: UnixMs, why: &str) -> Result<Vec<Effect>, Refusal> {
        if self.stage != Stage::Declined {
            self.expect_open("giving back")?;
            self.end(Stage::Declined, now, why);
        }
        Ok(vec![Effect::Decline])
    }

    fn closed(
        &mut self,
        judge: &Judge,
        now: UnixMs,
        notice: &ClosedNotice,
    ) -> Result<Vec<Effect>, Refusal> {
        let Some(promise) = &self.promise else {
            if self.stage.is_open() && notice.set.absent.contains(&judge.node) {
                self.end(Stage::Expired, now, "the set was closed before this node committed");
            }
            return Err(Refusal::OutOfOrder { event: "a closed set", stage: self.stage });
        };
        if let Err(error) = judge.closed(notice, &promise.commitment) {
            if self.stage == Stage::Committed {
                let stage =
                    if error == CheckError::Absent { Stage::Expired } else { Stage::Withheld };
                self.end(stage, now, &error.to_string());
            }
            return Err(error.into());
        }
        self.closed = Some(notice.height);
        if matches!(self.stage, Stage::Committed | Stage::Withheld | Stage::Expired) {
            if let Some(promise) = &mut self.promise {
                promise.commit_held = true;
            }
            self.why = Default::default();
            self.reach(Stage::Closed, now);
        }
        let due = matches!(self.stage, Stage::Closed | Stage::Sent);
        Ok(if due { vec![Effect::SendProof] } else { Vec::new() })
    }

    fn judged(&mut self, now: UnixMs, verdict: SignedVerdict) -> Result<Vec<Effect>, Refusal> {
        if verdict.row.task != self.task {
            return Err(CheckError::OtherSubject.into());
        }
        let newer = |known: &SignedVerdict| known.batch.number < verdict.batch.number;
        if !self.verdict.as_ref().is_none_or(newer) {
            return Ok(Vec::new());
        }
        self.verdict = Some(verdict);
        self.why = Default::default();
        // A verdict that is overturned later takes back what had followed from it.
        let settled = matches!(self.stage, Stage::Counted | Stage::Vested | Stage::Paid);
        if !(settled && self.is_accepted()) {
            self.reach(Stage::Judged, now);
        }
        // Gossip needs a proof that was revealed; a verdict about one that was not stays here.
        Ok(if self.closed.is_some() { vec![Effect::GossipProof] } else { Vec::new() })
    }

    /// The coordinator lost, or never had, what the node believes it sent.
    fn forgotten(&mut self) -> Vec<Effect> {
        match self.stage {
            Stage::Committed => vec![Effect::SendCommit],
            Stage::Closed | Stage::Sent | Stage::Receipted => vec![Effect::SendProof],
            _ => Vec::new(),
        }
    }

    fn expect_open(&self, event: &'static str) -> Result<(), Refusal> {
        if self.stage.is_open() {
            Ok(())
        } else {
            Err(Refusal::OutOfOrder { event, stage: self.stage })
        }
    }
}
