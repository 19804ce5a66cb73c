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
/// The bar for pages and documents fetched from peers.
pub const BAR_BLOBS: u64 = 50;
