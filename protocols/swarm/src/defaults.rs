//! Every limit and default of this crate, each with its reason.
//!
//! Units are in the names. The worst-case memory of a part is stated where its limits are.

/// Limits of the coordinator link.
///
/// Worst case of a server: `CONNECTIONS_MAX * RECEIVE_WINDOW` (256 MiB) in QUIC buffers, plus
/// `LARGE_BYTES_MAX` (256 MiB) of large requests, plus `PUSH_QUEUE_BYTES_MAX` per connection that
/// does not read.
pub mod link {
    /// Connections of one server. A node needs one; more nodes need more coordinators.
    pub const CONNECTIONS_MAX: usize = 1_024;
    /// Connections from one IP address: a household or a lab, not a farm behind one address.
    pub const CONNECTIONS_PER_IP_MAX: usize = 64;
    /// Handshakes in progress; above half of it an address must prove that it can be reached.
    pub const HANDSHAKES_MAX: usize = 128;
    /// Requests of one connection in progress; a node batches, so a handful is plenty.
    pub const STREAMS_PER_CONNECTION_MAX: u32 = 8;
    /// Handlers that run at the same time, over all connections.
    pub const HANDLERS_MAX: usize = 64;
    /// Requests per second that a node may make on average: batches of 64 make this thousands of
    /// proofs per second.
    pub const REQUESTS_PER_S: u32 = 20;
    /// Requests that a node may make at once, after a reconnect for instance.
    pub const REQUESTS_BURST: u32 = 60;
    /// Nodes whose budget is remembered after they left, so that reconnecting does not refill it.
    pub const BUCKETS_MAX: usize = 16_384;
    /// A request, from its first byte to its answer.
    pub const REQUEST_MS_MAX: u64 = 30_000;
    /// The bytes of one message; a 4 MiB message at 3 Mbit/s.
    pub const BODY_MS_MAX: u64 = 12_000;
    /// A handshake: three round trips of a bad line.
    pub const HANDSHAKE_MS_MAX: u64 = 8_000;
    /// Silence after which a connection counts as dead: a node must notice well within a lease that
    /// its coordinator was restarted.
    pub const IDLE_MS_MAX: u64 = 12_000;
    /// How often a client speaks: two may be lost before the connection counts as dead. Home
    /// routers' address translation, which forgets after 30 s and more, is kept alive too.
    pub const KEEP_ALIVE_MS: u64 = 4_000;
    /// QUIC receive window of one connection of the server.
    pub const RECEIVE_WINDOW: u32 = 256 * 1024;
    /// Messages up to this size need no part of the budget of large ones.
    pub const SMALL_BYTES_MAX: usize = 64 * 1024;
    /// Large messages held at the same time, over all connections.
    pub const LARGE_BYTES_MAX: usize = 256 * 1024 * 1024;
    /// Pushes that wait for one node; a node that missed some asks for its state.
    pub const PUSH_QUEUE_MAX: usize = 256;
    /// Bytes of pushes that wait for one node.
    pub const PUSH_QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
    /// A push that is not taken within this time closes the connection.
    pub const PUSH_MS_MAX: u64 = 15_000;
    /// Events that wait for the application behind a client; then pushes wait on the wire.
    pub const EVENTS_MAX: usize = 256;
    /// First wait before a client reconnects.
    pub const RECONNECT_MS_MIN: u64 = 250;
    /// Longest wait before a client reconnects.
    pub const RECONNECT_MS_MAX: u64 = 30_000;
    /// Wait after another process took the connection over with the same key: long, so that two
    /// copies of a node do not fight.
    pub const RECONNECT_REPLACED_MS: u64 = 30_000;
}

