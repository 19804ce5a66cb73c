//! Quality filter of MassiveText (Rae et al. 2021, "Gopher", section A.1.1), in
//! integers.
//!
//! It tells prose from lists, code dumps and rubbish. It does not judge truth or style:
//! fluent poison passes, which is what [`mod@crate::fingerprint`] is for. Words are those of
//! UAX #29, whose tables are part of the profile.

use crate::{Profile, Reason, repetition, text};

/// Function words of which an English text uses at least two.
const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

/// Languages written without spaces, whose "words" are single characters here.
const UNSPACED: [&str; 5] = ["cmn", "jpn", "khm", "mya", "tha"];

/// Placeholder text that is in no document on purpose.
const PLACEHOLDER: &str = "lorem ipsum";

/// Counts words and rejects what is no document.
///
/// `language` is an ISO 639-3 code.
///
/// # Errors
/// The first [`Reason`] found, in the order of the checks.
pub fn check(text: &str, language: &str, profile: &Profile) -> Result<u32, Reason> {
    if text.len() as u64 > profile.text_bytes_max {
        return Err(Reason::TooLong);
    }
    let words: Vec<&str> = text::words(text).collect();
    let count = words.len() as u64;
    if count < u64::from(profile.words_min) {
        return Err(Reason::TooShort);
    }
    if count > u64::from(profile.words_max) {
        return Err(Reason::TooLong);
    }
    word_length(&words, language, profile)?;
    symbols(text, count, profile)?;
    boilerplate(text, &words, language, profile)?;
    if repetition::repeats(text, &words, profile) {
        return Err(Reason::Repetition);
    }
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

fn word_length(words: &[&str], language: &str, profile: &Profile) -> Result<(), Reason> {
    let chars: u64 = words.iter().map(|word| word.chars().count() as u64).sum();
    let milli = chars * 1_000 / (words.len() as u64).max(1);
    let too_short = milli < u64::from(profile.word_length_milli_min);
    let too_long = milli > u64::from(profile.word_length_milli_max);
    let wrong = (too_short && !UNSPACED.contains(&language)) || too_long;
    if wrong { Err(Reason::WordLength) } else { Ok(()) }
}

fn symbols(text: &str, words: u64, profile: &Profile) -> Result<(), Reason> {
    let limit = words * u64::from(profile.symbol_permille_max);
    let hashes = text.matches('#').count() as u64;
    let ellipses = (text.matches("...").count() + text.matches('\u{2026}').count()) as u64;
    if hashes.max(ellipses) * 1_000 > limit { Err(Reason::Symbols) } else { Ok(()) }
}

fn boilerplate(
    text: &str,
    words: &[&str],
    language: &str,
    profile: &Profile,
) -> Result<(), Reason> {
    let (mut lines, mut bullets, mut ellipses) = (0_u64, 0_u64, 0_u64);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        lines += 1;
        bullets += u64::from(line.starts_with(['\u{2022}', '-', '*', '\u{2023}']));
        ellipses += u64::from(line.ends_with("...") || line.ends_with('\u{2026}'));
    }
    let letters = words.iter().filter(|word| word.chars().any(char::is_alphabetic)).count() as u64;
    let over = |part: u64, permille: u32| part * 1_000 > lines * u64::from(permille);
    let few_letters =
        letters * 1_000 < words.len() as u64 * u64::from(profile.alphabetic_permille_min);
    let used = |stop: &&&str| words.iter().any(|word| word.eq_ignore_ascii_case(stop));
    let stop_words = STOP_WORDS.iter().filter(used).count() as u64;
    let few_stop_words = language == "eng" && stop_words < u64::from(profile.stop_words_min);
    let rejected = over(bullets, profile.bullet_permille_max)
        || over(ellipses, profile.ellipsis_line_permille_max)
        || few_letters
        || few_stop_words
        || contains_ignore_case(text, PLACEHOLDER);
    if rejected { Err(Reason::Boilerplate) } else { Ok(()) }
}

/// Whether the ASCII `needle` occurs in `text`, in any case.
fn contains_ignore_case(text: &str, needle: &str) -> bool {
    text.as_bytes()
        .windows(needle.len())
        .any(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROFILE_V1;

    const PROSE: &str = "The river rises in the hills to the north of the town and runs past the \
        old mill, where children have learned to swim for as long as anybody can remember. In \
        spring the water is high and brown with soil; by August it is so clear that you can \
        count the stones on its bed. Nobody has built on the meadows beside it, because every \
        ten years or so a flood reminds people whose land it is.";

    fn reason(text: &str) -> Option<Reason> {
        check(text, "eng", &PROFILE_V1).err()
    }

    #[test]
    fn prose_passes() {
        assert_eq!(check(PROSE, "eng", &PROFILE_V1), Ok(78));
    }

    #[test]
    fn each_rule_has_its_reason() {
        assert_eq!(reason("too short"), Some(Reason::TooShort));
        assert_eq!(reason(&"a b c d e f ".repeat(20)), Some(Reason::WordLength));
        assert_eq!(reason(&format!("{PROSE} {}", "# ".repeat(30))), Some(Reason::Symbols));
        assert_eq!(reason(&format!("{PROSE} {}", "wait... ".repeat(12))), Some(Reason::Symbols));
        assert_eq!(reason(&format!("{PROSE} Lorem Ipsum dolor")), Some(Reason::Boilerplate));
        assert_eq!(reason(&format!("{PROSE}\n\n{PROSE}")), Some(Reason::Repetition));
        let numbers: String = (1_000..1_400).map(|n| format!("{n} ")).collect();
        assert_eq!(reason(&format!("{PROSE} {numbers}")), Some(Reason::Boilerplate));
        let teasers: String = (0..30)
            .map(|i| {
                format!(
                    "teaser line number x{i} goes on and on until it has led people to\u{2026}\n"
                )
            })
            .collect();
        assert_eq!(reason(&teasers), Some(Reason::Boilerplate));
        let long = "word ".repeat(100_001);
        assert_eq!(reason(&long), Some(Reason::TooLong));
    }

    #[test]
    fn unspaced_languages_have_no_shortest_word() {
        let text: String = (0x4e00..0x4e64_u32).filter_map(char::from_u32).collect();
        assert_eq!(check(&text, "cmn", &PROFILE_V1), Ok(100));
        assert_eq!(check(&text, "deu", &PROFILE_V1), Err(Reason::WordLength));
    }
}
