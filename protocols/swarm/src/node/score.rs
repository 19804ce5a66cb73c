//! Gossipsub's configuration and scores, made of [`crate::defaults::gossip`]; every field is set
//! on purpose.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::gossipsub::{
    Config, ConfigBuilder, Message, MessageId, PeerScoreParams, PeerScoreThresholds, TopicHash,
    TopicScoreParams, ValidationMode,
};
use openledger_wire::limits::GOSSIP_MAX;
use openledger_wire::tagged_hash;

use crate::defaults::gossip as defaults;

/// Author, topic and content make the id. The author is part of it because messages are signed:
/// otherwise a stranger could send somebody's content under his own name first, have it rejected,
/// and make everybody take the real one for a repetition.
fn message_id(message: &Message) -> MessageId {
    let author = message.source.map(|peer| peer.to_bytes()).unwrap_or_default();
    let parts = [author.as_slice(), message.topic.as_str().as_bytes(), &message.data];
    MessageId::from(tagged_hash("openledger gossip message v1", &parts).to_vec())
}

/// The router's configuration.
pub(super) fn config() -> Result<Config, String> {
    ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(GOSSIP_MAX + defaults::FRAME_BYTES)
        .mesh_n(defaults::MESH)
        .mesh_n_low(defaults::MESH_LOW)
        .mesh_n_high(defaults::MESH_HIGH)
        .mesh_outbound_min(defaults::MESH_OUTBOUND_MIN)
        .gossip_lazy(defaults::LAZY)
        .heartbeat_initial_delay(Duration::from_millis(defaults::HEARTBEAT_FIRST_MS))
        .heartbeat_interval(Duration::from_millis(defaults::HEARTBEAT_MS))
        .history_length(defaults::HISTORY)
        .history_gossip(defaults::HISTORY_OFFERED)
        .duplicate_cache_time(Duration::from_millis(defaults::DUPLICATE_MS))
        .max_publish_messages(defaults::MESSAGES_PER_RPC_MAX)
        .max_control_message_size(defaults::CONTROL_BYTES_MAX)
        .max_ihave_messages_heartbeat(defaults::OFFERS_PER_HEARTBEAT_MAX)
        .connection_handler_queue_len(defaults::QUEUE_MAX)
        .publish_queue_duration(Duration::from_millis(defaults::PUBLISH_QUEUE_MS))
        .forward_queue_duration(Duration::from_millis(defaults::FORWARD_QUEUE_MS))
        .prune_backoff(Duration::from_millis(defaults::PRUNE_BACK_OFF_MS))
        .unsubscribe_backoff(Duration::from_millis(defaults::LEAVE_BACK_OFF_MS))
        .backoff_slack(defaults::BACK_OFF_SLACK)
        .graft_flood_threshold(Duration::from_millis(defaults::GRAFT_FLOOD_MS))
        // Our own messages go to everybody of good standing, not to the mesh alone: a mesh full of
        // colluders could otherwise silence us.
        .flood_publish(true)
        .build()
        .map_err(|e| e.to_string())
}

fn topic() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: defaults::TOPIC_WEIGHT,
        time_in_mesh_weight: defaults::TIME_WEIGHT,
        time_in_mesh_quantum: Duration::from_millis(defaults::TIME_QUANTUM_MS),
        time_in_mesh_cap: defaults::TIME_CAP,
        first_message_deliveries_weight: defaults::FIRST_WEIGHT,
        first_message_deliveries_decay: defaults::FIRST_DECAY,
        first_message_deliveries_cap: defaults::FIRST_CAP,
        mesh_message_deliveries_weight: defaults::DEFICIT_WEIGHT,
        // Without weight the following have no effect; they only have to be valid.
        mesh_message_deliveries_decay: defaults::FIRST_DECAY,
        mesh_message_deliveries_cap: defaults::FIRST_CAP,
        mesh_message_deliveries_threshold: 1.0,
        mesh_message_deliveries_window: Duration::from_millis(10),
        mesh_message_deliveries_activation: Duration::from_secs(60),
        mesh_failure_penalty_weight: defaults::DEFICIT_WEIGHT,
        mesh_failure_penalty_decay: defaults::FIRST_DECAY,
        invalid_message_deliveries_weight: defaults::INVALID_WEIGHT,
        invalid_message_deliveries_decay: defaults::INVALID_DECAY,
    }
}

