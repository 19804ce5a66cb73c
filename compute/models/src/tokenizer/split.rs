//! Cuts text into the pieces within which tokens are merged.
//!
//! Each vocabulary was made with a regular expression for this; llama.cpp runs them by hand, and
//! these matchers give its pieces, which are what its models get to see. The rules are named after
//! the family they come from; none of them drops or changes a character.

use super::classes::{LETTER, NUMBER, SPACE, class, is_punctuation};

/// The rules of a vocabulary, `tokenizer.ggml.pre` in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// Each number alone, then as [`Rules::Gpt2`].
    SingleNumbers,
    /// `(?i:'s|'t|…)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3,
    /// As [`Rules::Llama3`], but each number alone.
    Qwen2,
    /// Runs of punctuation, then as [`Rules::Gpt2`], then runs of numbers, then three digits each:
    /// what llama.cpp does for files that do not say.
    Default,
}

impl Rules {
    /// The rules of a name in a file, and whether whole words of the vocabulary are taken before
    /// any merging.
    pub(super) fn named(name: &str) -> Option<(Self, bool)> {
        Some(match name {
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion" => (Self::Gpt2, false),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone"
            | "minerva-7b" => (Self::SingleNumbers, false),
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "pixtral" => (Self::Llama3, true),
            "smaug-bpe" | "dbrx" => (Self::Llama3, false),
            "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "hunyuan" => (Self::Qwen2, false),
            "" | "default" => (Self::Default, false),
            _ => return None,
        })
    }

    /// The rules of a regular expression, as the `tokenizer.json` of their families writes it.
    pub(super) fn of_pattern(pattern: &str) -> Option<Self> {
        /// Contractions in either case, words with the character before them.
        const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|";
        /// Marks with the line breaks behind them, line breaks, spaces.
        const REST: &str = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        const GPT2: &str =
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
        // Some write line breaks as they are.
        let pattern = pattern.replace('\r', r"\r").replace('\n', r"\n");
        if pattern == GPT2 {
            return Some(Self::Gpt2);
        }
        match pattern.strip_prefix(WORDS)?.strip_suffix(REST)? {
            r"\p{N}{1,3}" => Some(Self::Llama3),
            r"\p{N}" => Some(Self::Qwen2),
            _ => None,
        }
    }

    /// Whether files without `add_bos_token` begin a text with the start token.
    pub(super) fn begins_with_bos(name: &str) -> bool {
        matches!(name, "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "pixtral")
    }
}

/// Calls `each` with every piece of the text, in order.
pub(super) fn split<'a>(rules: Rules, text: &'a str, mut each: impl FnMut(&'a str)) {
    let characters: Vec<char> = text.chars().collect();
    let classes: Vec<u8> = characters.iter().map(|character| class(*character)).collect();
    let whole = Span { characters: &characters, classes: &classes };
    let mut rest = text;
    whole.pieces(rules, &mut |length| {
        let bytes = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at_checked(bytes).unwrap_or((rest, ""));
        rest = after;
        each(piece);
    });
}

/// A stretch of text with the classes of its characters. Matchers look no further than its end.
#[derive(Clone, Copy)]
struct Span<'a> {
    characters: &'a [char],
    classes: &'a [u8],
}

impl<'a> Span<'a> {
    fn part(self, start: usize, end: usize) -> Self {
        Self {
            characters: self.characters.get(start..end).unwrap_or_default(),
            classes: self.classes.get(start..end).unwrap_or_default(),
        }
    }

    fn at(self, index: usize) -> Option<char> {
        self.characters.get(index).copied()
    }

    fn is(self, index: usize, wanted: u8) -> bool {
        self.classes.get(index).is_some_and(|class| class & wanted != 0)
    }

    fn is_other(self, index: usize) -> bool {
        self.classes.get(index).is_some_and(|class| *class == 0)
    }

