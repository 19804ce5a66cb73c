//! Jobs: one lease from "work" to a promise, or to a reason why not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openledger_outbox::{Event, Finished, Key, Stage};
use openledger_wire::link::LeasedTask;
use openledger_wire::task::TaskKind;
use openledger_wire::{Commitment, SecretNonce};

use super::{Enrolment, Mode, lock};
use crate::limits;
use crate::tasks::{LATE, Output, WorkError, verify_assignment};
use crate::time;
use crate::worker::CallError;

/// Takes the lease out of hand when the job ends, however it ends.
struct InHand {
    of: Arc<Enrolment>,
    key: Key,
}

impl Drop for InHand {
    fn drop(&mut self) {
        lock(&self.of.in_hand).remove(&self.key);
    }
}

impl Enrolment {
    /// Begins a job for a lease, unless there is one.
    pub(crate) fn begin(self: &Arc<Self>, leased: LeasedTask) {
        let key = Key { task: leased.lease.task, wave: leased.lease.wave };
        {
            let mut in_hand = lock(&self.in_hand);
            if !in_hand.insert(key) {
                return;
            }
        }
        let hand = InHand { of: Arc::clone(self), key };
        let own = Arc::clone(self);
        tokio::spawn(async move {
            let waiting = lock(&own.in_hand).len();
            let events = if waiting > own.machine.waiting_max {
                vec![Event::Declined(format!("{waiting} leases are in hand already"))]
            } else {
                tokio::select! {
                    events = own.job(key, &leased) => events,
                    () = own.stop.cancelled() => Vec::new(),
                }
            };
            drop(hand);
            own.events(events.into_iter().map(|event| (key, event)).collect()).await;
        });
    }

    /// Does a lease; gives what happened to it.
    async fn job(self: &Arc<Self>, key: Key, leased: &LeasedTask) -> Vec<Event> {
        if let Some(reason) = self.unwanted(leased) {
            return vec![Event::Declined(reason)];
        }
        let kind = leased.spec.kind;
        let (queue, slots) = (self.queues.of(kind), self.machine.slots.of(kind));
        let deadline = leased.lease.deadline;
        let time_left =
            || time::left(time::now(), deadline).saturating_sub(limits::DEADLINE_MARGIN);
        // In the queue for the workers stand as few of each network as can be at work, so that
        // networks take turns however many leases one of them has.
        let worker = async { Some((queue.acquire().await.ok()?, slots.acquire().await.ok()?)) };
        let permits = tokio::select! {
            permits = worker => permits,
            () = tokio::time::sleep(time_left()) => {
                return vec![Event::Declined("no worker was free in time".to_owned())];
            }
            reason = self.turned_off() => return vec![Event::Declined(reason)],
        };
        let Some(_permits) = permits else { return Vec::new() };
        let started = self
            .outbox(move |outbox| {
                let handled = outbox.events(time::now(), &[(key, Event::Started)])?;
                let entry = outbox.get(key)?;
                Ok((handled, entry.is_some_and(|entry| entry.work.stage == Stage::Working)))
            })
            .await;
        match started {
            Ok((_, true)) => {}
            Ok((handled, false)) => {
                self.handle(Ok(handled));
                return Vec::new();
            }
            Err(error) => {
                self.outbox_failed(&error);
                return Vec::new();
            }
        }
        match self.work_on(key, leased, time_left()).await {
            Ok(output) => {
                self.promise(key, leased, output).await;
                Vec::new()
            }
            Err(error) => self.failed(key, &error, time_left()).await,
        }
    }

    /// Runs the work, alone if this input is suspected of killing workers.
    async fn work_on(
        &self,
        key: Key,
        leased: &LeasedTask,
        time_left: Duration,
    ) -> Result<Output, WorkError> {
        let work = async {
            if lock(&self.suspects).contains(&key) {
                let _alone = self.machine.alone.write().await;
                self.bench.work(leased, time::now, time_left).await
            } else {
                let _shared = self.machine.alone.read().await;
                self.bench.work(leased, time::now, time_left).await
            }
        };
        match tokio::time::timeout(time_left, work).await {
            Ok(result) => result,
            Err(_) => Err(WorkError::Declined(LATE.to_owned())),
        }
    }

    /// Why the lease is not even begun.
    fn unwanted(&self, leased: &LeasedTask) -> Option<String> {
        let network = self.network.profile.network();
        if let Err(error) = verify_assignment(leased, network, self.id(), time::now()) {
            return Some(error.to_string());
        }
        let kind = leased.spec.kind;
        if !self.machine.kinds().contains(&kind.code()) {
            return Some(format!("the owner of this node does not offer {} tasks", kind.name()));
        }
        if let Some(reason) = lock(&self.machine.no_room).clone() {
            return Some(reason);
        }
        let disk = self.machine.disk_bytes.load(Ordering::Relaxed);
        if kind == TaskKind::Fetch && disk >= self.machine.disk_bytes_max {
            return Some(format!(
                "the disk that the owner gives is used up ({} of {} MiB)",
                disk >> 20,
                self.machine.disk_bytes_max >> 20
            ));
        }
        match self.mode() {
            Mode::Running => None,
            mode => Some(format!("the node is {}", mode.name())),
        }
    }

    /// Waits until the node takes no new work; gives the reason.
    async fn turned_off(&self) -> String {
        let mut mode = self.mode.subscribe();
        let changed = mode.wait_for(|mode| *mode != Mode::Running).await.map(|mode| *mode);
        // The sender lives as long as the node, so this does not fail.
        format!("the node is {}", changed.unwrap_or(Mode::Stopping).name())
    }

    /// What follows from work that gave no output.
    async fn failed(&self, key: Key, error: &WorkError, time_left: Duration) -> Vec<Event> {
        tracing::info!(lease = %key, "work gave no output: {error}");
        if let Some(alone) = error.crash() {
            lock(&self.suspects).insert(key);
            return vec![if alone { Event::Crashed } else { Event::Retry }];
        }
        let wait = limits::RETRY_WAIT;
        if error.is_retryable() && time_left > wait.saturating_mul(3) {
            tokio::time::sleep(wait).await;
            return vec![Event::Retry];
        }
        let late = matches!(error, WorkError::Worker(CallError::TimedOut { .. }));
        let why = if late { LATE.to_owned() } else { error.to_string() };
        vec![Event::Declined(why)]
    }

    /// Promises an output: durable first, then sent.
    async fn promise(self: &Arc<Self>, key: Key, leased: &LeasedTask, output: Output) {
        lock(&self.suspects).remove(&key);
        let mut nonce = SecretNonce::ZERO;
        if let Err(error) = getrandom::fill(&mut nonce.0) {
            self.machine.fail(format!("draw a secret nonce: {error}"));
            return;
        }
        let honest = Commitment::new(&key.task, &self.id(), &nonce, &output.body.output_root());
        let commitment = Some(self.bench.conduct.commitment(honest, leased));
        let finished = Finished { key, input: output.input, body: output.body, nonce, commitment };
        let handled = self.outbox(move |outbox| outbox.finish(time::now(), &finished)).await;
        self.handle(handled);
    }
}
