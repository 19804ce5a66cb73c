//! Every number of the devnet, with its reason.

use std::time::Duration;

/// Hosts that serve pages, each on an address of its own.
pub const HOSTS: usize = 20;
/// Pages of a campaign when nobody says otherwise: twelve on each host.
pub const PAGES: usize = 240;
/// Smaller files are mostly lists of links and make no documents.
pub const PAGE_BYTES_MIN: u64 = 12 * 1024;
/// Larger ones are indexes and release histories, which say little and take long.
pub const PAGE_BYTES_MAX: u64 = 250 * 1024;
/// Honest nodes when nobody says otherwise: a disputed page takes five replicas, of which one may
/// be unvetted.
pub const NODES: usize = 6;
/// More do not fit the addresses that are dealt out here.
pub const NODES_MAX: usize = 80;

/// What a zip bomb unpacks to: more than a node unpacks, in some hundred kilobytes.
pub const BOMB_MIB: u64 = 64;

/// The devnet's chain: a local one, where short windows are allowed.
pub const CHAIN_ID: u64 = 31_337;
/// Seconds between blocks: so that the clock that contracts see goes on without transactions.
pub const BLOCK_TIME: Duration = Duration::from_secs(1);
/// The challenge window of the rewards contract.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Between asking for money back from the escrow and taking it.
pub const THAW: Duration = Duration::from_secs(10);
/// The chain's whole state, unpacked: a run of hours takes some tens of megabytes.
pub const CHAIN_STATE_BYTES_MAX: u64 = 512 << 20;
/// Epochs that the rewards contract is funded for.
pub const EPOCHS_FUNDED: u128 = 1_000;

/// A process says that it is ready within this time, on a loaded machine too.
pub const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// A command of a binary ends within this time.
pub const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);
/// A process may take this long to stop once its standard input ended; then it is killed.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(15);
/// How often a guard looks whether its process still runs.
pub const GUARD_PAUSE: Duration = Duration::from_millis(50);
/// How often the network is looked at.
pub const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How often a line of progress is printed where there is no terminal.
pub const LINE_PAUSE: Duration = Duration::from_secs(10);
/// `--once` gives up after this.
pub const ONCE_TIME_MAX: Duration = Duration::from_secs(8 * 60);
/// One answer of the coordinator.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// One answer of the coordinator, in bytes: a page of its log.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Log entries asked for at once.
pub const LOG_PAGE: usize = 100;
/// Lines of a process's log that an error shows.
pub const LOG_LINES_SHOWN: usize = 12;

/// What the campaign may give away: more than its pages can cost.
pub const CAMPAIGN_POINTS: u64 = 100_000_000;
/// The bar for honest nodes.
pub const BAR_NODES: u64 = 5;
/// The bar for distinct URLs refined.
pub const BAR_URLS: u64 = 200;
/// The bar for accounts that fetched each page.
pub const BAR_ACCOUNTS: u64 = 2;
/// The bar for documents that the coordinator fetched from the nodes that made them.
pub const BAR_DOCUMENTS: u64 = 50;

/// Pages of one folder that `--site` serves: more than a campaign of this size can refine in the
/// time of a run.
pub const SITE_PAGES_MAX: usize = 1_000;
/// Folders that `--site` serves: their addresses follow those of the other hosts, below the traps'.
pub const SITES_MAX: usize = 100;
/// Pages that `--seed-url` names.
pub const SEEDS_MAX: usize = 100;
/// A local web server answers a first question within this time.
pub const SEED_TIME_MAX: Duration = Duration::from_secs(10);