    /// The first index from `start` on where `accepts` fails.
    fn run(self, start: usize, accepts: impl Fn(usize) -> bool) -> usize {
        let mut end = start;
        while end < self.characters.len() && accepts(end) {
            end += 1;
        }
        end
    }

    fn pieces(self, rules: Rules, emit: &mut dyn FnMut(usize)) {
        match rules {
            Rules::Gpt2 => self.each(Self::gpt2, emit),
            Rules::Llama3 => self.each(|span, at| span.llama3(at, 3), emit),
            Rules::Qwen2 => self.each(|span, at| span.llama3(at, 1), emit),
            Rules::SingleNumbers => self
                .isolate(|span, at| span.is(at, NUMBER).then_some(at + 1), &mut |span| {
                    span.each(Self::gpt2, emit)
                }),
            Rules::Default => self.isolate(Self::marks, &mut |span| {
                span.parts(Self::gpt2, &mut |span| {
                    span.isolate(Self::numbers, &mut |span| {
                        span.isolate(Self::three_digits, &mut |span| emit(span.characters.len()));
                    });
                });
            }),
        }
    }

    /// Cuts everything by a matcher that always takes something.
    fn each(self, matcher: impl Fn(Self, usize) -> usize, emit: &mut dyn FnMut(usize)) {
        self.parts(matcher, &mut |part| emit(part.characters.len()));
    }

    fn parts(self, matcher: impl Fn(Self, usize) -> usize, emit: &mut dyn FnMut(Self)) {
        let mut at = 0;
        while at < self.characters.len() {
            let end = matcher(self, at).max(at + 1);
            emit(self.part(at, end));
            at = end;
        }
    }

    /// Cuts out what a matcher finds; what lies between are pieces as well.
    fn isolate(self, matcher: impl Fn(Self, usize) -> Option<usize>, emit: &mut dyn FnMut(Self)) {
        let (mut done, mut at) = (0, 0);
        while at < self.characters.len() {
            let Some(end) = matcher(self, at) else {
                at += 1;
                continue;
            };
            if done < at {
                emit(self.part(done, at));
            }
            emit(self.part(at, end));
            (done, at) = (end, end);
        }
        if done < at {
            emit(self.part(done, at));
        }
    }

    fn gpt2(self, at: usize) -> usize {
        let contraction = self.contraction(at, |character| character);
        contraction
            .or_else(|| self.spaced(at, |span, index| span.is(index, LETTER)))
            .or_else(|| self.spaced(at, |span, index| span.is(index, NUMBER)))
            .or_else(|| self.spaced(at, Self::is_other))
            .unwrap_or_else(|| self.white_space(at))
    }

    fn llama3(self, at: usize, digits_max: usize) -> usize {
        let contraction = self.contraction(at, |character| character.to_ascii_lowercase());
        if let Some(end) = contraction.or_else(|| self.prefixed_word(at)) {
            return end;
        }
        if self.is(at, NUMBER) {
            return self.run(at, |index| index < at + digits_max && self.is(index, NUMBER));
        }
        let is_break = |index| matches!(self.at(index), Some('\r' | '\n'));
        if let Some(end) = self.spaced(at, Self::is_other) {
            return self.run(end, is_break);
        }
        let space = self.run(at, |index| self.is(index, SPACE));
        match (at..space).rev().find(|index| is_break(*index)) {
            Some(last) => last + 1,
            None => self.white_space(at),
        }
    }

    /// `'s|'t|'re|'ve|'m|'ll|'d`
    fn contraction(self, at: usize, fold: impl Fn(char) -> char) -> Option<usize> {
        if self.at(at)? != '\'' {
            return None;
        }
        match (fold(self.at(at + 1)?), self.at(at + 2).map(fold)) {
            ('s' | 't' | 'm' | 'd', _) => Some(at + 2),
            ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(at + 3),
            _ => None,
        }
    }

    /// ` ?x+`
    fn spaced(self, at: usize, accepts: impl Fn(Self, usize) -> bool) -> Option<usize> {
        let start = if self.at(at) == Some(' ') { at + 1 } else { at };
        let end = self.run(start, |index| accepts(self, index));
        (end > start).then_some(end)
    }

