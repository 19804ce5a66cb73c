//! `openledger up`: consent, identity, network, and then the node.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openledger_swarm::lack_of_room;
use openledger_vault::{Passphrase, UnlockSource, VaultOptions};
use openledger_wire::phrase::Phrase;
use openledger_wire::{NodeId, UnixMs};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Session;
use super::args::UpArgs;
use super::network::told;
use super::out::table;
use crate::conduct::Conduct;
use crate::config::Config;
use crate::data_dir::write_private;
use crate::identity::{Keyring, Statements, ask_passphrase, found_source, unlock_source};
use crate::limits;
use crate::logs;
use crate::network::{Network, NetworkError};
use crate::node::{self, Enrol, RunOptions, wait_for_room};
use crate::time;
use crate::worker::Program;

/// `openledger up`.
pub(super) fn up(
    session: &Session,
    args: UpArgs,
    conduct: Arc<dyn Conduct>,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut first =
        First { session, args: &args, stop: &stop, is_logged: false, is_watched: false };
    let Some(options) = first.options_with_room()? else { return Ok(()) };
    if !first.is_watched {
        watch_parent(args.exit_with_parent, stop.clone());
    }
    runtime.block_on(async { watch_signals(stop) })?;
    Ok(node::run_through(&options, &conduct)?)
}

/// What is done before a node runs, on a disk that may be full: a first start waits for room, as
/// one that ran before does.
struct First<'a> {
    session: &'a Session,
    args: &'a UpArgs,
    stop: &'a CancellationToken,
    is_logged: bool,
    is_watched: bool,
}

impl First<'_> {
    /// Everything that the node starts with; nothing if it was stopped while it waited.
    fn options_with_room(&mut self) -> anyhow::Result<Option<RunOptions>> {
        let folder = self.session.data.path().to_owned();
        loop {
            // Looked at first, so that nothing is left half written where that can be helped.
            let error = match lack_of_room(&folder) {
                Some(_) => None,
                None => match self.options() {
                    Ok(options) => return Ok(Some(options)),
                    Err(error) => Some(error),
                },
            };
            match (lack_of_room(&folder), error) {
                (None, Some(error)) => return Err(error),
                // There is room by now.
                (None, None) => {}
                (Some(lack), _) => {
                    self.session.out.note(&format!("the node waits: {lack}"));
                    if !std::mem::replace(&mut self.is_watched, true) {
                        watch_parent(self.args.exit_with_parent, self.stop.clone());
                    }
                    if !wait_for_room(&folder, self.stop) {
                        return Ok(None);
                    }
                    self.session.out.note("there is room again: the node starts again");
                }
            }
        }
    }

    fn options(&mut self) -> anyhow::Result<RunOptions> {
        let Self { session, args, .. } = *self;
        let mut config = session.config()?;
        if let Some(bind) = args.bind {
            config.network.bind = bind;
        }
        session.data.make("")?;
        session.data.make("logs")?;
        if !self.is_logged {
            let file = logs::LogFile::open(&session.data.log()).context("open the log")?;
            logs::start(&config.log.level, Some(file), false).map_err(anyhow::Error::msg)?;
            self.is_logged = true;
        }
        consent(session, &config, args.accept)?;
        let networks = networks(session, args, &config)?;
        options(session, args, config, networks, self.stop.clone())
    }
}

/// The networks to be in; what their profiles brought is told.
fn networks(
    session: &Session,
    args: &UpArgs,
    config: &Config,
) -> Result<Vec<Network>, NetworkError> {
    let configured = config.network.joined();
    let named = if args.network.is_empty() { &configured } else { &args.network };
    let all = Network::join_all(&session.data, named)?;
    for added in &all {
        if let Some(told) = told(added) {
            session.out.note(&told);
            tracing::info!("{told}");
        }
    }
    Ok(all.into_iter().map(|added| added.network).collect())
}

/// The node's delegation for a network, and the binding of the payout address.
fn enrol(
    network: Network,
    node: NodeId,
    words: Option<&Phrase>,
    now: UnixMs,
) -> anyhow::Result<Enrol> {
    let statements = Statements::of(&network);
    let delegation = statements.delegation(node, words, now)?.with_context(|| {
        format!(
            "join network {}: this node key has no valid delegation there and the 24 words are not on this machine; put them back with `openledger identity restore`",
            network.name()
        )
    })?;
    let mut warnings = Vec::new();
    let left_ms = delegation.1.expires.0.saturating_sub(now.0);
    if left_ms < limits::DELEGATION_RENEW_MS {
        warnings.push(format!(
            "the node key's delegation in network {} ends in {}; renew it with `openledger identity restore`",
            network.name(),
            time::span(left_ms)
        ));
    }
    if statements.binding()?.is_none()
        && let Some(words) = words
    {
        statements.bind_key(words, &words.payout_key()?, now.0)?;
    }
    Ok(Enrol { network, delegation, warnings })
}

