//! Encoding as SentencePiece's BPE does it (Kudo and Richardson 2018): of all neighbours whose
//! texts together are a token, the one of the highest score first, the leftmost of equals; what is
//! no token in the end is written as its bytes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::vocabulary::Vocabulary;

/// How SentencePiece writes a space.
pub(super) const SPACE_MARK: &str = "\u{2581}";

/// The tokens of bytes.
#[derive(Clone, Debug)]
pub(super) struct Scores {
    of_byte: Vec<Option<u32>>,
}

impl Scores {
    /// The token of a byte.
    pub(super) fn of_byte(&self, byte: u8) -> Option<u32> {
        self.of_byte.get(usize::from(byte)).copied().flatten()
    }

    pub(super) fn new(vocabulary: &Vocabulary, unknown: Option<u32>) -> Self {
        let of_byte = (0..=u8::MAX).map(|byte| {
            let fallback = || {
                let alone = byte.is_ascii().then(|| char::from(byte));
                alone.and_then(|c| vocabulary.find(c.encode_utf8(&mut [0; 4])))
            };
            vocabulary.find(&format!("<0x{byte:02X}>")).or_else(fallback).or(unknown)
        });
        Self { of_byte: of_byte.collect() }
    }

    /// Appends the tokens of a stretch of text whose spaces are marked already.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, text: &str, tokens: &mut Vec<u32>) {
        let mut chain = Chain::new(vocabulary, text);
        chain.merge();
        for link in chain.links.iter().filter(|link| link.end > link.start) {
            let piece = text.get(link.start..link.end).unwrap_or_default();
            match vocabulary.find(piece) {
                Some(id) => tokens.push(id),
                None => tokens.extend(piece.bytes().filter_map(|byte| self.of_byte(byte))),
            }
        }
    }
}

/// A possible merge; the heap gives the highest score first, then the leftmost.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when it was found; if they differ, the candidate is void.
    bytes: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// A stretch of the text; empty once it was merged into the one before.
#[derive(Clone, Copy, Debug)]
struct Link {
    start: usize,
    end: usize,
    before: Option<usize>,
    after: Option<usize>,
}

struct Chain<'a> {
    vocabulary: &'a Vocabulary,
    text: &'a str,
    links: Vec<Link>,
    candidates: BinaryHeap<Candidate>,
}

impl<'a> Chain<'a> {
    fn new(vocabulary: &'a Vocabulary, text: &'a str) -> Self {
        let mut links: Vec<Link> = Vec::with_capacity(text.len());
        for (at, (start, character)) in text.char_indices().enumerate() {
            let end = start + character.len_utf8();
            let after = (end < text.len()).then_some(at + 1);
            links.push(Link { start, end, before: at.checked_sub(1), after });
        }
        let mut chain = Self { vocabulary, text, links, candidates: BinaryHeap::new() };
        for right in 1..chain.links.len() {
            chain.consider(Some(right - 1), Some(right));
        }
        chain
    }

    fn link(&self, at: usize) -> Option<Link> {
        self.links.get(at).copied().filter(|link| link.end > link.start)
    }

    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (Some(first), Some(second)) = (self.link(left), self.link(right)) else { return };
        let Some(text) = self.text.get(first.start..second.end) else { return };
        if let Some(id) = self.vocabulary.find(text) {
            let score = self.vocabulary.score(id);
            self.candidates.push(Candidate { score, left, right, bytes: text.len() });
        }
    }

    fn merge(&mut self) {
        while let Some(Candidate { left, right, bytes, .. }) = self.candidates.pop() {
            let (Some(first), Some(second)) = (self.link(left), self.link(right)) else { continue };
            if second.end - first.start != bytes {
                continue;
            }
            if let Some(link) = self.links.get_mut(left) {
                (link.end, link.after) = (second.end, second.after);
            }
            if let Some(link) = self.links.get_mut(right) {
                link.end = link.start;
            }
            if let Some(link) = second.after.and_then(|after| self.links.get_mut(after)) {
                link.before = Some(left);
            }
            self.consider(first.before, Some(left));
            self.consider(Some(left), second.after);
        }
    }
}