    /// `[^\r\n\p{L}\p{N}]?\p{L}+`
    fn prefixed_word(self, at: usize) -> Option<usize> {
        if matches!(self.at(at), Some('\r' | '\n')) || self.is(at, NUMBER) {
            return None;
        }
        let has_letters = self.is(at, LETTER) || self.is(at + 1, LETTER);
        has_letters.then(|| self.run(at + 1, |index| self.is(index, LETTER)))
    }

    /// `\s+(?!\S)|\s+`: the last of several spaces stays with the word behind it.
    fn white_space(self, at: usize) -> usize {
        let end = self.run(at, |index| self.is(index, SPACE));
        if end > at + 1 && end < self.characters.len() { end - 1 } else { end }
    }

    fn marks(self, at: usize) -> Option<usize> {
        let is_mark = |index: usize| {
            self.at(index).is_some_and(|c| {
                matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|') || is_punctuation(c)
            })
        };
        let end = self.run(at, is_mark);
        (end > at).then_some(end)
    }

    fn numbers(self, at: usize) -> Option<usize> {
        let end = self.run(at, |index| self.is(index, NUMBER));
        (end > at).then_some(end)
    }

    fn three_digits(self, at: usize) -> Option<usize> {
        let is_digit = |index| self.at(index).is_some_and(|c: char| c.is_ascii_digit());
        (at..at + 3).all(is_digit).then_some(at + 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(name: &str, text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        split(Rules::named(name).unwrap().0, text, |piece| pieces.push(piece.to_owned()));
        assert_eq!(pieces.concat(), text);
        pieces
    }

    #[test]
    fn gpt2_keeps_a_space_with_its_word() {
        let text = "Hello  world's 123 ?! \n\n x ";
        let wanted = ["Hello", " ", " world", "'s", " 123", " ?!", " \n\n", " x", " "];
        assert_eq!(pieces("gpt-2", text), wanted);
        assert_eq!(pieces("gpt-2", "it'S 'll'"), ["it", "'", "S", " '", "ll", "'"]);
        assert_eq!(pieces("gpt-2", ""), [""; 0]);
    }

    #[test]
    fn smollm_takes_each_number_alone() {
        assert_eq!(pieces("smollm", "a  12x\u{bd}"), ["a", "  ", "1", "2", "x", "\u{bd}"]);
    }

    #[test]
    fn llama3_takes_three_digits_and_line_breaks() {
        let wanted = ["I", "'LL", " pay", " ", "123", "45", "$", " \n\n", " (", "now", ")\n"];
        assert_eq!(pieces("llama-bpe", "I'LL pay 12345$ \n\n (now)\n"), wanted);
        assert_eq!(pieces("qwen2", "12\u{b2}"), ["1", "2", "\u{b2}"]);
        assert_eq!(pieces("llama-bpe", "a \t "), ["a", " \t "]);
        assert_eq!(pieces("llama-bpe", "a \tb"), ["a", " ", "\tb"]);
    }

    #[test]
    fn patterns_of_other_files_name_rules() {
        let llama3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| \
            ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
        assert_eq!(Rules::of_pattern(llama3), Some(Rules::Llama3));
        let qwen2 = llama3.replace("{1,3}", "");
        assert_eq!(Rules::of_pattern(&qwen2), Some(Rules::Qwen2));
        let plain = qwen2.replace("\\r\\n", "\r\n");
        assert_eq!(Rules::of_pattern(&plain), Some(Rules::Qwen2));
        assert_eq!(Rules::of_pattern(&llama3.replace("{1,3}", "{1,4}")), None);
        assert_eq!(Rules::of_pattern("[a-z]+"), None);
    }

    #[test]
    fn the_default_takes_marks_and_digits_apart() {
        assert_eq!(pieces("default", "a+-b 12345"), ["a", "+-", "b", " ", "123", "45"]);
    }
}