/// Keys, delegations and everything else that a node starts with.
fn options(
    session: &Session,
    args: &UpArgs,
    config: Config,
    networks: Vec<Network>,
    stop: CancellationToken,
) -> anyhow::Result<RunOptions> {
    let ring = identity(session, args.accept)?;
    let warnings = ring.warnings();
    let public = Keyring::public(&session.data)?;
    let keys = ring.node_keys()?;
    let words = ring.phrase().ok();
    drop(ring);
    let now = time::now();
    let networks: Vec<Enrol> = networks
        .into_iter()
        .map(|network| enrol(network, public.node, words.as_ref(), now))
        .collect::<anyhow::Result<_>>()?;
    for warning in warnings.iter().chain(networks.iter().flat_map(|one| &one.warnings)) {
        tracing::warn!("{warning}");
    }
    let names: Vec<String> = networks.iter().map(|one| one.network.name().to_owned()).collect();
    let (out, node) = (session.out, public.node);
    let on_ready = move |control: &crate::control::Control| {
        let value = json!({
            "event": "ready", "node": node, "networks": names,
            "control": control.url(), "api": control.api(), "pid": std::process::id(),
        });
        let mut text = format!(
            "node {} is up in {} {}; `openledger status` shows what it does, Ctrl-C stops it",
            node.short(),
            if names.len() == 1 { "network" } else { "networks" },
            names.join(", ")
        );
        if let Some(api) = control.api() {
            text += &format!(
                "\napplications find models at {api} (OpenAI's API); their key is the token in {}",
                control.file().display()
            );
        }
        // A closed standard output is no reason not to work.
        let _ = out.show(&value, |_| text);
    };
    Ok(RunOptions {
        data: session.data.clone(),
        config,
        networks,
        public,
        keys,
        program: Program::current().context("find this program's file")?,
        use_link: !args.no_link,
        proofs_by_gossip: args.cut_link_after_commit,
        warnings,
        stop,
        on_ready: Arc::new(on_ready),
    })
}

/// Shows on the first start what will be used, and asks once.
fn consent(session: &Session, config: &Config, accept: bool) -> anyhow::Result<()> {
    let path = session.data.join("consent.json");
    if path.is_file() {
        return Ok(());
    }
    session.out.note(&uses(session, config));
    if !accept {
        if !io::stdin().is_terminal() {
            bail!(
                "start the node: nobody agreed yet to what it uses, and there is no terminal to ask; add --accept"
            );
        }
        if !ask("Agree and start? [y/N] ")? {
            bail!("start the node: not agreed; change what it uses with `openledger config set`");
        }
    }
    let consent = json!({ "at": time::now(), "version": env!("CARGO_PKG_VERSION") });
    write_private(&path, &serde_json::to_vec_pretty(&consent)?)?;
    Ok(())
}

/// Who may ask this node's models what, in words.
fn calls(config: &Config) -> String {
    let api = &config.api;
    let peers = if api.serve_peers && config.models.share {
        format!("up to {} of peers at a time (api.serve_peers)", api.peer_calls_max)
    } else {
        "none of peers".to_owned()
    };
    let own = match (api.enabled, api.forward) {
        (false, _) => "no applications (api.enabled)",
        (true, true) => {
            "applications of this machine with a key; what it cannot answer, peers do, who see the prompt (api.forward)"
        }
        (true, false) => "applications of this machine with a key; no prompt leaves it",
    };
    format!("{own}; {peers}")
}

