//! The commands of `openledger-coordinator`.

mod documents;
mod init;
mod operate;
mod remote;
mod rules;
mod run;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use serde_json::Value;

/// The coordinator of an OpenLedger swarm.
#[derive(Debug, Parser)]
#[command(name = "openledger-coordinator", version, about)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the coordinator.
    Run(RunArgs),
    /// Make keys and a configuration template in a folder, and print the public keys.
    Init(InitArgs),
    /// Sign a network profile.
    #[command(subcommand)]
    Profile(ProfileAction),
    /// Fund campaigns.
    #[command(subcommand)]
    Campaign(CampaignAction),
    /// Export the collected documents of a campaign as JSON lines.
    Documents(DocumentsArgs),
    /// List the rule sets of this build, with the ids that profiles name.
    Rules {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show how a running coordinator stands.
    Status(StatusArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Configuration file.
    #[arg(long, env = "OPENLEDGER_COORDINATOR_CONFIG")]
    config: PathBuf,
    /// Stop when standard input reaches its end, as it does when the parent process is gone.
    #[arg(long)]
    exit_with_parent: bool,
    /// Print one JSON object with the addresses once everything runs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct InitArgs {
    /// Folder to make or fill.
    #[arg(long)]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ProfileAction {
    /// Sign a profile's text with the coordinator's node key.
    Sign {
        /// The profile as TOML, not signed yet (a signature at its end is replaced).
        file: PathBuf,
        /// The vault with the key.
        #[arg(long)]
        vault: PathBuf,
        /// Where to write the signed profile; standard output without it.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum CampaignAction {
    /// Fund a campaign described in a TOML or JSON file, or by options and a list of URLs.
    Add(Box<AddArgs>),
}

/// Where a running coordinator is.
#[derive(Debug, Args)]
struct Where {
    /// Configuration file of the coordinator on this machine.
    #[arg(long, env = "OPENLEDGER_COORDINATOR_CONFIG")]
    config: Option<PathBuf>,
    /// Base URL of its API; overrides the configuration's.
    #[arg(long)]
    api: Option<String>,
    /// File with the operator token; overrides the configuration's.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct AddArgs {
    #[command(flatten)]
    at: Where,
    /// The campaign: name, contact, terms, budget, replicas, urls, and [[infer]] sections with
    /// model, adapters, prompts and tokens_max.
    #[arg(required_unless_present = "urls", conflicts_with = "urls")]
    file: Option<PathBuf>,
    /// A file with one URL per line; empty lines and lines with # are skipped.
    #[arg(long, requires_all = ["name", "contact", "budget"])]
    urls: Option<PathBuf>,
    /// Its name.
    #[arg(long)]
    name: Option<String>,
    /// Where a site's owner can complain.
    #[arg(long)]
    contact: Option<String>,
    /// Terms under which the documents are used.
    #[arg(long, default_value = "")]
    terms: String,
    /// Points that it may give away.
    #[arg(long)]
    budget: Option<u64>,
    /// Replicas that fetch each page.
    #[arg(long, default_value_t = 2)]
    replicas: u8,
}

#[derive(Debug, Args)]
struct DocumentsArgs {
    #[command(flatten)]
    at: Where,
    /// Its name, or its id.
    #[arg(long)]
    campaign: String,
    /// Where to write the documents, one JSON object a line; standard output without it, with a
    /// summary on standard error.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    at: Where,
}

/// Parses the command line and runs what it says. Errors fit after "failed to".
///
/// # Errors
/// What the command says.
pub fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        match command.action {
            Action::Run(args) => Box::pin(run::run(args)).await,
            Action::Init(args) => init::init(&args),
            Action::Profile(ProfileAction::Sign { file, vault, out }) => {
                init::sign_profile(&file, &vault, out.as_deref())
            }
            Action::Campaign(CampaignAction::Add(args)) => operate::add_campaign(*args).await,
            Action::Documents(args) => Box::pin(documents::export(args)).await,
            Action::Rules { json } => rules::list(json),
            Action::Status(args) => operate::status(args.at).await,
        }
    })
}

/// Prints an object: as JSON, or as `key: value` lines for people.
fn print(value: &Value, json: bool) -> anyhow::Result<()> {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !json => {
            for (key, value) in fields {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text.push_str(&format!("{key}: {value}\n"));
            }
        }
        value => text = format!("{value}\n"),
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("print the answer")
}