/// Processes that `--chaos` kills when nobody says otherwise.
pub const KILLS: usize = 50;
/// The bar for them.
pub const BAR_KILLS: u64 = 50;
/// More would take hours.
pub const KILLS_MAX: usize = 10_000;
/// The longest pause before a fault: several faults meet within one lease of a devnet, and few do.
pub const FAULT_PAUSE_MS_MAX: u64 = 4_000;
/// The longest time for which the coordinator is away after an ordinary kill.
pub const AWAY_MS_MAX: u64 = 6_000;
/// How long the coordinator is away once: longer than an epoch, longer than any lease.
pub const AWAY_LONG: Duration = Duration::from_secs(65);
/// How long the chain does not answer once, while its connections stay open.
pub const CHAIN_SILENT: Duration = Duration::from_secs(12);
/// Blocks that a reorganisation takes back at most: a posted root is among them now and then.
pub const REORG_BLOCKS_MAX: u64 = 8;
/// How long a worker to kill is looked for before a node takes its place.
pub const VICTIM_TIME_MAX: Duration = Duration::from_secs(8);
/// Open tasks below which chaos funds another campaign, so that there is work all the time.
pub const TASKS_OPEN_MIN: u64 = 60;
/// Pages of such a campaign.
pub const TOP_UP_PAGES: usize = 80;
/// How often nodes are asked which receipts they hold.
pub const RECEIPTS_PAUSE: Duration = Duration::from_millis(1_500);
/// Rows asked for each time: far more than a node does between two questions.
pub const RECEIPT_ROWS: usize = 250;
/// Rows asked for at the end: all that a node shows.
pub const RECEIPT_ROWS_MAX: usize = 10_000;
/// How long a root that is just posted is waited for, to take it back: more than an epoch.
pub const ROOT_TIME_MAX: Duration = Duration::from_secs(90);
/// The disk of the node whose disk is filled: several times what it writes in a run.
pub const SMALL_DISK_MIB: usize = 192;
/// How long that disk is full: a node writes several times meanwhile.
pub const DISK_FULL: Duration = Duration::from_secs(20);
/// A node whose disk has room again says so within this time: several of its looks.
pub const ROOM_TIME_MAX: Duration = Duration::from_secs(30);
/// Streams whose server is killed.
pub const STREAMS_CUT: usize = 3;
/// Tries for that: who serves a call may have ended it before it is found and killed.
pub const STREAM_TRIES: usize = 4;
/// Tokens of an answer that is cut: some seconds on a machine where other engines work.
pub const STREAM_TOKENS_MAX: u32 = 160;
/// A call that is not over by then hangs: a dead server is noticed within seconds, and the rest of
/// the answer takes as long as the whole of it.
pub const STREAM_TIME_MAX: Duration = Duration::from_secs(150);
/// One stream; events of one token have some hundred bytes.
pub const STREAM_BYTES_MAX: usize = 4 << 20;
/// A model file that was cut short is whole again within this time: noticed, fetched and verified.
pub const MEND_TIME_MAX: Duration = Duration::from_secs(90);
/// A restarted process is asked so often whether it answers.
pub const ANSWER_PAUSE: Duration = Duration::from_millis(5);
/// The bar for the time from a restart to an answer.
pub const BAR_RESTART: Duration = Duration::from_secs(2);
/// A run with faults gives up after this, and for each kill after this much more.
pub const CHAOS_TIME_MAX: Duration = Duration::from_secs(20 * 60);
/// See [`CHAOS_TIME_MAX`].
pub const CHAOS_TIME_EACH: Duration = Duration::from_secs(15);

/// Honest nodes that start with the base model, and share the adapters among them.
pub const MODEL_HOLDERS: usize = 2;
/// Honest nodes, these included, that do inference work: a task takes two, and a check another.
pub const MODEL_SERVERS: usize = 4;
/// Ranks of the adapters that are made.
pub const ADAPTER_RANKS: [usize; 4] = [4, 8, 12, 16];
/// How much the adapters change: clearly felt, and the base still speaks.
pub const ADAPTER_STRENGTH: f32 = 0.3;
/// Tokens of an answer to a task: enough to compare, and short on two cores.
pub const INFER_TOKENS_MAX: u32 = 12;
/// Temperature of the tasks that are not greedy, in thousandths.
pub const TEMPERATURE_PERMILLE: u32 = 800;
/// Tokens of an answer to the chatting client.
pub const CHAT_TOKENS_MAX: u32 = 16;
/// How often the client goes round all nodes and adapters.
pub const CHAT_ROUNDS: usize = 2;
/// One call, on a machine where other engines work.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(60);
/// The bar for calls.
pub const BAR_CALLS: u64 = 20;
/// The bar for adapters.
pub const BAR_ADAPTERS: u64 = 4;
/// The bar for accepted `infer` proofs.
pub const BAR_INFER: u64 = 20;
/// The bar for models and adapters that nodes fetched from each other.
pub const BAR_MODELS_FETCHED: u64 = 4;
