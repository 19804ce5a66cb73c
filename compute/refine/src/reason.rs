//! Why a page did not become a document.
//!
//! A rejection is a result like any other: it is committed to, audited and paid for, so
//! every reason has a stable code that is never reused.

use std::fmt;

/// Why a page did not become a document. The codes are part of the output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u16)]
pub enum Reason {
    /// The answer's status was not 2xx.
    Status = 1,
    /// Neither HTML nor plain text.
    MediaType = 2,
    /// The body is longer than the profile reads.
    TooLarge = 3,
    /// The body has no bytes, or no text was found in it.
    Empty = 4,
    /// No charset turns the bytes into text.
    Charset = 5,
    /// Plain text by name, but full of control characters.
    Binary = 6,
    /// More nodes than the profile allows.
    TooManyNodes = 7,
    /// Elements nested deeper than the profile allows.
    TooDeep = 8,
    /// A tag with more attributes than the profile allows.
    TooManyAttributes = 9,
    /// The extractor failed inside; it does so on every machine.
    Extractor = 10,
    /// Fewer words than the profile asks for.
    TooShort = 11,
    /// More words or bytes of text than the profile allows.
    TooLong = 12,
    /// Neither the text nor the page says which language it is.
    Language = 13,
    /// The mean word is shorter or longer than in prose.
    WordLength = 14,
    /// Too many `#` or ellipses for the number of words.
    Symbols = 15,
    /// Lists, teasers, placeholders or tables of symbols rather than text.
    Boilerplate = 16,
    /// Lines, paragraphs or word sequences that repeat themselves.
    Repetition = 17,
}

impl Reason {
    /// The stable code of this reason.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "the server did not answer with a page",
            Self::MediaType => "neither HTML nor plain text",
            Self::TooLarge => "the body is too large",
            Self::Empty => "no text",
            Self::Charset => "no charset turns the bytes into text",
            Self::Binary => "binary data called text",
            Self::TooManyNodes => "too many nodes",
            Self::TooDeep => "elements nested too deep",
            Self::TooManyAttributes => "too many attributes in a tag",
            Self::Extractor => "the extractor failed",
            Self::TooShort => "too few words",
            Self::TooLong => "too much text",
            Self::Language => "language unknown",
            Self::WordLength => "words too short or too long",
            Self::Symbols => "too many symbols",
            Self::Boilerplate => "boilerplate",
            Self::Repetition => "repetition",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn codes_are_frozen() {
        assert_eq!(Reason::Status.code(), 1);
        assert_eq!(Reason::Extractor.code(), 10);
        assert_eq!(Reason::Repetition.code(), 17);
    }
}