/// What the node will use, in words.
fn uses(session: &Session, config: &Config) -> String {
    let row = |name: &str, value: String| vec![format!("  {name}"), value];
    let bind = config.network.bind;
    let text = table(&[
        row(
            "processor",
            format!("{} workers at lowest priority (work.parallel)", config.parallel()),
        ),
        row(
            "memory",
            format!(
                "about 300 MiB; each worker at most {} GiB of address space",
                limits::WORKER_MEMORY_BYTES_MAX >> 30
            ),
        ),
        row(
            "disk",
            format!(
                "at most {} MiB for pages and documents (work.disk_mib_max), in {}",
                config.work.disk_mib_max,
                session.data.path().display()
            ),
        ),
        row(
            "network",
            format!(
                "at most 32 peers in each network joined and {} pages in progress; listens on {bind}; pages are fetched from this machine's address, one request per site and second at most, as robots.txt allows",
                limits::FETCHES_MAX
            ),
        ),
        row("work", format!("{} (work.kinds)", config.work.kinds.join(", "))),
        row("calls", calls(config)),
        row(
            "models",
            format!(
                "where model files are added: {} threads, and memory for the model and {} tokens (models.tokens_max); files are {} with peers (models.share)",
                config.models.threads(),
                config.models.tokens_max,
                if config.models.share { "shared" } else { "not shared" }
            ),
        ),
        row(
            "kept",
            "public web pages, documents made of them, proofs of work; no data of yours leaves"
                .to_owned(),
        ),
    ]);
    format!("This node will use:\n{text}")
}

/// The identity; a new one on the first start.
fn identity(session: &Session, accept: bool) -> anyhow::Result<Keyring> {
    if Keyring::exists(&session.data) {
        let source = unlock_source(&Keyring::path(&session.data))?;
        return Ok(Keyring::open(&session.data, &source)?);
    }
    let phrase = Phrase::generate()?;
    let ring = create_identity(session, &phrase, accept)?;
    if io::stderr().is_terminal() && io::stdin().is_terminal() && !accept {
        session.out.note(&format!(
            "These 24 words are your account. Whoever has them has your earnings; without them nobody can help you. Write them down:\n\n  {}\n",
            *phrase.words()
        ));
        ask("Written down? [y/N] ")?;
    } else {
        session.out.note(
            "a new account was created; `openledger identity words` shows its 24 recovery words: write them down",
        );
    }
    Ok(ring)
}

/// Makes an identity; where the passphrase comes from depends on who is there.
pub(super) fn create_identity(
    session: &Session,
    phrase: &Phrase,
    unattended: bool,
) -> anyhow::Result<Keyring> {
    let vault = Keyring::path(&session.data);
    let source = new_source(&vault, unattended)?;
    let options = VaultOptions::default();
    let was_there = Keyring::exists(&session.data);
    let created = Keyring::create(&session.data, &source, options, phrase, time::now_s());
    if created.is_err() && !was_there {
        // Half an identity, on a disk that ran full meanwhile, is none.
        let _ = std::fs::remove_file(&vault);
    }
    Ok(created?)
}

/// The source of a new vault's passphrase.
pub(super) fn new_source(
    vault: &std::path::Path,
    unattended: bool,
) -> anyhow::Result<UnlockSource> {
    if let Some(source) = found_source(vault)? {
        return Ok(source);
    }
    if unattended || !io::stdin().is_terminal() {
        return Ok(UnlockSource::KeyFile);
    }
    asked_source()
}

/// A new passphrase from a person, or a key file in its place.
pub(super) fn asked_source() -> anyhow::Result<UnlockSource> {
    let first = ask_passphrase(
        "New passphrase for this node's keys (empty: a key file, for unattended starts): ",
    )?;
    if first.is_empty() {
        return Ok(UnlockSource::KeyFile);
    }
    if ask_passphrase("Again: ")? != first {
        bail!("set the passphrase: the two differ; start again");
    }
    Ok(UnlockSource::Passphrase(Passphrase::new(first)))
}

fn ask(question: &str) -> anyhow::Result<bool> {
    let mut terminal = io::stderr();
    terminal.write_all(question.as_bytes())?;
    terminal.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Stops the node when standard input ends: its starter is gone.
fn watch_parent(wanted: bool, stop: CancellationToken) {
    if !wanted {
        return;
    }
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0u8; 256];
        while matches!(stdin.read(&mut buffer), Ok(read) if read > 0) {}
        stop.cancel();
        // If even the runtime hangs, the process still goes.
        std::thread::sleep(limits::STOP_TIME_MAX + Duration::from_secs(1));
        std::process::exit(1);
    });
}

/// The first signal stops in order, the second at once.
fn watch_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for signals")?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(1);
            }
            tracing::info!("stopping; once more stops at once");
            stop.cancel();
        }
    });
    Ok(())
}
