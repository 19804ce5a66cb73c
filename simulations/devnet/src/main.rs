//! `openledger-devnet`: a whole real network on one machine.
#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use openledger_devnet::chaos::Chaos;
use openledger_devnet::devnet::{self, Options};
use openledger_devnet::disk;
use openledger_devnet::launch::Size;
use openledger_devnet::limits;

/// A whole real network on one machine: a chain with the contracts, a coordinator, honest nodes
/// and three cheaters, and web sites for them to fetch. Ctrl-C ends all of it.
#[derive(Debug, Parser)]
#[command(name = "openledger-devnet", version)]
struct Arguments {
    /// End once the first vested points of every honest account are claimed on chain
    #[arg(long)]
    once: bool,
    /// Print one JSON object with the figures instead of text
    #[arg(long)]
    json: bool,
    /// Honest nodes
    #[arg(long, default_value_t = limits::NODES, value_name = "N")]
    nodes: usize,
    /// Pages that are fetched and refined
    #[arg(long, default_value_t = limits::PAGES, value_name = "N")]
    pages: usize,
    /// Folder with HTML files to serve; may be repeated [default: those of installed packages]
    #[arg(long, value_name = "FOLDER")]
    site_root: Vec<PathBuf>,
    /// Folder with HTML files to serve whole, as a site of its own, and to collect; may be repeated
    #[arg(long, value_name = "FOLDER")]
    site: Vec<PathBuf>,
    /// Page of a web server that runs on this machine to collect; may be repeated
    #[arg(long, value_name = "URL")]
    seed_url: Vec<String>,
    /// Base model (GGUF) that nodes serve [default: that of OPENLEDGER_MODEL, else none]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Kill processes with `kill -9`, silence and reorganise the chain; ends like --once, with
    /// figures of what was acknowledged and what became of it
    #[arg(long)]
    chaos: bool,
    /// What the faults of --chaos are drawn from
    #[arg(long, default_value_t = 1, value_name = "N", requires = "chaos")]
    seed: u64,
    /// Processes that --chaos kills
    #[arg(long, default_value_t = limits::KILLS, value_name = "N", requires = "chaos")]
    kills: usize,
    /// Folder for keys, data and logs [default: a new one that is removed at the end]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Keep the folder
    #[arg(long)]
    keep: bool,
    /// The anvil binary [default: that of OPENLEDGER_ANVIL, else the one of contracts/solidity]
    #[arg(long, value_name = "FILE")]
    anvil: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nowhere else to say it if standard error is closed.
            let _ =
                writeln!(std::io::stderr(), "openledger-devnet: failed to {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The causes of an error in one sentence; what one already says of the next is said once.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.chaos {
        disk::enter(std::env::args_os().skip(1))?;
    }
    let size = Size {
        nodes: arguments.nodes,
        pages: arguments.pages,
        site_roots: arguments.site_root.clone(),
        sites: arguments.site.clone(),
        seed_urls: arguments.seed_url.clone(),
        model: model(arguments.model.clone())?,
        small_disk: arguments.chaos && disk::is_possible(),
    };
    let fills_disk = size.small_disk;
    let (seed, kills, serves) = (arguments.seed, arguments.kills, size.model.is_some());
    let chaos = Chaos { seed, kills, fills_disk, serves };
    let chaos = arguments.chaos.then_some(chaos);
    devnet::check_size(&size, chaos.as_ref())?;
    let (folder, is_own) = match &arguments.dir {
        Some(folder) => (folder.clone(), false),
        None => {
            (std::env::temp_dir().join(format!("openledger-devnet-{}", std::process::id())), true)
        }
    };
    make_private(&folder)?;
    let folder = folder.canonicalize().context("find the devnet's folder")?;
    let options = Options {
        once: arguments.once || arguments.chaos,
        size,
        folder: folder.clone(),
        anvil: arguments.anvil,
        chaos,
    };
    let json = arguments.json;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let ending = runtime.block_on(Box::pin(devnet::run(&options, |figures, summary| {
        if json {
            println!("{}", serde_json::to_string(figures).context("write the figures")?);
        } else {
            println!("{}{summary}", figures.lines());
            if !options.once {
                println!("the network goes on; Ctrl-C ends it");
            }
        }
        std::io::stdout().flush().context("print the figures")
    })));
    drop(runtime);
    // A run that failed leaves its logs for whoever wants to know why.
    let met = matches!(&ending, Ok(ending) if ending.figures.as_ref().is_none_or(|f| f.ok()));
    if is_own && !arguments.keep && met {
        std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    } else {
        let _ =
            writeln!(std::io::stderr(), "openledger-devnet: everything is in {}", folder.display());
    }
    ending?;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The base model that is named, or none.
fn model(named: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    let set = || std::env::var_os("OPENLEDGER_MODEL").filter(|path| !path.is_empty());
    let Some(path) = named.or_else(|| set().map(PathBuf::from)) else { return Ok(None) };
    let found = path.canonicalize();
    let found = found.with_context(|| format!("find the base model {}", path.display()))?;
    Ok(Some(found))
}

/// Makes the folder, for its owner alone: there are keys in it.
fn make_private(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make {}", folder.display()))
}
