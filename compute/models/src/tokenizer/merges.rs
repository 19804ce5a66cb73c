//! Byte-pair encoding of a piece of text (Sennrich et al. 2016, on bytes as in GPT-2): of all
//! neighbours that the vocabulary can merge, the pair of the lowest rank first, the leftmost of
//! equals.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::gguf::{Gguf, required};

use super::bytes;
use super::error::TokenizerError;
use super::vocabulary::Vocabulary;

/// What a piece is made of while it is merged: a token by its id, or a text that is no token
/// (a byte or a half-way merge that the vocabulary lacks), numbered from there on.
pub(super) type Symbol = u32;

/// A pair that can be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Merge {
    left: Symbol,
    right: Symbol,
    rank: u32,
    result: Symbol,
}

/// The merges of a vocabulary.
#[derive(Clone, Debug)]
pub(super) struct Merges {
    /// Sorted by their left sides, then by their right sides.
    merges: Vec<Merge>,
    /// Where the merges of each left side begin.
    starts: Vec<u32>,
    /// The symbol of each byte.
    of_byte: Vec<Symbol>,
    /// What stands for symbols that are no tokens, first of them first.
    stand_ins: Vec<Vec<u32>>,
    tokens: u32,
    takes_whole_words: bool,
}

/// Numbers texts that are no tokens.
struct Symbols<'a> {
    vocabulary: &'a Vocabulary,
    others: BTreeMap<String, Symbol>,
}

impl Symbols<'_> {
    fn of(&mut self, text: &str) -> Symbol {
        if let Some(id) = self.vocabulary.find(text) {
            return id;
        }
        let next = self.vocabulary.len().saturating_add(self.others.len());
        *self.others.entry(text.to_owned()).or_insert(next as Symbol)
    }
}

impl Merges {
    pub(super) fn from_gguf(
        gguf: &Gguf,
        vocabulary: &Vocabulary,
        takes_whole_words: bool,
    ) -> Result<Self, TokenizerError> {
        let key = "tokenizer.ggml.merges";
        let listed = required(key, gguf.texts(key)?)?;
        let pairs = listed.iter().map(sides);
        Ok(Self::new(pairs, vocabulary, takes_whole_words))
    }

    /// From pairs in the order of their ranks; what is no pair leaves its rank unused.
    pub(super) fn new<'a>(
        pairs: impl Iterator<Item = Option<(&'a str, &'a str)>>,
        vocabulary: &Vocabulary,
        takes_whole_words: bool,
    ) -> Self {
        let mut symbols = Symbols { vocabulary, others: BTreeMap::new() };
        let mut merges = Vec::new();
        let mut joined = String::new();
        for (rank, pair) in (0u32..).zip(pairs) {
            let Some((left, right)) = pair else { continue };
            joined.clear();
            joined.extend([left, right]);
            let (left, right) = (symbols.of(left), symbols.of(right));
            merges.push(Merge { left, right, rank, result: symbols.of(&joined) });
        }
        let of_byte =
            bytes::CHARACTERS.iter().map(|c| symbols.of(c.encode_utf8(&mut [0; 4]))).collect();
        // Of two merges of one pair the first counts.
        merges.sort_unstable();
        merges.dedup_by_key(|merge| (merge.left, merge.right));
        let tokens = vocabulary.len() as u32;
        let all = vocabulary.len() + symbols.others.len();
        let starts = starts(&merges, all);
        let stand_ins = stand_ins(symbols);
        Self { merges, starts, of_byte, stand_ins, tokens, takes_whole_words }
    }

    fn find(&self, left: Symbol, right: Symbol) -> Option<Merge> {
        let start = *self.starts.get(left as usize)? as usize;
        let end = *self.starts.get(left as usize + 1)? as usize;
        let of_left = self.merges.get(start..end)?;
        let at = of_left.binary_search_by_key(&right, |merge| merge.right).ok()?;
        of_left.get(at).copied()
    }

    /// Appends the tokens of one piece of text.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, piece: &str, tokens: &mut Vec<u32>) {
        if self.takes_whole_words
            && let Some(id) = vocabulary.find(&bytes::written(piece.as_bytes()))
        {
            tokens.push(id);
            return;
        }
        let of_byte = |byte: &u8| self.of_byte.get(usize::from(*byte)).copied();
        self.merge(piece.as_bytes().iter().map(of_byte), tokens);
    }

    /// Appends the tokens of a text that begins as these symbols.
    pub(super) fn merge(
        &self,
        symbols: impl ExactSizeIterator<Item = Option<Symbol>>,
        tokens: &mut Vec<u32>,
    ) {
        let mut chain = Chain::new(self, symbols);
        chain.merge();
        for symbol in chain.symbols() {
            match symbol.checked_sub(self.tokens) {
                None => tokens.push(symbol),
                Some(other) => {
                    tokens.extend(self.stand_ins.get(other as usize).into_iter().flatten());
                }
            }
        }
    }
}