/// Limits of the blob store and its transport.
pub mod blobs {
    /// Connections that may fetch from us.
    pub const CONNECTIONS_MAX: usize = 64;
    /// Connections of one peer: as many as it may fetch at once ([`FETCHES_MAX`]).
    pub const CONNECTIONS_PER_PEER_MAX: usize = 16;
    /// Requests per second of one peer on average: a refine task needs one.
    pub const REQUESTS_PER_S: u32 = 50;
    /// Requests of one peer at once.
    pub const REQUESTS_BURST: u32 = 200;
    /// Peers whose budget is remembered.
    pub const BUCKETS_MAX: usize = 4_096;
    /// Uploads at the same time, twice what one peer may ask for; who is turned away asks another
    /// holder. A home line is shared with people.
    pub const UPLOADS_MAX: usize = 32;
    /// Requests that wait for the limiter's decision.
    pub const EVENTS_MAX: usize = 256;
    /// Connecting to one holder.
    pub const CONNECT_MS_MAX: u64 = 5_000;
    /// Silence of a holder while it sends.
    pub const STALL_MS_MAX: u64 = 10_000;
    /// One blob from one holder, all in all: 50 MiB at 2 Mbit/s take 200 s.
    pub const FETCH_MS_MAX: u64 = 240_000;
    /// One large file from one holder, all in all: 5 GB at 20 Mbit/s take 2,000 s.
    pub const FETCH_FILE_MS_MAX: u64 = 3_600_000;
    /// Fetches at the same time.
    pub const FETCHES_MAX: usize = 16;
    /// Blobs put at the same time: each is hashed and written by its own task.
    pub const PUTS_MAX: usize = 16;
    /// Requests of one connection in progress.
    pub const STREAMS_PER_CONNECTION_MAX: u32 = 8;
    /// How often forgotten blobs are removed.
    pub const CLEAN_UP_MS: u64 = 10 * 60 * 1_000;
    /// How often disk and store are looked at: a full disk is named while its owner still looks.
    pub const LOOK_MS: u64 = 2_000;
    /// Free space below which no work is taken: what pages and documents in work may still take,
    /// and a few commits of the databases beside them.
    pub const ROOM_BYTES_MIN: u64 = 32 << 20;
    /// Holders whose deliveries are counted by name.
    pub const HOLDER_STATS_MAX: usize = 1_024;
}

/// Limits of the peer book.
pub mod peers {
    /// Peers known at the same time.
    pub const KNOWN_MAX: usize = 512;
    /// Peers written to disk: some of them are alive after weeks.
    pub const REMEMBERED_MAX: usize = 128;
    /// Length of one address as text.
    pub const ADDRESS_BYTES_MAX: usize = 256;
    /// First wait after a failed dial or first ban.
    pub const BACK_OFF_MS_MIN: u64 = 5_000;
    /// Longest wait between dials and longest ban of the ladder.
    pub const BACK_OFF_MS_MAX: u64 = 30 * 60 * 1_000;
    /// Longest wait of a node without any connection: it has nothing better to do.
    pub const ALONE_WAIT_MS_MAX: u64 = 15_000;
    /// Strikes that make a ban.
    pub const STRIKES_MAX: u32 = 5;
    /// One strike is forgiven after this time.
    pub const STRIKE_FORGIVEN_MS: u64 = 60_000;
    /// Peers with strikes or bans that are remembered.
    pub const RECORDS_MAX: usize = 1_024;
    /// Size of the file of remembered peers.
    pub const FILE_BYTES_MAX: u64 = 512 * 1024;
    /// How often the file is written at most.
    pub const SAVE_MS: u64 = 30_000;
}

