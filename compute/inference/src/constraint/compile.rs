//! From what callers write to what can be followed: within bounds, and once for all who ask for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use openledger_models::Model;

use super::error::{ConstraintError, shortened};
use super::schema::prepared;
use super::source::Constraint;
use super::vocabulary;
use crate::limits::{
    CHOICES_MAX, COMPILE_FUEL_MAX, CONSTRAINT_BYTES_MAX, CONSTRAINTS_KEPT_MAX, GRAMMAR_SYMBOLS_MAX,
    LEXER_STATES_MAX, MASK_FUEL_MAX, MASK_ITEMS_MAX, ROW_ITEMS_MAX,
};

/// A compiled constraint.
pub(crate) struct Grammar {
    /// At the beginning; never advanced.
    begin: Mutex<Matcher>,
    ends: Arc<[u32]>,
}

impl Grammar {
    /// At the beginning, with nothing shared: what one sequence explores neither fills another's
    /// bounds nor waits for it.
    pub(super) fn matcher(&self) -> Matcher {
        locked(&self.begin).deep_clone()
    }

    /// The tokens that end an answer.
    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }
}

/// Compiles constraints for one model, and keeps those of late. Shared between the engine and threads
/// that compile for it, so that its steps need not wait.
pub struct Constraints {
    model: Arc<Model>,
    factory: OnceLock<Result<Factory, ConstraintError>>,
    kept: Mutex<Kept>,
}

struct Factory {
    parsers: ParserFactory,
    ends: Arc<[u32]>,
}

#[derive(Default)]
struct Kept {
    grammars: BTreeMap<[u8; 32], (u64, Arc<Grammar>)>,
    asked: u64,
}

impl core::fmt::Debug for Constraints {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Constraints").field("kept", &self.kept()).finish_non_exhaustive()
    }
}

impl Constraints {
    /// For this model. Nothing is computed before the first constraint.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        Self { model, factory: OnceLock::new(), kept: Mutex::default() }
    }

    /// Compiles a constraint, so that a request with it costs nothing any more when it is submitted.
    ///
    /// # Errors
    /// What in it is not supported, or too large.
    pub fn prepare(&self, constraint: &Constraint) -> Result<(), ConstraintError> {
        self.grammar(constraint).map(|_| ())
    }

    /// Whether a constraint is compiled and kept.
    #[must_use]
    pub fn has(&self, constraint: &Constraint) -> bool {
        locked(&self.kept).grammars.contains_key(&constraint.key())
    }

    /// Compiled constraints that are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        locked(&self.kept).grammars.len()
    }

    /// The compiled constraint.
    ///
    /// # Errors
    /// What in it is not supported, or too large.
    pub(crate) fn grammar(&self, constraint: &Constraint) -> Result<Arc<Grammar>, ConstraintError> {
        let bytes = constraint.bytes();
        if bytes > CONSTRAINT_BYTES_MAX {
            return Err(ConstraintError::TooLarge { bytes });
        }
        let key = constraint.key();
        if let Some(known) = locked(&self.kept).find(&key) {
            return Ok(known);
        }
        let factory = self.factory.get_or_init(|| Factory::new(&self.model)).as_ref();
        let grammar = Arc::new(factory.map_err(Clone::clone)?.compile(constraint)?);
        locked(&self.kept).keep(key, &grammar);
        Ok(grammar)
    }
}

impl Kept {
    fn find(&mut self, key: &[u8; 32]) -> Option<Arc<Grammar>> {
        self.asked += 1;
        let (asked, grammar) = self.grammars.get_mut(key)?;
        *asked = self.asked;
        Some(Arc::clone(grammar))
    }

    fn keep(&mut self, key: [u8; 32], grammar: &Arc<Grammar>) {
        self.grammars.insert(key, (self.asked, Arc::clone(grammar)));
        while self.grammars.len() > CONSTRAINTS_KEPT_MAX {
            let oldest = self.grammars.iter().min_by_key(|(_, (asked, _))| *asked);
            let Some(oldest) = oldest.map(|(key, _)| *key) else { return };
            self.grammars.remove(&oldest);
        }
    }
}

impl Factory {
    fn new(model: &Model) -> Result<Self, ConstraintError> {
        let tokens = vocabulary::environment(model.tokenizer())?;
        let ends = tokens.tok_trie().eos_tokens().into();
        let mut parsers = ParserFactory::new_simple(&tokens).map_err(|error| {
            ConstraintError::Unsupported { reason: shortened(&error.to_string()) }
        })?;
        parsers.quiet();
        *parsers.limits_mut() = ParserLimits {
            max_items_in_row: ROW_ITEMS_MAX,
            initial_lexer_fuel: COMPILE_FUEL_MAX,
            step_lexer_fuel: MASK_FUEL_MAX,
            step_max_items: MASK_ITEMS_MAX,
            max_lexer_states: LEXER_STATES_MAX,
            max_grammar_size: GRAMMAR_SYMBOLS_MAX,
            precompute_large_lexemes: true,
            verbose_errors: false,
        };
        Ok(Self { parsers, ends })
    }

    fn compile(&self, constraint: &Constraint) -> Result<Grammar, ConstraintError> {
        let parser = self.parsers.create_parser(grammar_of(constraint)?);
        let mut matcher = Matcher::new(parser);
        // The first set of tokens tells what the compiler alone does not: whether there is one.
        let first = matcher.compute_mask_or_eos();
        let wrong = first.err().map(|error| error.to_string()).or_else(|| matcher.get_error());
        match wrong {
            Some(reason) if reason.contains("NoExtensionBias") => {
                Err(ConstraintError::Unsupported { reason: "nothing can satisfy it".to_owned() })
            }
            Some(reason) => Err(ConstraintError::Unsupported { reason: shortened(&reason) }),
            None => Ok(Grammar { begin: Mutex::new(matcher), ends: Arc::clone(&self.ends) }),
        }
    }
}

/// The library's words for a constraint.
fn grammar_of(constraint: &Constraint) -> Result<TopLevelGrammar, ConstraintError> {
    Ok(match constraint {
        Constraint::JsonObject => {
            TopLevelGrammar::from_json_schema(prepared(r#"{"type": "object"}"#)?)
        }
        Constraint::JsonSchema(text) => TopLevelGrammar::from_json_schema(prepared(text)?),
        Constraint::Regex(text) => TopLevelGrammar::from_regex(text),
        Constraint::Choice(texts) => {
            let asked = texts.len();
            if !(1..=CHOICES_MAX).contains(&asked) || texts.iter().any(String::is_empty) {
                return Err(ConstraintError::Choices { asked });
            }
            let each: Vec<String> = texts.iter().map(|text| literally(text)).collect();
            TopLevelGrammar::from_regex(&each.join("|"))
        }
        Constraint::Grammar(text) => TopLevelGrammar::from_lark(text.clone()),
        Constraint::Tools(calls) => TopLevelGrammar::from_lark(calls.grammar()?),
    })
}

/// A regular expression that matches this text alone.
fn literally(text: &str) -> String {
    let mut expression = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if c.is_control() {
            expression.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
        } else {
            if c.is_ascii_punctuation() && c != '/' {
                expression.push('\\');
            }
            expression.push(c);
        }
    }
    expression
}

/// A lock whose holder panicked holds nothing half done: entries are put in whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_matched_literally() {
        assert_eq!(literally("a.b\n\u{e4}/"), "a\\.b\\x{a}\u{e4}/");
    }
}
