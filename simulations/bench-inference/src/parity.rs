//! Whether the tokenizer and the engine say what llama.cpp says.
//!
//! The reference is held against llama.cpp on the file's weights with 32-bit activations. As
//! shipped, llama.cpp rounds activations to 8 bits: it is shown how often we agree with that,
//! beside how often llama.cpp does with itself once its cache has another width; and how often
//! what nodes serve with agrees with both.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Result, ensure};
use openledger_inference::Engine;
use openledger_models::{Mapped, SpecialTokens};
use openledger_sim::figures::{Figures, Kind};
use serde::Deserialize;

use crate::limits::{
    EQUAL_PERCENT_MIN, GAP_MAX, PEER_THREADS, POSITIONS_MIN, STRINGS, STRINGS_QUICK,
};
use crate::peer::{Arithmetic, Peer, Predictions, Request};
use crate::sequences::Sequences;
use crate::strings::Strings;
use crate::subject::{Class, Subject};

/// How often another token is the likeliest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Positions compared.
    pub positions: usize,
    /// Those with another token.
    pub misses: usize,
    /// Those among them where the reference's top two are further apart than [`GAP_MAX`].
    pub wide_misses: usize,
    /// The widest gap among them.
    pub widest: f64,
}

impl Agreement {
    /// Compares likeliest tokens with a reference's.
    ///
    /// # Errors
    /// Lists of other lengths than the reference's.
    pub fn between(found: &[Vec<u32>], reference: &Predictions) -> Result<Self> {
        let Predictions { best, gaps } = reference;
        ensure!(
            found.len() == best.len() && found.len() == gaps.len(),
            "compare {} sequences: llama.cpp answered for {}",
            found.len(),
            best.len()
        );
        let mut agreement = Self::default();
        for ((found, best), gaps) in found.iter().zip(best).zip(gaps) {
            let positions = found.len();
            ensure!(
                positions == best.len() && positions == gaps.len(),
                "compare {positions} positions: llama.cpp answered for {}",
                best.len()
            );
            agreement.positions += positions;
            for ((found, best), gap) in found.iter().zip(best).zip(gaps) {
                if found != best {
                    agreement.misses += 1;
                    agreement.wide_misses += usize::from(*gap > GAP_MAX);
                    agreement.widest = agreement.widest.max(*gap);
                }
            }
        }
        Ok(agreement)
    }

    /// Of a hundred positions those with the same token, to two decimals.
    #[must_use]
    pub fn percent(&self) -> f64 {
        let equal = self.positions.saturating_sub(self.misses);
        (equal as f64 / self.positions.max(1) as f64 * 10_000.0).round() / 100.0
    }

    fn is_enough(&self) -> bool {
        self.positions > 0 && self.misses * 100 <= self.positions * (100 - EQUAL_PERCENT_MIN)
    }
}

/// Runs it; `note` hears what is being done.
///
/// # Errors
/// A peer or an engine that fails.
pub fn run(subject: &Subject, quick: bool, note: &mut dyn FnMut(&str)) -> Result<Figures> {
    let mut figures = Figures::new("parity");
    figures.show("model", subject.file_name(), "", Kind::Exact);
    note("starting llama.cpp");
    let mut peer = Peer::start(&subject.python, &subject.path, PEER_THREADS)?;
    figures.show("llama.cpp", peer.name(), "", Kind::Exact);
    tokenizer(subject, &mut peer, quick, &mut figures, note)?;
    let file = Mapped::open(Path::new(&subject.path))?;
    let all = Sequences::of(&file, subject.model.tokenizer())?;
    let sequences = if quick { all.quick() } else { all };
    let tokens = sequences.tokens.as_slice();
    let positions = sequences.positions();
    note(&format!("our reference: {positions} positions"));
    let ours = likeliest(&mut subject.engine_of(Class::REFERENCE, subject.cores)?, tokens)?;
    note(&format!("our engine as shipped: {positions} positions"));
    let served = likeliest(&mut subject.engine_of(Class::CPU, subject.cores)?, tokens)?;
    let mut theirs = |arithmetic, what: &str| {
        note(&format!("llama.cpp {what}: {positions} positions"));
        peer.ask::<Predictions>(&Request::Predict { arithmetic, sequences: tokens })
    };
    let shipped = theirs(Arithmetic::Shipped, "as shipped")?;
    let wide_cache = theirs(Arithmetic::ShippedWideCache, "with a 32-bit cache")?;
    let exact = theirs(Arithmetic::Exact, "with 32-bit activations")?;
    let count = positions as u64;
    if sequences.committed && !quick {
        figures.at_least("positions", count, POSITIONS_MIN);
    } else {
        figures.show("positions", count, "", Kind::Exact);
    }
    hold(&mut figures, &Agreement::between(&ours, &exact)?);
    let itself = Agreement::between(&wide_cache.best, &shipped)?;
    compare(&mut figures, &Agreement::between(&ours, &shipped)?, &itself);
    let served = Agreement::between(&served, &exact)?;
    let theirs = Agreement::between(&shipped.best, &exact)?;
    figures.beside(
        "argmax equal to 32-bit activations, as shipped",
        served.percent(),
        "%",
        Kind::Exact,
        "llama.cpp as shipped",
        theirs.percent(),
    );
    Ok(figures)
}

