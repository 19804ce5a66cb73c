//! A context of thousands of tokens, compared at its last positions.
//!
//! The definition in 64 bits would take an hour for eight thousand tokens. So it is held against
//! the reference of 32 bits after a thousand, which shows how little that one is off; and after
//! eight thousand every other class, and llama.cpp, are held against that reference.

use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use openledger_sim::figures::{Figures, Kind};

use super::exact::Exact;
use super::{Error, PEER, hold, read_logits, rounded, texts};
use crate::limits::{AccuracySizes, LONG, PEER_THREADS};
use crate::peer::{Peer, Request};
use crate::subject::{Class, Subject};

/// Runs it with these classes.
///
/// # Errors
/// A peer or an engine that fails.
pub(super) fn run(
    subject: &Subject,
    classes: &[Class],
    figures: &mut Figures,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let config = subject.model.config();
    let name = &config.architecture;
    let text = |tokens: usize| -> Result<Vec<u32>> {
        let sizes = AccuracySizes { texts: 1, tokens: tokens.min(config.context) };
        Ok(texts(subject, &sizes)?.concat())
    };
    let short = text(LONG.exact_tokens)?;
    let first = short.len().saturating_sub(LONG.compared);
    note(&format!("{name}: {} tokens in 64 bits", short.len()));
    let wanted = Exact::new(&subject.model, None, subject.cores).logits_from(&short, first)?;
    let error = compare(&last_logits(subject, Class::REFERENCE, &short, first)?, &wanted);
    let what = format!("{name}: {} tokens: {}: ", short.len(), Class::REFERENCE.name());
    let relative = rounded(error.relative());
    figures.show(&format!("{what}relative error of logits"), relative, "", Kind::Exact);
    figures.show(
        &format!("{what}divergence"),
        rounded(error.mean_divergence()),
        "nats",
        Kind::Exact,
    );

    let long = text(LONG.tokens)?;
    let first = long.len().saturating_sub(LONG.compared);
    note(&format!("{name}: {} tokens by {}", long.len(), Class::REFERENCE.name()));
    let wanted = last_logits(subject, Class::REFERENCE, &long, first)?;
    let mut errors = Vec::new();
    for class in classes.iter().filter(|class| **class != Class::REFERENCE) {
        note(&format!("{name}: {} tokens by {}", long.len(), class.name()));
        let found = last_logits(subject, *class, &long, first)?;
        errors.push((class.name().to_owned(), compare(&found, &wanted)));
    }
    note(&format!("{name}: {} tokens by llama.cpp", long.len()));
    let folder = tempfile::tempdir().context("make a folder for logits")?;
    let path = folder.path().join("logits");
    let mut peer = Peer::start(&subject.python, &subject.path, PEER_THREADS)?;
    let request = Request::LateLogits { tokens: &long, first, path: &path };
    peer.ask::<serde_json::Value>(&request)?;
    let theirs = read_logits(&path, long.len() - first, config.vocab)?;
    errors.push((PEER.to_owned(), compare(&theirs, &wanted)));
    hold(figures, &format!("{name}: {} tokens", long.len()), &peer.name(), &errors);
    Ok(())
}

fn compare(found: &[Vec<f32>], wanted: &[Vec<f32>]) -> Error {
    let mut error = Error::default();
    found.iter().zip(wanted).for_each(|(found, wanted)| error.add(found, wanted));
    error
}

fn last_logits(
    subject: &Subject,
    class: Class,
    tokens: &[u32],
    first: usize,
) -> Result<Vec<Vec<f32>>> {
    let mut engine = subject.engine_of(class, subject.cores)?;
    let mut found = Vec::new();
    engine.each_logits(tokens, &[], first, &mut |_, logits| {
        found.push(logits.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
