//! The link's events, and what is done from time to time.

use std::sync::Arc;

use openledger_swarm::LinkEvent;
use openledger_wire::List;
use openledger_wire::link::{LinkPush, LinkRequest, LinkResponse};
use tokio::sync::mpsc;

use super::{Enrolment, Mode};
use crate::identity::Outgoing;
use crate::limits;
use crate::time;

impl Enrolment {
    /// Follows the link until the node ends.
    pub(crate) async fn follow_link(self: Arc<Self>, mut events: mpsc::Receiver<LinkEvent>) {
        while let Some(event) = events.recv().await {
            match event {
                LinkEvent::Connected(welcome) => self.connected(welcome).await,
                LinkEvent::Push(push) => self.pushed(push).await,
                LinkEvent::Disconnected(error) => {
                    let problem = error.to_string();
                    if self.shared().link.problem.as_ref() != Some(&problem) {
                        tracing::warn!(network = self.network.name(), "failed to {problem}");
                    }
                    self.link_changed(false, Some(problem));
                }
                _ => {}
            }
        }
    }

    async fn connected(self: &Arc<Self>, welcome: LinkResponse) {
        if let LinkResponse::Welcome { now, round, epoch, head } = welcome {
            let ahead = i128::from(time::now().0) - i128::from(now.0);
            let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
            self.admission.head_seen(&head);
            {
                let mut shared = self.shared();
                (shared.link.round, shared.link.epoch) = (round, epoch);
                shared.link.height = head.head.height;
                shared.link.clock_ahead_ms = ahead;
            }
            if ahead.unsigned_abs() > limits::CLOCK_SKEW_MS_MAX {
                tracing::warn!(
                    "this machine's clock is {} off from the coordinator's; leases will be missed, set the clock (for instance with NTP)",
                    time::span(ahead.unsigned_abs())
                );
            }
        }
        self.link_changed(true, None);
        let (network, round) = (self.network.name(), self.shared().link.round);
        tracing::info!(network, %round, "connected to the coordinator");
        self.introduce().await;
        self.sync().await;
        self.resume().await;
        self.send_statements().await;
        self.refresh_account();
    }

    async fn pushed(self: &Arc<Self>, push: LinkPush) {
        if let LinkPush::EpochClosed(epoch) = &push {
            {
                let mut shared = self.shared();
                shared.link.epoch = shared.link.epoch.max(epoch.next());
            }
            tracing::info!(network = self.network.name(), %epoch, "an epoch was closed");
            self.refresh_account();
            return;
        }
        let handled = self.outbox(move |outbox| outbox.push(time::now(), &push)).await;
        if let Ok(handled) = &handled
            && handled.points.0 > 0
        {
            let network = self.network.name();
            tracing::info!(network, points = handled.points.0, "work was accepted");
        }
        self.handle(handled);
    }

    /// Asks what concerns this node, in case a push was lost.
    pub(crate) async fn sync(self: &Arc<Self>) {
        let unsettled = match self.outbox(|outbox| outbox.unsettled()).await {
            Ok(unsettled) => unsettled,
            Err(error) => return self.outbox_failed(&error),
        };
        let request = LinkRequest::Sync { unsettled: List::new(unsettled).unwrap_or_default() };
        match self.ask(&request).await {
            Ok(LinkResponse::State(state)) => {
                let handled = self.outbox(move |outbox| outbox.state(time::now(), &state)).await;
                self.handle(handled);
            }
            Ok(LinkResponse::Refused { code, message, .. }) => {
                tracing::debug!("the coordinator refused a sync ({code}): {message}");
            }
            Ok(_) => tracing::debug!("the coordinator answered a sync with something else"),
            Err(error) => tracing::debug!("no sync: {error}"),
        }
    }

    /// Takes up everything that is to be done.
    pub(crate) async fn resume(self: &Arc<Self>) {
        match self.outbox(|outbox| outbox.resume(time::now())).await {
            Ok(actions) => self.act(actions),
            Err(error) => self.outbox_failed(&error),
        }
    }

    /// Sends what the owner signed and the coordinator has not yet.
    pub(crate) async fn send_statements(self: &Arc<Self>) {
        for (path, statement) in self.statements.outgoing() {
            let request = match statement {
                Outgoing::Bind(envelope) => LinkRequest::Bind(envelope),
                Outgoing::Revoke(envelope) => LinkRequest::Revoke(envelope),
            };
            match self.ask(&request).await {
                Ok(LinkResponse::Done) => {
                    let _ = std::fs::remove_file(&path);
                }
                Ok(LinkResponse::Refused { code, message, retry_after_ms }) => {
                    tracing::warn!(
                        "the coordinator refused what the owner signed ({code}): {message}"
                    );
                    if retry_after_ms == 0 {
                        let _ = std::fs::remove_file(&path);
                    }
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Lets time pass: deadlines, lost pushes, new statements, pruning.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        let mut tick = tokio::time::interval(limits::TICK);
        let mut sync = tokio::time::interval(limits::SYNC_EVERY);
        let mut account = tokio::time::interval(limits::ACCOUNT_EVERY);
        let mut prune = tokio::time::interval(limits::PRUNE_EVERY);
        for timer in [&mut tick, &mut sync, &mut account, &mut prune] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        sync.reset();
        account.reset();
        loop {
            tokio::select! {
                _ = tick.tick() => self.every_second().await,
                _ = sync.tick() => {
                    if self.link.as_ref().is_some_and(openledger_swarm::LinkClient::is_connected) {
                        self.introduce().await;
                        self.sync().await;
                        self.resume().await;
                        self.send_statements().await;
                    }
                }
                _ = account.tick() => self.refresh_account(),
                _ = prune.tick() => {
                    let pruned = self.outbox(|outbox| outbox.prune(time::now())).await;
                    if let Err(error) = pruned {
                        self.outbox_failed(&error);
                    }
                }
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn every_second(self: &Arc<Self>) {
        let handled = self.outbox(|outbox| outbox.tick(time::now())).await;
        self.handle(handled);
        if self.mode() == Mode::Finishing {
            let live = self.outbox(|outbox| outbox.live()).await.unwrap_or_default();
            let unfinished = live
                .iter()
                .any(|work| work.is_unsettled() && work.receipt.is_none() || work.stage.is_open());
            if !unfinished {
                tracing::info!("everything that was begun is finished and receipted");
                self.set_mode(Mode::Stopping);
            }
        }
        if self.mode() == Mode::Stopping {
            self.stop.cancel();
        }
    }
}
