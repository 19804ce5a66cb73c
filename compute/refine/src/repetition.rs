//! Repetition filter of MassiveText (Rae et al. 2021, "Gopher", section A.1.1).
//!
//! All shares are compared as integers. Word sequences are named by ranks, doubling
//! nothing and hashing nothing: the names of n-grams follow from those of (n-1)-grams by
//! one sort, so that no collision and no map order can decide.

use crate::Profile;

/// Whether `text`, of which `words` are the words, repeats itself too much.
pub(crate) fn repeats(text: &str, words: &[&str], profile: &Profile) -> bool {
    let chars = chars(text);
    let paragraphs: Vec<&str> = pieces(text, "\n\n");
    let lines: Vec<&str> = pieces(text, "\n");
    has_duplicate_pieces(&paragraphs, chars, profile)
        || has_duplicate_pieces(&lines, chars, profile)
        || has_duplicate_ngrams(words, chars, profile)
}

fn pieces<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    text.split(separator).map(str::trim).filter(|piece| !piece.is_empty()).collect()
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

/// Whether `part` of `whole` is more than `permille`.
fn exceeds(part: u64, whole: u64, permille: u32) -> bool {
    part * 1_000 > whole * u64::from(permille)
}

fn has_duplicate_pieces(pieces: &[&str], text_chars: u64, profile: &Profile) -> bool {
    let mut order: Vec<&str> = pieces.to_vec();
    order.sort_unstable();
    let (mut repeated, mut repeated_chars) = (0_u64, 0_u64);
    for pair in order.windows(2) {
        if let [first, second] = pair
            && first == second
        {
            repeated += 1;
            repeated_chars += chars(second);
        }
    }
    exceeds(repeated, pieces.len() as u64, profile.duplicate_lines_permille_max)
        || exceeds(repeated_chars, text_chars, profile.duplicate_line_chars_permille_max)
}

fn has_duplicate_ngrams(words: &[&str], text_chars: u64, profile: &Profile) -> bool {
    let lengths: Vec<u64> = words.iter().map(|word| chars(word)).collect();
    let word_names = names_of_words(words);
    let mut names = word_names.clone();
    for n in 2..=10_usize {
        names = names_of_ngrams(&names, &word_names, n);
        let top = n.checked_sub(2).and_then(|at| profile.top_ngram_permille_max.get(at));
        if let Some(&permille) = top
            && exceeds(top_chars(&names, &lengths, n), text_chars, permille)
        {
            return true;
        }
        let duplicate =
            n.checked_sub(5).and_then(|at| profile.duplicate_ngram_permille_max.get(at));
        if let Some(&permille) = duplicate
            && exceeds(duplicate_chars(&names, &lengths, n), text_chars, permille)
        {
            return true;
        }
    }
    false
}

/// For every word its rank among the different words.
fn names_of_words(words: &[&str]) -> Vec<u32> {
    let mut vocabulary: Vec<&str> = words.to_vec();
    vocabulary.sort_unstable();
    vocabulary.dedup();
    let rank = |word: &&str| vocabulary.binary_search(word).map_or(0, |rank| rank as u32);
    words.iter().map(rank).collect()
}

/// Names of the n-grams that start at each word, from those of the (n-1)-grams.
fn names_of_ngrams(shorter: &[u32], word_names: &[u32], n: usize) -> Vec<u32> {
    let last_words = word_names.iter().skip(n - 1);
    let mut keys: Vec<(u32, u32, u32)> = shorter
        .iter()
        .zip(last_words)
        .enumerate()
        .map(|(start, (&prefix, &last))| (prefix, last, start as u32))
        .collect();
    keys.sort_unstable();
    let mut names = vec![0_u32; keys.len()];
    let mut name = 0_u32;
    let mut previous = None;
    for (prefix, last, start) in keys {
        if previous.is_some_and(|seen| seen != (prefix, last)) {
            name += 1;
        }
        previous = Some((prefix, last));
        if let Some(slot) = names.get_mut(start as usize) {
            *slot = name;
        }
    }
    names
}

/// Characters of the n-gram at `start`, spaces between its words included.
fn ngram_chars(lengths: &[u64], start: usize, n: usize) -> u64 {
    let words: u64 = lengths.iter().skip(start).take(n).sum();
    words + n as u64 - 1
}

/// Characters that all occurrences of the most frequent n-gram cover; 0 when none
/// occurs twice. Of equally frequent ones the first in the text counts.
fn top_chars(names: &[u32], lengths: &[u64], n: usize) -> u64 {
    let mut counts = vec![0_u64; names.len()];
    for &name in names {
        if let Some(count) = counts.get_mut(name as usize) {
            *count += 1;
        }
    }
    let count_at = |name: u32| counts.get(name as usize).copied().unwrap_or(0);
    let most = names.iter().map(|&name| count_at(name)).max().unwrap_or(0);
    let first = names.iter().position(|&name| count_at(name) == most);
    match first {
        Some(start) if most > 1 => most * ngram_chars(lengths, start, n),
        _ => 0,
    }
}

/// Characters of n-grams that occurred before; after such a one the scan goes on behind
/// it, so that nothing is counted twice.
fn duplicate_chars(names: &[u32], lengths: &[u64], n: usize) -> u64 {
    let mut seen = vec![false; names.len()];
    let mut total = 0;
    let mut start = 0;
    while let Some(&name) = names.get(start) {
        match seen.get_mut(name as usize) {
            Some(true) => {
                total += ngram_chars(lengths, start, n) + 1 - n as u64;
                start += n;
            }
            Some(slot) => {
                *slot = true;
                start += 1;
            }
            None => start += 1,
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PROFILE_V1, text};

    fn check(text: &str) -> bool {
        let words: Vec<&str> = text::words(text).collect();
        repeats(text, &words, &PROFILE_V1)
    }

    #[test]
    fn repeated_lines_and_paragraphs() {
        let line = "one line that comes again and again\n";
        assert!(check(&line.repeat(5)));
        assert!(!check("every line here differs\nfrom the others in it\nso nothing repeats"));
        assert!(check(&format!("{}\n\n", "word by word it is new").repeat(4)));
    }

    #[test]
    fn repeated_word_sequences() {
        let text = "buy now ".repeat(40);
        assert!(check(&text));
        let fresh: Vec<String> = (0..200).map(|i| format!("w{i}")).collect();
        assert!(!check(&fresh.join(" ")));
    }

    #[test]
    fn names_tell_ngrams_apart() {
        let words = ["a", "b", "a", "b", "c"];
        let one = names_of_words(&words);
        assert_eq!(one, [0, 1, 0, 1, 2]);
        let two = names_of_ngrams(&one, &one, 2);
        assert_eq!(two.len(), 4);
        assert_eq!(two.first(), two.get(2));
        assert_ne!(two.get(1), two.get(3));
        assert_eq!(top_chars(&two, &[1; 5], 2), 2 * 3);
        assert_eq!(duplicate_chars(&two, &[1; 5], 2), 2);
        assert_eq!(names_of_ngrams(&one, &one, 6), Vec::<u32>::new());
    }

    #[test]
    fn short_texts() {
        assert!(!check(""));
        assert!(!check("word"));
    }
}
