//! What the coordinator is told of this node: first on each connection, and again when the kinds of
//! work that it offers change while it runs.

use std::sync::{Arc, Mutex};

use openledger_swarm::LinkError;
use openledger_wire::identity::Registration;
use openledger_wire::link::{LINK_VERSION, LinkRequest, LinkResponse};
use openledger_wire::{Envelope, List, NetworkId};

use super::machine::Machine;
use super::{Enrolment, lock};

/// This node's registration in one network, with the kinds that it offers at the moment.
pub(crate) struct Introduction {
    machine: Arc<Machine>,
    network: NetworkId,
    /// All of it but the kinds.
    registration: Registration,
    last: Mutex<Said>,
}

/// What was said last.
struct Said {
    /// Kinds that the coordinator should know by now; none where it may have missed them.
    kinds: Option<Vec<u8>>,
    registration: Envelope,
}

impl Introduction {
    /// An introduction with what is offered now.
    ///
    /// # Errors
    /// A registration that does not encode.
    pub(super) fn new(
        machine: &Arc<Machine>,
        network: NetworkId,
        registration: Registration,
    ) -> Result<Self, LinkError> {
        let kinds = machine.kinds();
        let sealed = seal(machine, network, &registration, &kinds)?;
        let last = Mutex::new(Said { kinds: Some(kinds), registration: sealed });
        Ok(Self { machine: Arc::clone(machine), network, registration, last })
    }

    /// The greeting with what is offered now; the coordinator is taken to know it from here on.
    pub(super) fn hello(&self) -> LinkRequest {
        let kinds = self.machine.kinds();
        let mut last = lock(&self.last);
        if last.kinds.as_ref() != Some(&kinds) {
            match seal(&self.machine, self.network, &self.registration, &kinds) {
                Ok(registration) => *last = Said { kinds: Some(kinds), registration },
                // The one before is still this node's, and better than none.
                Err(error) => tracing::error!("failed to {error}"),
            }
        }
        LinkRequest::Hello { version: LINK_VERSION, registration: last.registration.clone() }
    }

    /// Whether the coordinator does not know what is offered now.
    fn is_stale(&self) -> bool {
        lock(&self.last).kinds.as_ref() != Some(&self.machine.kinds())
    }

    /// The last greeting may not have arrived.
    fn missed(&self) {
        lock(&self.last).kinds = None;
    }
}

fn seal(
    machine: &Machine,
    network: NetworkId,
    registration: &Registration,
    kinds: &[u8],
) -> Result<Envelope, LinkError> {
    let kinds = List::new(kinds).unwrap_or_default();
    let registration = Registration { kinds, ..registration.clone() };
    Ok(Envelope::seal(&registration, network, &machine.key)?)
}

impl Enrolment {
    /// Greets the coordinator again if it is connected and does not know what is offered now. What
    /// fails here comes again with the next connection or the next sync.
    pub(crate) async fn introduce(&self) {
        let is_connected =
            self.link.as_ref().is_some_and(openledger_swarm::LinkClient::is_connected);
        if !is_connected || !self.introduction.is_stale() {
            return;
        }
        let (network, kinds) = (self.network.name(), self.machine.kind_names().join(", "));
        match self.ask(&self.introduction.hello()).await {
            Ok(LinkResponse::Welcome { .. }) => {
                tracing::info!(network, kinds, "what this node offers has changed");
            }
            Ok(LinkResponse::Refused { code, message, .. }) => {
                tracing::warn!(
                    network,
                    "the coordinator refused what is offered ({code}): {message}"
                );
                self.introduction.missed();
            }
            Ok(_) => self.introduction.missed(),
            Err(error) => {
                tracing::debug!("the coordinator was not told of {kinds}: {error}");
                self.introduction.missed();
            }
        }
    }

    /// Tells the coordinator soon after what is offered has changed; ends with the network.
    pub(crate) async fn keep_introduced(self: Arc<Self>) {
        let mut changes = self.machine.models.changes();
        // The sender lives as long as the node.
        while changes.changed().await.is_ok() {
            self.introduce().await;
        }
    }
}
