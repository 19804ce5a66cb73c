//! The node as a whole: its machine and all its enrolments.

use std::sync::Arc;

use openledger_outbox::OutboxError;
use openledger_wire::NodeId;
use thiserror::Error;

use super::machine::Machine;
use super::{Enrolment, Mode, Status};

/// One running node.
pub struct Node {
    pub(crate) machine: Arc<Machine>,
    /// In the order in which the networks were named.
    pub(crate) enrolments: Vec<Arc<Enrolment>>,
}

/// A network that this node is not in was asked about.
#[derive(Debug, Error)]
#[error("find network {name:?}: this node is in {joined}; name one of these")]
pub struct NotEnrolled {
    /// The name.
    pub name: String,
    /// The networks that there are.
    pub joined: String,
}

impl Node {
    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.machine.public.node
    }

    /// Names of its networks.
    #[must_use]
    pub fn networks(&self) -> Vec<String> {
        self.enrolments.iter().map(|one| one.network.name().to_owned()).collect()
    }

    /// The enrolment in the network of that name, or all of them.
    ///
    /// # Errors
    /// [`NotEnrolled`].
    pub fn of(&self, network: Option<&str>) -> Result<Vec<Arc<Enrolment>>, NotEnrolled> {
        let Some(name) = network else { return Ok(self.enrolments.clone()) };
        match self.enrolments.iter().find(|one| one.network.name() == name) {
            Some(one) => Ok(vec![Arc::clone(one)]),
            None => {
                let joined = self.networks().join(", ");
                Err(NotEnrolled { name: name.to_owned(), joined })
            }
        }
    }

    /// Stops in all networks.
    pub fn stop(&self) {
        for one in &self.enrolments {
            one.set_mode(Mode::Stopping);
        }
        self.machine.stop.cancel();
    }
}

/// The status in each of these networks.
///
/// # Errors
/// The outbox's.
pub(crate) async fn statuses(enrolments: &[Arc<Enrolment>]) -> Result<Vec<Status>, OutboxError> {
    let mut all = Vec::with_capacity(enrolments.len());
    for one in enrolments {
        all.push(one.status().await?);
    }
    Ok(all)
}
