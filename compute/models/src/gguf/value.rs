//! Metadata values.

/// A metadata value. Integers and floats of every width become the widest.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer that is not negative.
    Unsigned(u64),
    /// A negative integer, or one of a signed type.
    Signed(i64),
    /// A float.
    Float(f64),
    /// A flag.
    Flag(bool),
    /// A text.
    Text(String),
    /// A list of bytes (also of flags and of 8-bit integers, as stored).
    Bytes(Vec<u8>),
    /// A list of integers of 16 bits or more.
    Integers(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f64>),
    /// A list of texts.
    Texts(Texts),
}

impl Value {
    /// What it is, for messages.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Flag(_) => "a flag",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "a list of bytes",
            Self::Integers(_) => "a list of integers",
            Self::Floats(_) => "a list of floats",
            Self::Texts(_) => "a list of texts",
        }
    }
}

/// A list of texts in one piece of memory: a vocabulary has a hundred thousand of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    joined: String,
    ends: Vec<u32>,
}

impl Texts {
    /// A list with room for so many texts.
    #[must_use]
    pub fn with_capacity(texts: usize) -> Self {
        Self { joined: String::new(), ends: Vec::with_capacity(texts) }
    }

    /// Adds a text. Gives `false`, and adds nothing, if all together would pass 4 GiB.
    pub fn push(&mut self, text: &str) -> bool {
        let Ok(end) = u32::try_from(self.joined.len().saturating_add(text.len())) else {
            return false;
        };
        self.joined.push_str(text);
        self.ends.push(end);
        true
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at a place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.joined.get(start..end)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Self {
        let mut all = Self::default();
        for text in texts {
            all.push(text);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_in_order() {
        let texts: Texts = ["a", "", "bc", "\u{e9}"].into_iter().collect();
        assert_eq!(texts.len(), 4);
        assert_eq!(texts.iter().collect::<Vec<_>>(), ["a", "", "bc", "\u{e9}"]);
        assert_eq!((texts.get(3), texts.get(4)), (Some("\u{e9}"), None));
        assert!(Texts::default().is_empty());
    }
}