/// The two sides of a merge, with a space between. A space may be a side's first character, never
/// its last.
pub(super) fn sides(text: &str) -> Option<(&str, &str)> {
    let space = text.char_indices().skip(1).find(|(_, c)| *c == ' ')?;
    let (left, right) = text.split_at(space.0);
    Some((left, right.get(1..).unwrap_or_default()))
}

/// Where the merges of each left side begin, and where the last ones end.
fn starts(merges: &[Merge], symbols: usize) -> Vec<u32> {
    let mut starts = Vec::with_capacity(symbols + 1);
    let mut at = 0;
    for symbol in 0..=symbols {
        while merges.get(at).is_some_and(|merge| (merge.left as usize) < symbol) {
            at += 1;
        }
        starts.push(at as u32);
    }
    starts
}

/// llama.cpp writes a text that is no token byte by byte, where a byte alone is a token's text
/// (which in UTF-8 only ASCII can be), and drops the rest.
fn stand_ins(symbols: Symbols<'_>) -> Vec<Vec<u32>> {
    let mut others: Vec<(Symbol, String)> =
        symbols.others.into_iter().map(|(text, symbol)| (symbol, text)).collect();
    others.sort_unstable();
    let find = |c: char| symbols.vocabulary.find(c.encode_utf8(&mut [0; 4]));
    let ascii = |text: &str| text.chars().filter(char::is_ascii).filter_map(find).collect();
    others.iter().map(|(_, text)| ascii(text)).collect()
}

/// A possible merge in a chain; the heap gives the lowest rank first, then the leftmost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    right: usize,
    /// What stood there when it was found; if it no longer does, the candidate is void.
    found: (Symbol, Symbol),
    result: Symbol,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    symbol: Option<Symbol>,
    before: Option<usize>,
    after: Option<usize>,
}

/// The symbols of one piece, and what can be merged among them.
struct Chain<'a> {
    merges: &'a Merges,
    links: Vec<Link>,
    candidates: BinaryHeap<Reverse<Candidate>>,
}

impl<'a> Chain<'a> {
    fn new(merges: &'a Merges, symbols: impl ExactSizeIterator<Item = Option<Symbol>>) -> Self {
        let last = symbols.len().saturating_sub(1);
        let links = symbols.enumerate().map(|(at, symbol)| Link {
            symbol,
            before: at.checked_sub(1),
            after: (at < last).then_some(at + 1),
        });
        let mut chain = Self { merges, links: links.collect(), candidates: BinaryHeap::new() };
        for right in 1..chain.links.len() {
            chain.consider(Some(right - 1), Some(right));
        }
        chain
    }

    fn symbol(&self, at: usize) -> Option<Symbol> {
        self.links.get(at)?.symbol
    }

    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (Some(first), Some(second)) = (self.symbol(left), self.symbol(right)) else { return };
        if let Some(Merge { rank, result, .. }) = self.merges.find(first, second) {
            let found = (first, second);
            self.candidates.push(Reverse(Candidate { rank, left, right, found, result }));
        }
    }

    fn merge(&mut self) {
        while let Some(Reverse(candidate)) = self.candidates.pop() {
            let Candidate { left, right, found, result, .. } = candidate;
            if self.symbol(left) != Some(found.0) || self.symbol(right) != Some(found.1) {
                continue;
            }
            let after = self.links.get(right).and_then(|link| link.after);
            if let Some(link) = self.links.get_mut(right) {
                link.symbol = None;
            }
            if let Some(link) = after.and_then(|after| self.links.get_mut(after)) {
                link.before = Some(left);
            }
            let Some(link) = self.links.get_mut(left) else { continue };
            (link.symbol, link.after) = (Some(result), after);
            let before = link.before;
            self.consider(before, Some(left));
            self.consider(Some(left), after);
        }
    }

    fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.links.iter().filter_map(|link| link.symbol)
    }
}
