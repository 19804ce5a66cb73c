//! Tidy text: one form for spaces, lines and invisible characters.
//!
//! It does not change letters: no normalisation form is applied, because what the page
//! wrote is what the record says.

use unicode_segmentation::UnicodeSegmentation;

/// Tidies text of many lines: line feeds only, no control or invisible characters, no
/// spaces at line ends, at most one empty line in a row, nothing empty around it. Spaces
/// inside and before a line stay, for code.
pub(crate) fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut pending_newlines = 0_u32;
    let mut pending_spaces = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                pending_newlines += 1;
                pending_spaces.clear();
            }
            '\t' => pending_spaces.push('\t'),
            c if c.is_whitespace() => pending_spaces.push(' '),
            c if is_invisible(c) => {}
            c => {
                if !out.is_empty() {
                    let newlines = pending_newlines.min(2);
                    out.extend(std::iter::repeat_n('\n', newlines as usize));
                    out.push_str(&pending_spaces);
                }
                pending_newlines = 0;
                pending_spaces.clear();
                out.push(c);
            }
        }
    }
    out
}

/// Tidies text of one line, such as a title: single spaces, at most `chars_max`
/// characters. `None` when nothing is left.
pub(crate) fn tidy_line(text: &str, chars_max: u32) -> Option<String> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        let word: String = word.chars().filter(|&c| !is_invisible(c)).collect();
        if !word.is_empty() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
    }
    if let Some((end, _)) = line.char_indices().nth(chars_max as usize) {
        line.truncate(end);
        line.truncate(line.trim_end().len());
    }
    (!line.is_empty()).then_some(line)
}

/// Words by UAX #29, without punctuation.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.unicode_words()
}

/// The first `bytes_max` bytes of `text`, cut at a character.
pub(crate) fn head(text: &str, bytes_max: u64) -> &str {
    let end = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    text.get(..text.floor_char_boundary(end)).unwrap_or(text)
}

/// Control characters and those that show nothing but can hide, join or reorder words.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_spaces() {
        assert_eq!(tidy("\n\n  a \r\n\r\n\r\n\r\n    b\u{a0}c \t\n"), "a\n\n    b c");
        assert_eq!(tidy("so\u{ad}ft\u{200b}ly\0 \u{202e}done"), "softly done");
        assert_eq!(tidy(" \n\t "), "");
    }

    #[test]
    fn tidy_is_idempotent() {
        let once = tidy("a\r\rb\u{2028}\u{2028}\u{2028} c\u{feff}\n d");
        assert_eq!(tidy(&once), once);
    }

    #[test]
    fn single_lines_are_cut_at_characters() {
        assert_eq!(tidy_line("  é è \n ê", 4).as_deref(), Some("é è"));
        assert_eq!(tidy_line(" \u{200b} ", 9), None);
    }

    #[test]
    fn heads() {
        assert_eq!(head("aé", 2), "a");
        assert_eq!(head("aé", 3), "aé");
        assert_eq!(head("aé", u64::MAX), "aé");
    }
}
