//! The loop of the core.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openledger_ledger::{Batch, Ledger};
use openledger_rules::{Event, Machine, Outcome, State};
use openledger_wire::gossip::Holder;
use openledger_wire::link::LeasedTask;
use openledger_wire::log::{Lease, Line, Role};
use openledger_wire::task::{RefineTask, TaskKind, TaskSpec};
use openledger_wire::{List, NodeId, Round, UnixMs, decode};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{Accepted, Answer, Command, CoreError, Durable, Look, store};
use crate::beacon::BeaconClient;
use crate::clock;
use crate::figures::Figures;
use crate::limits;

pub(super) struct Task {
    pub(super) machine: Machine,
    pub(super) ledger: Arc<dyn Ledger>,
    /// Outcomes that are not durable yet.
    pub(super) pending: Vec<Outcome>,
    figures: Figures,
    durable: broadcast::Sender<Arc<Durable>>,
    beacons: BeaconClient,
    holder: Option<Holder>,
    stop: CancellationToken,
    asked: Option<Round>,
}

/// What the task is made of.
pub(super) struct TaskParts {
    pub(super) machine: Machine,
    pub(super) figures: Figures,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) durable: broadcast::Sender<Arc<Durable>>,
    pub(super) beacons: BeaconClient,
    pub(super) holder: Option<Holder>,
    pub(super) stop: CancellationToken,
}

/// Whom to answer once a batch is durable.
#[derive(Default)]
struct Waiting {
    answers: Vec<(oneshot::Sender<Vec<Answer>>, Vec<Answer>)>,
    looks: Vec<Look>,
    events: usize,
}

impl Task {
    pub(super) fn new(parts: TaskParts) -> Self {
        let TaskParts { machine, figures, ledger, durable, beacons, holder, stop } = parts;
        let pending = Vec::new();
        Self { machine, ledger, pending, figures, durable, beacons, holder, stop, asked: None }
    }

    /// Runs until told to stop; ends with an error when the ledger fails.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) -> Result<(), CoreError> {
        let round_ms = self.machine.state().setup().rules.round_ms;
        let period = tick_period(round_ms);
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (beacon_sender, mut beacons) = mpsc::channel(1);
        let stop = self.stop.clone();
        loop {
            let mut waiting = Waiting::default();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.handle_own(Event::Tick),
                Some(beacon) = beacons.recv() => {
                    self.asked = None;
                    self.handle_own(Event::Beacon(beacon));
                }
                command = queue.recv() => match command {
                    Some(command) => self.take(command, &mut waiting),
                    None => break,
                },
            }
            while waiting.events < limits::BATCH_EVENTS_MAX {
                let Ok(command) = queue.try_recv() else { break };
                self.take(command, &mut waiting);
            }
            if let Err(error) = self.make_durable().await {
                tracing::error!("failed to {error}; nothing more is acknowledged");
                self.stop.cancel();
                return Err(error);
            }
            self.answer(waiting);
            self.ask_for_beacon(&beacon_sender);
        }
        Ok(())
    }

    fn take(&mut self, command: Command, waiting: &mut Waiting) {
        match command {
            Command::Look(look) => waiting.looks.push(look),
            Command::Events(events, reply) => {
                waiting.events = waiting.events.saturating_add(events.len());
                let now = clock::now();
                let answers = events.into_iter().map(|event| self.handle(now, event)).collect();
                waiting.answers.push((reply, answers));
            }
        }
    }

    fn handle(&mut self, now: UnixMs, event: Event) -> Answer {
        let outcome = self.machine.handle(now, event)?;
        let accepted = Accepted { known: outcome.known };
        self.pending.push(outcome);
        Ok(accepted)
    }

    /// An event of our own: a refusal is a fault here or at the beacon's source, not a node's.
    fn handle_own(&mut self, event: Event) {
        if let Err(refusal) = self.handle(clock::now(), event) {
            tracing::error!(code = refusal.code, "failed to go on: {}", refusal.message);
        }
    }

    /// Commits what is pending, then tells listeners.
    pub(super) async fn make_durable(&mut self) -> Result<(), CoreError> {
        let outcomes = std::mem::take(&mut self.pending);
        let network = self.machine.state().setup().network;
        let mut batch = Batch::default();
        outcomes.iter().for_each(|outcome| store::add(&mut batch, outcome, network));
        if batch.is_empty() {
            return Ok(());
        }
        self.ledger.commit(batch).await?;
        let logged: Vec<_> = outcomes.into_iter().flat_map(|outcome| outcome.logged).collect();
        if logged.is_empty() {
            return Ok(());
        }
        for entry in &logged {
            self.figures.note(&entry.entry, network);
        }
        let leases = leases_by_node(self.machine.state(), self.holder.as_ref(), &logged);
        // Nobody may be listening.
        let _ = self.durable.send(Arc::new(Durable { logged, leases }));
        Ok(())
    }

    fn answer(&self, waiting: Waiting) {
        for (reply, answers) in waiting.answers {
            // Who asked may have gone; what it asked for is durable all the same.
            let _ = reply.send(answers);
        }
        for look in waiting.looks {
            look(self.machine.state(), &self.figures);
        }
    }

    /// Starts to fetch the beacon that the sealed round waits for, once.
    fn ask_for_beacon(&mut self, sender: &mpsc::Sender<openledger_wire::log::Beacon>) {
        let Some((round, sealed_at)) = self.machine.wants_beacon() else { return };
        if self.asked == Some(round) {
            return;
        }
        self.asked = Some(round);
        let (client, sender, stop) = (self.beacons.clone(), sender.clone(), self.stop.clone());
        tokio::spawn(async move {
            let fetched = stop.run_until_cancelled(client.fetch(round, sealed_at)).await;
            if let Some(beacon) = fetched {
                // A full channel means that the core has one already; it asks again if not.
                let _ = sender.send(beacon).await;
            }
        });
    }
}

