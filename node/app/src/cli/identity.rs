//! `openledger identity …`.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use anyhow::{Context as _, bail};
use openledger_vault::{Passphrase, UnlockSource, VaultOptions};
use openledger_wire::phrase::Phrase;
use openledger_wire::{EvmAddress, NodeId};
use serde_json::json;

use super::Session;
use super::args::{BindArgs, IdentityCommand};
use super::money::secret_key;
use super::out::table;
use super::up::{asked_source, create_identity, new_source};
use crate::identity::{Keyring, Public, Statements, ask_passphrase, unlock_source};
use crate::network::Network;
use crate::time;

/// Variable with the passphrase of an exported file, for unattended use.
const EXPORT_VARIABLE: &str = "OPENLEDGER_EXPORT_PASSPHRASE";

/// Variable with the passphrase to change to, for unattended use.
const NEW_VARIABLE: &str = "OPENLEDGER_NEW_PASSPHRASE";

/// `openledger identity …`.
pub(super) fn identity(session: &Session, command: IdentityCommand) -> anyhow::Result<()> {
    match command {
        IdentityCommand::Show => show(session),
        IdentityCommand::Words { remove } => words(session, remove),
        IdentityCommand::Create { unattended } => {
            create_identity(session, &Phrase::generate()?, unattended)?;
            session
                .out
                .note("`openledger identity words` shows the 24 recovery words: write them down");
            show(session)
        }
        IdentityCommand::Export { file } => export(session, &file),
        IdentityCommand::Import { file } => import(session, &file),
        IdentityCommand::Restore { unattended } => restore(session, unattended),
        IdentityCommand::Passphrase { unattended } => change_passphrase(session, unattended),
        IdentityCommand::Rotate => rotate(session),
        IdentityCommand::Revoke { node } => revoke(session, node),
        IdentityCommand::BindPayout(args) => bind_payout(session, &args),
    }
}

fn open(session: &Session) -> anyhow::Result<Keyring> {
    let path = Keyring::path(&session.data);
    // Without a vault, the error that says so comes before any question.
    if !Keyring::exists(&session.data) {
        Keyring::public(&session.data)?;
    }
    Ok(Keyring::open(&session.data, &unlock_source(&path)?)?)
}

fn show(session: &Session) -> anyhow::Result<()> {
    let public = Keyring::public(&session.data)?;
    session.out.show(&public, |public| {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let words = if public.has_words { "on this machine" } else { "removed from this machine" };
        table(&[
            row("account", public.account.to_string()),
            row("node", public.node.to_string()),
            row("settlement", format!("0x{}", public.settlement)),
            row("default payout", format!("0x{}", public.default_payout)),
            row("24 words", words.to_owned()),
        ])
    })
}

fn words(session: &Session, remove: bool) -> anyhow::Result<()> {
    let mut ring = open(session)?;
    let words = ring.phrase()?.words();
    session.out.show(&json!({ "words": *words }), |_| words.to_string())?;
    if remove {
        ring.remove_words()?;
        session.out.note(
            "the words were removed from this machine; delegations of its keys hold on, at most 180 days",
        );
    }
    Ok(())
}

fn file_passphrase(prompt: &str) -> anyhow::Result<Passphrase> {
    match std::env::var(EXPORT_VARIABLE) {
        Ok(passphrase) => Ok(Passphrase::new(passphrase)),
        Err(_) => Ok(Passphrase::new(
            ask_passphrase(prompt)
                .with_context(|| format!("ask for the file's passphrase ({EXPORT_VARIABLE})"))?,
        )),
    }
}

fn export(session: &Session, file: &Path) -> anyhow::Result<()> {
    let ring = open(session)?;
    let passphrase = file_passphrase("Passphrase for the exported file: ")?;
    ring.export(file, &passphrase)?;
    session.out.show(&json!({ "file": file }), |_| {
        format!("all keys are in {}; run one copy of a node only", file.display())
    })
}

fn import(session: &Session, file: &Path) -> anyhow::Result<()> {
    session.data.make("")?;
    let passphrase = file_passphrase("Passphrase of the exported file: ")?;
    let source = new_source(&Keyring::path(&session.data), false)?;
    Keyring::import(&session.data, file, &passphrase, &source)?;
    show(session)
}

