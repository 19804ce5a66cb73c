//! Commands and flags.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use openledger_wire::{EvmAddress, EvmSignature, NodeId};

use crate::worker::WorkerKind;

/// An OpenLedger node: does useful work for the swarm and earns OPEN.
#[derive(Debug, Parser)]
#[command(name = "openledger", version, arg_required_else_help = true)]
pub(super) struct Cli {
    /// Folder of everything this node keeps [default: ~/.local/share/openledger]
    #[arg(long, global = true, env = "OPENLEDGER_DATA", value_name = "FOLDER")]
    pub(super) data_dir: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start the node and keep it running
    Up(UpArgs),
    /// Show what the running node does
    Status(Which),
    /// Take no more work, give back what was not begun
    Pause(Which),
    /// Take work again
    Resume(Which),
    /// Finish what was begun, then stop; of one network, then leave it
    Finish(Which),
    /// Stop now; nothing that was promised is lost
    Stop,
    /// Keys, recovery words and payout address
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Networks that this machine knows
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Models and adapters: add files, get them from peers or a hub
    #[command(subcommand)]
    Model(ModelCommand),
    /// Show each task from lease to payout, with reasons
    Receipts {
        #[command(flatten)]
        which: Which,
        /// Only tasks whose id begins like this; one task is shown whole
        task: Option<String>,
        /// How many at most, newest first
        #[arg(long, default_value_t = 30)]
        max: usize,
    },
    /// Show points and OPEN, and why something is not paid yet
    Earnings(Which),
    /// Claim earned OPEN on chain
    Claim(ClaimArgs),
    /// Show or change the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show the node's log
    Logs {
        /// How many lines
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: usize,
        /// Go on showing new lines
        #[arg(short, long)]
        follow: bool,
    },
    /// Recompute the coordinator's sums and compare them with the chain
    Audit(AuditArgs),
    /// Find what keeps the node from working, why, and what mends it
    #[command(after_help = super::doctor::AFTER_HELP)]
    Doctor(DoctorArgs),
    /// A worker process; started by the node
    #[command(hide = true)]
    Worker {
        /// What it does
        kind: WorkerKind,
        /// How long one input may take, in milliseconds
        #[arg(long, default_value_t = 150_000)]
        time_ms: u64,
    },
}