/// Shows ids that differ, to where somebody looks for the cause.
const SHOWN_MAX: usize = 5;

fn tokenizer(
    subject: &Subject,
    peer: &mut Peer,
    quick: bool,
    figures: &mut Figures,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    #[derive(Deserialize)]
    struct Ids {
        ids: Vec<Vec<u32>>,
    }
    let count = if quick { STRINGS_QUICK } else { STRINGS };
    note(&format!("tokenizers: {count} strings"));
    let strings = Strings::new()?;
    let texts: Vec<String> = (0..count).map(|number| strings.string(number)).collect();
    let theirs = peer.ask::<Ids>(&Request::Tokenize { texts: &texts })?.ids;
    ensure!(
        theirs.len() == texts.len(),
        "compare {} strings: llama.cpp answered for {}",
        texts.len(),
        theirs.len()
    );
    let mut different = 0;
    for (number, (text, theirs)) in texts.iter().zip(&theirs).enumerate() {
        let special = if number % 2 == 1 { SpecialTokens::Parse } else { SpecialTokens::AsText };
        let ours = subject.model.tokenizer().encode(text, special);
        if ours != *theirs {
            different += 1;
            if different <= SHOWN_MAX {
                note(&format!("string {number}, {text:?}: {ours:?}, llama.cpp {theirs:?}"));
            }
        }
    }
    figures.show("strings of all Unicode classes", count, "", Kind::Exact);
    figures.equals("strings with other token ids than llama.cpp's", different, 0);
    Ok(())
}

/// Our likeliest token at each position; the lowest id where some are level.
fn likeliest(engine: &mut Engine, sequences: &[Vec<u32>]) -> Result<Vec<Vec<u32>>> {
    let mut all = Vec::with_capacity(sequences.len());
    for tokens in sequences {
        let mut found = Vec::with_capacity(tokens.len());
        engine.each_logits(tokens, &[], 0, &mut |_, logits| {
            let mut best = (0, f32::NEG_INFINITY);
            for (token, logit) in (0u32..).zip(logits) {
                if *logit > best.1 {
                    best = (token, *logit);
                }
            }
            found.push(best.0);
            ControlFlow::Continue(())
        })?;
        all.push(found);
    }
    Ok(all)
}

/// The bar of parity.
fn hold(figures: &mut Figures, exact: &Agreement) {
    figures.hold(
        "argmax equal, llama.cpp with 32-bit activations",
        exact.percent(),
        "%",
        Kind::Exact,
        format!(">= {EQUAL_PERCENT_MIN}"),
        exact.is_enough(),
    );
    figures.show("misses, 32-bit activations", exact.misses, "", Kind::Exact);
    figures.equals(
        "misses with its top two over 0.1 apart, 32-bit activations",
        exact.wide_misses,
        0,
    );
    let widest = (exact.widest * 10_000.0).round() / 10_000.0;
    figures.show("widest gap at a miss, 32-bit activations", widest, "", Kind::Exact);
}

/// What is shown beside what it could be.
fn compare(figures: &mut Figures, shipped: &Agreement, itself: &Agreement) {
    let peer = "llama.cpp with itself, its cache of 32 bits";
    figures.beside(
        "argmax equal, llama.cpp as shipped, 8-bit activations",
        shipped.percent(),
        "%",
        Kind::Exact,
        peer,
        itself.percent(),
    );
    figures.beside("misses, as shipped", shipped.misses, "", Kind::Exact, peer, itself.misses);
    figures.beside(
        "misses with its top two over 0.1 apart, as shipped",
        shipped.wide_misses,
        "",
        Kind::Exact,
        peer,
        itself.wide_misses,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Predictions {
        let best = vec![(0..100).collect(), (0..100).collect()];
        let mut gaps = vec![vec![1.5; 100], vec![0.05; 100]];
        gaps[1][99] = 0.11;
        Predictions { best, gaps }
    }

    #[test]
    fn near_ties_are_forgiven_up_to_one_in_a_hundred() {
        let reference = reference();
        let mut found = reference.best.clone();
        let held = |found: &[Vec<u32>]| {
            let mut figures = Figures::new("test");
            let agreement = Agreement::between(found, &reference).unwrap();
            hold(&mut figures, &agreement);
            (agreement.percent(), agreement.wide_misses, figures.ok())
        };
        assert_eq!(held(&found), (100.0, 0, true));
        found[1][0] = 7;
        found[1][1] = 7;
        assert_eq!(held(&found), (99.0, 0, true));
        found[1][2] = 7;
        assert_eq!(held(&found), (98.5, 0, false));
        let mut found = reference.best.clone();
        found[1][99] = 7;
        assert_eq!(held(&found), (99.5, 1, false));
    }

    #[test]
    fn answers_of_other_lengths_and_empty_ones_prove_nothing() {
        let reference = reference();
        assert!(Agreement::between(&reference.best[..1], &reference).is_err());
        let mut short = reference.best.clone();
        short[0].pop();
        assert!(Agreement::between(&short, &reference).is_err());
        let nothing = Agreement::between(&[], &Predictions::default()).unwrap();
        assert!(!nothing.is_enough());
    }
}
