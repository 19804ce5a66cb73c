//! From tokens to text that may be shown: whole characters, and nothing of a stop string.

use openledger_models::{Tokenizer, Utf8Stream};

/// The text of one answer as it grows.
#[derive(Debug)]
pub(crate) struct TextStream {
    characters: Utf8Stream,
    stops: Vec<String>,
    /// The end of the text so far, as long as a stop string could still begin in it.
    held: String,
}

/// What a token added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Added {
    /// Text that may be shown now.
    pub(crate) text: String,
    /// A stop string is complete; nothing may follow.
    pub(crate) stopped: bool,
}

impl TextStream {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { characters: Utf8Stream::default(), stops, held: String::new() }
    }

    /// Adds a token.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Added {
        let piece = self.characters.push(tokenizer, token);
        self.add(&piece)
    }

    fn add(&mut self, piece: &str) -> Added {
        self.held.push_str(piece);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(first) = first {
            self.held.truncate(first);
            return Added { text: core::mem::take(&mut self.held), stopped: true };
        }
        let begins = |from: &usize| {
            let tail = self.held.get(*from..).unwrap_or_default();
            !tail.is_empty() && self.stops.iter().any(|stop| stop.starts_with(tail))
        };
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let keep = (from..self.held.len())
            .filter(|at| self.held.is_char_boundary(*at))
            .find(begins)
            .unwrap_or(self.held.len());
        let kept = self.held.split_off(keep);
        Added { text: core::mem::replace(&mut self.held, kept), stopped: false }
    }

    /// The answer ended: what was held back is text after all.
    pub(crate) fn finish(&mut self) -> String {
        let rest = self.characters.finish();
        let added = self.add(&rest);
        if added.stopped { added.text } else { added.text + &core::mem::take(&mut self.held) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown piece by piece, and whether it stopped.
    fn shown(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut stream = TextStream::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut texts = Vec::new();
        for piece in pieces {
            let added = stream.add(piece);
            texts.push(added.text);
            if added.stopped {
                return (texts, true);
            }
        }
        texts.push(stream.finish());
        (texts, false)
    }

    #[test]
    fn stop_strings_never_leak_even_across_pieces() {
        let (texts, stopped) = shown(&["\nUser:"], &["Hello", "\n", "Us", "er", ": more"]);
        assert!(stopped);
        assert_eq!(texts.concat(), "Hello");
        assert_eq!(texts[0], "Hello");
    }

    #[test]
    fn text_that_only_looks_like_a_stop_string_comes_later() {
        let (texts, stopped) = shown(&["###"], &["a#", "#b", "##"]);
        assert!(!stopped);
        assert_eq!(texts, ["a", "##b", "", "##"]);
    }

    #[test]
    fn the_earliest_of_several_stops_counts() {
        let (texts, stopped) = shown(&["world", "lo w"], &["hello world"]);
        assert!(stopped);
        assert_eq!(texts.concat(), "hel");
        let (texts, stopped) = shown(&["aab"], &["aa", "a", "ab"]);
        assert!(stopped);
        assert_eq!(texts.concat(), "aa");
    }

    #[test]
    fn characters_of_several_bytes_are_never_cut() {
        let (texts, stopped) = shown(&["\u{e4}\u{f6}"], &["x\u{e4}", "\u{e4}", "\u{f6}"]);
        assert!(stopped);
        assert_eq!(texts.concat(), "x\u{e4}");
        let (texts, stopped) = shown(&[], &["\u{4f60}", "\u{597d}"]);
        assert!(!stopped);
        assert_eq!(texts, ["\u{4f60}", "\u{597d}", ""]);
    }
}