/// Limits of the libp2p node.
///
/// Worst case: `ESTABLISHED_MAX` connections with `NEGOTIATING_STREAMS_MAX` streams in negotiation
/// each, `GOSSIP_QUEUE_MAX` queued messages per peer; above `MEMORY_BYTES_MAX` of the process no
/// new connection is accepted.
pub mod node {
    /// Connections in all: home routers and providers choke on hundreds.
    pub const ESTABLISHED_MAX: u32 = 32;
    /// Of these, those that others opened; the rest is for peers of our own choice, so that nobody
    /// can surround us.
    pub const ESTABLISHED_INCOMING_MAX: u32 = 24;
    /// Connections with one peer: one, and one more while both dial or a relay is left.
    pub const ESTABLISHED_PER_PEER_MAX: u32 = 2;
    /// Dials in progress.
    pub const PENDING_OUTGOING_MAX: u32 = 8;
    /// Handshakes in progress that others began.
    pub const PENDING_INCOMING_MAX: u32 = 16;
    /// Memory of the process above which no new connection is accepted.
    pub const MEMORY_BYTES_MAX: usize = 4 * 1024 * 1024 * 1024;
    /// Connections below which the node looks for more.
    pub const PEERS_TARGET: usize = 12;
    /// Streams in negotiation per connection.
    pub const NEGOTIATING_STREAMS_MAX: usize = 32;
    /// A connection that nobody uses is closed after this time.
    pub const IDLE_MS: u64 = 60_000;
    /// Setting up a connection: TCP, noise and yamux over a bad line.
    pub const UPGRADE_MS_MAX: u64 = 15_000;
    /// How often the node looks after its peers.
    pub const TICK_MS: u64 = 1_000;
    /// How often the distributed table is refreshed.
    pub const KAD_REFRESH_MS: u64 = 5 * 60 * 1_000;
    /// One lookup in the table.
    pub const KAD_QUERY_MS_MAX: u64 = 30_000;
    /// Wait between looking for more peers through the table.
    pub const SEARCH_MS: u64 = 15_000;
    /// How often peers are asked who they are.
    pub const IDENTIFY_MS: u64 = 5 * 60 * 1_000;
    /// How often a connection is probed.
    pub const PING_MS: u64 = 15_000;
    /// Commands that wait for the node's task.
    pub const COMMANDS_MAX: usize = 256;
    /// Events that wait for the application; further gossip is dropped and counted.
    pub const EVENTS_MAX: usize = 1_024;
    /// A request of the request-response protocol.
    pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
    /// Its response.
    pub const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
    /// From request to response.
    pub const REQUEST_MS_MAX: u64 = 20_000;
    /// Streams of that protocol per connection.
    pub const REQUEST_STREAMS_MAX: usize = 16;
    /// Requests of others in progress, over all connections.
    pub const REQUESTS_IN_MAX: usize = 64;
    /// Requests to others in progress.
    pub const REQUESTS_OUT_MAX: usize = 64;
    /// Ban of a peer of another network: it will not change soon.
    pub const OTHER_NETWORK_BAN_MS: u64 = 30 * 60 * 1_000;
    /// Relays that take calls for us when nobody can dial us: one, and one more for when it fails.
    pub const RELAYS_MAX: usize = 2;
    /// Wait after a failed reachability test before the node believes that it cannot be dialled:
    /// each test is of one address, and another one may still be found good.
    pub const UNREACHABLE_MS: u64 = 5_000;
    /// Wait of a node with peers, none of whom found an address of it good, before it behaves as if
    /// it could not be dialled: a relay that it does not need does no harm.
    pub const UNTESTED_MS: u64 = 60_000;
    /// Own addresses found good that are named to others: a few interfaces, two transports.
    pub const EXTERNAL_MAX: usize = 16;
    /// Time that a relayed connection is left beside a direct one with the same peer, for what was
    /// asked through it to be answered.
    pub const UPGRADE_LINGER_MS: u64 = 5_000;
    /// Reservations that a relay keeps for others.
    pub const RELAY_RESERVATIONS_MAX: usize = 32;
    /// Of these, for one peer: one; the library allows one more, as for a connection that is being
    /// replaced.
    pub const RELAY_RESERVATIONS_PER_PEER_MAX: usize = 1;
    /// A reservation's life; peers renew it after three quarters of it.
    pub const RELAY_RESERVATION_MS: u64 = 60 * 60 * 1_000;
    /// Calls that a relay carries.
    pub const RELAY_CIRCUITS_MAX: usize = 16;
    /// Of these, for one peer.
    pub const RELAY_CIRCUITS_PER_PEER_MAX: usize = 4;
    /// Bytes of one relayed call: enough to agree on a direct connection and some gossip.
    pub const RELAY_CIRCUIT_BYTES_MAX: u64 = 1024 * 1024;
    /// Duration of one relayed call.
    pub const RELAY_CIRCUIT_MS_MAX: u64 = 2 * 60 * 1_000;
}

/// Gossipsub parameters. The mesh is small because there are few connections; scores punish what
/// an honest peer never does and stay neutral about what it cannot help.
///
/// The most that a peer can earn is `TOPIC_CAP`; one invalid message outweighs that for longer than
/// it took to earn, so good standing cannot be saved up and spent.
pub mod gossip {
    /// Bytes around a message: author, signature, topic, sequence number.
    pub const FRAME_BYTES: usize = 1_024;
    /// Mesh peers per topic wanted, at least, at most; of a dozen to 32 connections.
    pub const MESH: usize = 6;
    /// Below this the mesh is filled up.
    pub const MESH_LOW: usize = 4;
    /// Above this the mesh is thinned.
    pub const MESH_HIGH: usize = 12;
    /// Mesh peers that we chose ourselves.
    pub const MESH_OUTBOUND_MIN: usize = 2;
    /// Peers that are told about messages they may lack, per heartbeat.
    pub const LAZY: usize = 6;
    /// Heartbeat.
    pub const HEARTBEAT_MS: u64 = 1_000;
    /// First heartbeat: soon, so that a fresh node has a mesh.
    pub const HEARTBEAT_FIRST_MS: u64 = 200;
    /// Heartbeats for which messages are kept, and for which they are offered.
    pub const HISTORY: usize = 6;
    /// See [`HISTORY`].
    pub const HISTORY_OFFERED: usize = 3;
    /// How long a message id is remembered, so that it is neither judged nor forwarded twice.
    pub const DUPLICATE_MS: u64 = 2 * 60 * 1_000;
    /// Messages in one packet of a peer.
    pub const MESSAGES_PER_RPC_MAX: usize = 64;
    /// Bytes of control messages in one packet.
    pub const CONTROL_BYTES_MAX: usize = 16 * 1024;
    /// Offers of a peer per heartbeat.
    pub const OFFERS_PER_HEARTBEAT_MAX: usize = 10;
    /// Messages queued for one peer.
    pub const QUEUE_MAX: usize = 256;
    /// Our own message is dropped if a peer's queue does not take it within this time.
    pub const PUBLISH_QUEUE_MS: u64 = 5_000;
    /// A forwarded one.
    pub const FORWARD_QUEUE_MS: u64 = 1_000;
    /// How long a peer that was sent out of a mesh must not come back: long enough for the mesh to
    /// settle, short enough for a topic to recover.
    pub const PRUNE_BACK_OFF_MS: u64 = 60_000;
    /// The same after a peer left a topic by itself: it may restart.
    pub const LEAVE_BACK_OFF_MS: u64 = 10_000;
    /// Heartbeats that we wait on top of a back-off that we were told, so that a slow clock or line
    /// does not make us an offender.
    pub const BACK_OFF_SLACK: u32 = 1;
    /// Coming back this soon counts twice against a peer: no clock is that wrong.
    pub const GRAFT_FLOOD_MS: u64 = 10_000;

