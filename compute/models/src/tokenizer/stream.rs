//! Text from tokens as they come: a character may be spread over several tokens.

use super::Tokenizer;

/// Holds back the bytes of characters that are not complete yet.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    /// At most three bytes between calls.
    held: Vec<u8>,
}

impl Utf8Stream {
    /// An empty stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// Takes a token and gives the text that is complete now; may be empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> String {
        self.push_bytes(tokenizer.token_bytes(token).unwrap_or_default())
    }

    /// Takes bytes and gives the text that is complete now. What cannot become a character is
    /// U+FFFD.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.held.extend(bytes);
        let mut text = String::new();
        let mut rest = self.held.as_slice();
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    // Without a length it may still become a character.
                    let Some(wrong) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = after.get(wrong..).unwrap_or_default();
                }
            }
        }
        self.held = rest.to_vec();
        text
    }

    /// What is left at the end: U+FFFD if a character was broken off.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_come_whole() {
        let mut stream = Utf8Stream::new();
        let bytes = "a\u{20ac}\u{1f600}".as_bytes();
        let parts: Vec<String> = bytes.iter().map(|b| stream.push_bytes(&[*b])).collect();
        assert_eq!(parts, ["a", "", "", "\u{20ac}", "", "", "", "\u{1f600}"]);
        assert_eq!(stream.push_bytes(b"\xff\xe2\x82x\xf0\x9f"), "\u{fffd}\u{fffd}x");
        assert_eq!((stream.finish(), stream.finish()), ("\u{fffd}".to_owned(), String::new()));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes: Vec<u8>, size in 1usize..5) {
            let mut stream = Utf8Stream::new();
            let mut text: String =
                bytes.chunks(size).map(|chunk| stream.push_bytes(chunk)).collect();
            text += &stream.finish();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