/// Which of the node's networks a command is about.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The network; all that the node is in, if left out
    #[arg(long, value_name = "NAME")]
    pub(super) network: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// List the networks that were joined or added
    List,
    /// Show one network's profile
    Show {
        /// Its name; the only one known if left out
        name: Option<String>,
    },
    /// Take a network's signed profile over, or a change of it
    Add {
        /// The profile
        file: PathBuf,
    },
    /// Leave a network; promises and receipts are kept aside and come back when it is added again
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Take a model or adapter over: a file (GGUF, .safetensors), or a folder of Hugging Face's form
    Add {
        /// The file or folder
        file: PathBuf,
        /// What to call it; after the file if left out
        #[arg(long)]
        name: Option<String>,
        /// The base model of an adapter, by name or id
        #[arg(long)]
        base: Option<String>,
        /// Use the file where it lies, without a second name for it in the data folder
        #[arg(long)]
        in_place: bool,
    },
    /// List what is here, and what peers of the running node offer
    List,
    /// Save several adapters with their weights under a name that calls can use
    Combine {
        /// What to call it
        name: String,
        /// The adapters: NAME or NAME:WEIGHT
        #[arg(required = true, value_name = "ADAPTER[:WEIGHT]")]
        adapters: Vec<String>,
        /// Their base model; that of the first adapter if left out
        #[arg(long)]
        base: Option<String>,
        /// How they become one: linear, ties, dare_linear or dare_ties
        #[arg(long, default_value = "linear")]
        strategy: String,
        /// The share of numbers that ties and dare keep
        #[arg(long, default_value_t = 0.5)]
        density: f32,
        /// How ties elects signs: total or frequency
        #[arg(long, value_name = "METHOD", default_value = "total")]
        majority_sign: String,
    },
    /// Remove one
    Remove {
        /// Its name or id
        name: String,
    },
    /// Get one from peers, through the running node
    Fetch {
        /// Its name or id
        name: String,
    },
    /// Download one from a hub, and go on where the last try stopped
    Download {
        /// hf:OWNER/REPO/FILE, or hf:OWNER/REPO for an adapter or a model of several files; with
        /// @REVISION at its end if you want one
        source: String,
        /// The SHA-256 that it must have, in hex: of the file, or of the adapter's weights
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
        /// What to call it; after the file if left out
        #[arg(long)]
        name: Option<String>,
        /// The base model of an adapter, by name or id
        #[arg(long)]
        base: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// The network to join: a profile file, or the name of one joined before. Repeat it to be in
    /// several networks at once, each with earnings of its own
    #[arg(long, value_name = "FILE|NAME")]
    pub(super) network: Vec<String>,
    /// Agree to what the node will use, without being asked
    #[arg(long)]
    pub(super) accept: bool,
    /// Address to listen on and to connect from
    #[arg(long, value_name = "IP")]
    pub(super) bind: Option<IpAddr>,
    /// Do not connect to the coordinator; take part in gossip only
    #[arg(long)]
    pub(super) no_link: bool,
    /// Send proofs by gossip instead of over the link, as if the link broke after commitments
    #[arg(long, hide = true)]
    pub(super) cut_link_after_commit: bool,
    /// Stop when standard input ends
    #[arg(long)]
    pub(super) exit_with_parent: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum IdentityCommand {
    /// Show account, node key and payout address
    Show,
    /// Show the 24 recovery words
    Words {
        /// Remove them from this machine afterwards: write them down first
        #[arg(long)]
        remove: bool,
    },
    /// Create an identity without starting the node
    Create {
        /// Keep the passphrase in a key file beside the vault, for unattended starts
        #[arg(long)]
        unattended: bool,
    },
    /// Write all keys to an encrypted file
    Export {
        /// The file
        file: PathBuf,
    },
    /// Take keys over from an exported file
    Import {
        /// The file
        file: PathBuf,
    },
    /// Make this machine a node of the account of your 24 words
    Restore {
        /// Keep the passphrase in a key file beside the vault, for unattended starts
        #[arg(long)]
        unattended: bool,
    },
    /// Change the passphrase of this machine's keys
    Passphrase {
        /// Keep the new one in a key file beside the vault, for unattended starts
        #[arg(long)]
        unattended: bool,
    },
    /// Replace the node key and revoke the former one
    Rotate,
    /// Revoke a node key of this account, of a lost machine for instance
    Revoke {
        /// The node key; this node's if left out
        node: Option<NodeId>,
    },
    /// Bind the address that OPEN is paid to
    BindPayout(BindArgs),
}

#[derive(Debug, Args)]
pub(super) struct BindArgs {
    /// The address; the one of your 24 words if left out
    pub(super) address: Option<EvmAddress>,
    /// The network; the only one known if left out
    #[arg(long, value_name = "NAME")]
    pub(super) network: Option<String>,
    /// Variable with the address's secret key (hex), to sign here
    #[arg(long, value_name = "VARIABLE", conflicts_with = "signature")]
    pub(super) key_env: Option<String>,
    /// The address's signature over the printed data, made in a wallet
    #[arg(long, value_name = "HEX", requires = "nonce")]
    pub(super) signature: Option<EvmSignature>,
    /// The nonce of the printed data
    #[arg(long)]
    pub(super) nonce: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct ClaimArgs {
    /// The network to claim in; the only one with earnings if left out
    #[arg(long, value_name = "NAME")]
    pub(super) network: Option<String>,
    /// Variable with the secret key (hex) of an address that pays the gas
    #[arg(long, value_name = "VARIABLE", conflicts_with = "key_file")]
    pub(super) key_env: Option<String>,
    /// File with the secret key (hex) of an address that pays the gas
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print all values
    Show,
    /// Set one value
    Set {
        /// Such as work.parallel
        key: String,
        /// Such as 2
        value: String,
    },
    /// Print where the file is
    Path,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The network: a profile file, or the name of one joined before; all joined if left out
    #[arg(long, value_name = "FILE|NAME")]
    pub(super) network: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The last epoch to check; the last one closed if left out
    #[arg(long)]
    pub(super) epoch: Option<u64>,
    /// Base URL of the coordinator; that of the network profile if left out
    #[arg(long, value_name = "URL")]
    pub(super) coordinator: Option<String>,
    /// The network: a profile file, or the name of one joined before
    #[arg(long, value_name = "FILE|NAME")]
    pub(super) network: Option<String>,
    /// Do not ask the chain
    #[arg(long)]
    pub(super) offline_chain: bool,
}