fn restore(session: &Session, unattended: bool) -> anyhow::Result<()> {
    if io::stdin().is_terminal() {
        session.out.note("Type the 24 words, then Enter:");
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("read the words")?;
    let phrase = Phrase::parse(&line)?;
    drop(line);
    if Keyring::exists(&session.data) {
        open(session)?.put_words(&phrase, time::now_s())?;
    } else {
        session.data.make("")?;
        create_identity(session, &phrase, unattended || !io::stdin().is_terminal())?;
    }
    show(session)
}

/// All networks that were joined, or the one that was named.
fn networks(session: &Session, named: Option<&str>) -> anyhow::Result<Vec<Network>> {
    if named.is_some() {
        return Ok(vec![Network::find(&session.data, named)?]);
    }
    let known = Network::known(&session.data);
    known.iter().map(|name| Ok(Network::find(&session.data, Some(name))?)).collect()
}

fn change_passphrase(session: &Session, unattended: bool) -> anyhow::Result<()> {
    let mut ring = open(session)?;
    let source = match std::env::var(NEW_VARIABLE) {
        _ if unattended => UnlockSource::KeyFile,
        Ok(passphrase) => UnlockSource::Passphrase(Passphrase::new(passphrase)),
        Err(_) => asked_source()
            .with_context(|| format!("ask for the new passphrase ({NEW_VARIABLE})"))?,
    };
    ring.change_passphrase(&source, VaultOptions::default())?;
    let in_file = matches!(source, UnlockSource::KeyFile);
    session.out.show(&json!({ "key_file": in_file }), |_| {
        let now = if in_file { "a key file beside the vault" } else { "the new passphrase" };
        format!(
            "this machine's keys are under {now} now; change it too where starts take it from (credential, variable, file or command), and remember that copies of the vault still open with the former one"
        )
    })
}

fn rotate(session: &Session) -> anyhow::Result<()> {
    let mut ring = open(session)?;
    let phrase = ring.phrase()?;
    let former = Keyring::public(&session.data)?.node;
    ring.rotate(time::now_s())?;
    for network in networks(session, None)? {
        Statements::of(&network).revoke(&phrase, former, time::now())?;
    }
    session.out.note(
        "restart the node to use the new key; the revocation of the former one is sent when it connects",
    );
    show(session)
}

fn revoke(session: &Session, node: Option<NodeId>) -> anyhow::Result<()> {
    let ring = open(session)?;
    let phrase = ring.phrase()?;
    let Public { node: own, .. } = Keyring::public(&session.data)?;
    let node = node.unwrap_or(own);
    let networks = networks(session, None)?;
    if networks.is_empty() {
        bail!(
            "revoke a node key: this machine has joined no network yet; run `openledger up` once"
        );
    }
    for network in &networks {
        Statements::of(network).revoke(&phrase, node, time::now())?;
    }
    let names: Vec<&str> = networks.iter().map(Network::name).collect();
    session.out.show(&json!({ "node": node, "networks": names }), |_| {
        format!(
            "{node} is revoked in {}; this is sent as soon as a node of this machine is connected",
            names.join(", ")
        )
    })
}

fn bind_payout(session: &Session, args: &BindArgs) -> anyhow::Result<()> {
    let phrase = open(session)?.phrase()?;
    let network = Network::find(&session.data, args.network.as_deref())?;
    let statements = Statements::of(&network);
    let nonce = args.nonce.unwrap_or(time::now().0);
    let former = statements.binding()?.map(|binding| binding.typed.payout);
    let own = phrase.payout_key()?;
    let key = match &args.key_env {
        Some(name) => {
            let text = std::env::var(name)
                .with_context(|| format!("read the payout key: the variable {name} is not set"))?;
            Some(secret_key(&text)?)
        }
        None if args.address.is_none_or(|address| address == own.address()) => Some(own),
        None => None,
    };
    let binding = match (key, args.address, args.signature) {
        (Some(key), address, None) => {
            if let Some(address) = address.filter(|address| *address != key.address()) {
                bail!("bind payout address 0x{address}: the key is of 0x{}", key.address());
            }
            statements.bind_key(&phrase, &key, nonce)?
        }
        (_, Some(address), Some(signature)) => statements.bind(
            &phrase,
            statements.payout_terms(&phrase, address, nonce)?,
            signature,
        )?,
        (_, Some(address), None) => return print_terms(session, &network, &phrase, address, nonce),
        (_, None, Some(_)) => bail!("bind a payout address: name the address that signed"),
        (None, None, None) => bail!("bind a payout address: name the address"),
    };
    let payout = binding.typed.payout;
    let waits = former.is_some_and(|former| former != payout) && binding.former_signature.is_none();
    let value = json!({ "payout": payout, "network": network.name(), "nonce": nonce });
    session.out.show(&value, |_| {
        let wait = if waits { "; without the former address's signature the change waits" } else { "" };
        let name = network.name();
        format!("OPEN of network {name} goes to 0x{payout}; this is sent as soon as the node is connected{wait}")
    })
}

/// Prints what a wallet has to sign (EIP-712, `eth_signTypedData_v4`).
fn print_terms(
    session: &Session,
    network: &Network,
    phrase: &Phrase,
    address: EvmAddress,
    nonce: u64,
) -> anyhow::Result<()> {
    let terms = Statements::of(network).payout_terms(phrase, address, nonce)?;
    let domain = network.profile.domain();
    let field = |name: &str, kind: &str| json!({ "name": name, "type": kind });
    let typed = json!({
        "types": {
            "EIP712Domain": [
                field("name", "string"), field("version", "string"),
                field("chainId", "uint256"), field("verifyingContract", "address"),
            ],
            "PayoutBinding": [
                field("network", "bytes32"), field("account", "bytes32"),
                field("payout", "address"), field("nonce", "uint64"),
            ],
        },
        "primaryType": "PayoutBinding",
        "domain": {
            "name": "OpenLedger", "version": "1", "chainId": domain.chain_id,
            "verifyingContract": format!("0x{}", domain.contract),
        },
        "message": {
            "network": format!("0x{}", terms.network), "account": format!("0x{}", terms.account),
            "payout": format!("0x{address}"), "nonce": nonce,
        },
    });
    session.out.note(&format!(
        "sign this with the wallet of 0x{address}, then run:\n  openledger identity bind-payout 0x{address} --nonce {nonce} --signature SIGNATURE"
    ));
    session.out.json(&typed)
}
