//! What is outside of this machine: asked all at once, then judged together, because one cause
//! shows in several places.

use std::sync::Arc;

use openledger_web::doctor::Finding;

use super::examine::Patient;
use super::{bootstrap, chain, clock, coordinator, udp};
use crate::network::Network;

/// What was heard from outside.
pub(super) struct Heard {
    pub(super) api: coordinator::Api,
    pub(super) links: Vec<coordinator::Link>,
    pub(super) chain: Vec<chain::Endpoint>,
    pub(super) peers: bootstrap::Peers,
}

/// Asks coordinator, chain and peers of a network, and judges what they said.
pub(super) async fn findings(patient: Arc<Patient>, network: Arc<Network>) -> Vec<Finding> {
    let profile = &network.profile;
    let (api, links, chain, peers) = tokio::join!(
        coordinator::ask_api(profile),
        coordinator::knock(&patient, profile),
        chain::ask(profile),
        bootstrap::dial(&patient, &network),
    );
    let heard = Heard { api, links, chain, peers };
    vec![
        coordinator::judge_link(&patient, profile, &heard),
        coordinator::judge_api(profile, &heard),
        udp::judge(&patient, profile, &heard),
        clock::judge(&patient, profile, &heard),
        chain::judge(profile, &heard.chain),
        bootstrap::judge(&patient, profile, &heard.peers),
    ]
}