/// Scores of peers; `colocation` is the number of peers of one IP address that is tolerated.
pub(super) fn params(
    topics: impl Iterator<Item = TopicHash>,
    colocation: Option<u32>,
) -> PeerScoreParams {
    PeerScoreParams {
        topics: topics.map(|t| (t, topic())).collect::<HashMap<_, _>>(),
        topic_score_cap: defaults::TOPIC_CAP,
        app_specific_weight: defaults::APPLICATION_WEIGHT,
        ip_colocation_factor_weight: colocation.map_or(0.0, |_| defaults::COLOCATION_WEIGHT),
        ip_colocation_factor_threshold: colocation.unwrap_or(1).max(1).into(),
        ip_colocation_factor_whitelist: HashSet::new(),
        behaviour_penalty_weight: defaults::BEHAVIOUR_WEIGHT,
        behaviour_penalty_threshold: defaults::BEHAVIOUR_THRESHOLD,
        behaviour_penalty_decay: defaults::BEHAVIOUR_DECAY,
        decay_interval: Duration::from_millis(defaults::DECAY_MS),
        decay_to_zero: defaults::DECAY_TO_ZERO,
        retain_score: Duration::from_millis(defaults::RETAIN_MS),
        slow_peer_weight: defaults::SLOW_WEIGHT,
        slow_peer_threshold: defaults::SLOW_THRESHOLD,
        slow_peer_decay: defaults::SLOW_DECAY,
    }
}

/// What follows from a score.
pub(super) fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: defaults::THRESHOLD_GOSSIP,
        publish_threshold: defaults::THRESHOLD_PUBLISH,
        graylist_threshold: defaults::THRESHOLD_GRAYLIST,
        accept_px_threshold: defaults::THRESHOLD_EXCHANGE,
        opportunistic_graft_threshold: defaults::THRESHOLD_OPPORTUNISTIC,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_valid_and_nobody_can_save_up_standing() {
        config().unwrap();
        thresholds().validate().unwrap();
        let topics = || (0..3).map(|n| TopicHash::from_raw(n.to_string()));
        params(topics(), None).validate().unwrap();
        params(topics(), Some(3)).validate().unwrap();
        let most = defaults::TOPIC_WEIGHT
            * (defaults::TIME_WEIGHT * defaults::TIME_CAP
                + defaults::FIRST_WEIGHT * defaults::FIRST_CAP);
        let three_invalid = defaults::INVALID_WEIGHT * 9.0;
        assert!(3.0 * most <= defaults::TOPIC_CAP);
        assert!(defaults::TOPIC_CAP + three_invalid < defaults::THRESHOLD_GRAYLIST);
    }

    #[test]
    fn ids_differ_by_author_topic_and_content_but_not_by_sequence() {
        let message = |author: u8, topic: &str, data: &[u8], sequence| Message {
            source: super::super::addresses::peer_of(
                &openledger_wire::NodeKey::from_seed(&[author; 32]).public(),
            ),
            data: data.to_vec(),
            sequence_number: Some(sequence),
            topic: TopicHash::from_raw(topic),
        };
        let id = message_id(&message(1, "a", b"x", 1));
        assert_eq!(id, message_id(&message(1, "a", b"x", 2)));
        assert_ne!(id, message_id(&message(2, "a", b"x", 1)));
        assert_ne!(id, message_id(&message(1, "b", b"x", 1)));
        assert_ne!(id, message_id(&message(1, "a", b"y", 1)));
    }
}