const fn tick_period(round_ms: u64) -> Duration {
    if round_ms < limits::FAST_ROUND_MS { limits::TICK_FAST } else { limits::TICK_SLOW }
}

/// The new leases among these entries, each with what is needed to do it.
fn leases_by_node(
    state: &State,
    own: Option<&Holder>,
    logged: &[openledger_rules::Logged],
) -> BTreeMap<NodeId, Vec<LeasedTask>> {
    let mut by_node: BTreeMap<NodeId, Vec<LeasedTask>> = BTreeMap::new();
    for entry in logged {
        let Line::Leases(leases) = &entry.entry.line else { continue };
        for lease in &leases.rows {
            let Some(task) = state.task(&lease.task) else { continue };
            let leased = leased_task(state, own, *lease, leases.round, &task.spec);
            by_node.entry(lease.node).or_default().push(leased);
        }
    }
    by_node
}

/// A lease with its task and who holds the task's input: the page of a refine task is with those
/// who fetched it, the prompt of an infer task with this coordinator, whose blobs are `own`. Who
/// checks an answer is told its backend class, or its tokens where that class is not the same bits
/// everywhere, and nothing else of it.
pub(crate) fn leased_task(
    state: &State,
    own: Option<&Holder>,
    lease: Lease,
    round: Round,
    spec: &TaskSpec,
) -> LeasedTask {
    let checked = state.task(&lease.task).filter(|_| lease.role == Role::Auditor);
    let asked = checked.and_then(|task| state.check_asked(task));
    let (backend, answer) = asked.map(|asked| (asked.class, asked.answer)).unzip();
    let answer = answer.flatten().map(|(_, tokens)| tokens);
    let holders = holders(state, own, spec);
    LeasedTask { lease, round, spec: spec.clone(), holders, backend, answer }
}

fn holders(state: &State, own: Option<&Holder>, spec: &TaskSpec) -> List<Holder, 8> {
    match spec.kind {
        TaskKind::Refine => page_holders(state, spec),
        TaskKind::Infer => {
            let own: Vec<Holder> = own.into_iter().cloned().collect();
            List::new(own).unwrap_or_default()
        }
        _ => List::default(),
    }
}

fn page_holders(state: &State, spec: &TaskSpec) -> List<Holder, 8> {
    let Ok(body) = decode::<RefineTask>(&spec.body, openledger_wire::limits::TASK_BODY_MAX) else {
        return List::default();
    };
    let holders = state.holders(&body.page).iter().filter_map(|node| {
        let addresses = state.node(node)?.member.registration.blob_addresses.clone();
        Some(Holder { node: *node, addresses })
    });
    List::new(holders.take(8).collect::<Vec<_>>()).unwrap_or_default()
}