    /// How often counters decay.
    pub const DECAY_MS: u64 = 10_000;
    /// Counters below this are zero.
    pub const DECAY_TO_ZERO: f64 = 0.01;
    /// Each topic counts fully.
    pub const TOPIC_WEIGHT: f64 = 1.0;
    /// The most that all topics together give.
    pub const TOPIC_CAP: f64 = 40.0;
    /// P1, time in the mesh: one per minute up to an hour, worth 3 at most. The library's default
    /// would give 1,800 for merely staying.
    pub const TIME_WEIGHT: f64 = 0.05;
    /// Unit of P1.
    pub const TIME_QUANTUM_MS: u64 = 60_000;
    /// Cap of P1 in units.
    pub const TIME_CAP: f64 = 60.0;
    /// P2, first deliveries of valid messages: worth 10 at most, halved in about a minute.
    pub const FIRST_WEIGHT: f64 = 0.5;
    /// Decay of P2 per `DECAY_MS`.
    pub const FIRST_DECAY: f64 = 0.9;
    /// Cap of P2.
    pub const FIRST_CAP: f64 = 20.0;
    /// P3 and P3b, too few deliveries in the mesh: off. Our topics may be silent for minutes, and a
    /// quiet peer of a quiet topic did nothing wrong.
    pub const DEFICIT_WEIGHT: f64 = 0.0;
    /// P4, invalid messages, squared: one is -20 (no gossip to it any more), two are -80, three
    /// are -180 (ignored altogether). An honest peer judges before it forwards.
    pub const INVALID_WEIGHT: f64 = -20.0;
    /// Decay of P4 per `DECAY_MS`: halved in about six minutes.
    pub const INVALID_DECAY: f64 = 0.98;
    /// P5, what the application says: as it says.
    pub const APPLICATION_WEIGHT: f64 = 1.0;
    /// P6, many peers of one IP address, squared above the threshold: the fourth costs 10, the
    /// sixth 90.
    pub const COLOCATION_WEIGHT: f64 = -10.0;
    /// Peers of one IP address that are normal: a household.
    pub const COLOCATION_THRESHOLD: u32 = 3;
    /// P7, broken promises and grafting too early, squared above the threshold: a peer that comes
    /// back at once costs itself 2 each time, so the second time is -10, the third -90 (it is not
    /// sent our own messages), the fourth -250 (ignored).
    pub const BEHAVIOUR_WEIGHT: f64 = -10.0;
    /// Free mistakes of P7: restarts cause some.
    pub const BEHAVIOUR_THRESHOLD: f64 = 3.0;
    /// Decay of P7 per `DECAY_MS`.
    pub const BEHAVIOUR_DECAY: f64 = 0.9;
    /// Slow readers: a nuisance, no crime; worth -10 only after 60 dropped messages.
    pub const SLOW_WEIGHT: f64 = -0.2;
    /// Drops that are free.
    pub const SLOW_THRESHOLD: f64 = 10.0;
    /// Decay of drops per `DECAY_MS`.
    pub const SLOW_DECAY: f64 = 0.8;
    /// How long a bad score is kept after a peer left, so that reconnecting does not wash it.
    pub const RETAIN_MS: u64 = 60 * 60 * 1_000;
    /// Below: the peer is neither offered messages nor asked for any.
    pub const THRESHOLD_GOSSIP: f64 = -10.0;
    /// Below: it is not sent our own messages.
    pub const THRESHOLD_PUBLISH: f64 = -50.0;
    /// Below: it is ignored.
    pub const THRESHOLD_GRAYLIST: f64 = -100.0;
    /// Above: peers that it recommends are believed. Nobody can earn that; there is the table.
    pub const THRESHOLD_EXCHANGE: f64 = 1_000.0;
    /// Median score of a mesh below which better peers are added.
    pub const THRESHOLD_OPPORTUNISTIC: f64 = 2.0;
}
