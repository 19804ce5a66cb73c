//! As much of JSON as is to be known while it is still being said: where a value ends, and how an
//! object begins.

/// Follows the braces of a JSON value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Depth {
    pub(super) open: usize,
    in_text: bool,
    escaped: bool,
}

impl Depth {
    /// Takes characters until all that was opened is closed; says how many bytes that are.
    pub(super) fn end(&mut self, text: &str) -> Option<usize> {
        for (at, c) in text.char_indices() {
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' if self.in_text => self.escaped = true,
                '"' => self.in_text = !self.in_text,
                '{' | '[' if !self.in_text => self.open += 1,
                '}' | ']' if !self.in_text => {
                    self.open = self.open.saturating_sub(1);
                    if self.open == 0 {
                        return Some(at + c.len_utf8());
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// What the beginning of an object tells.
pub(super) enum Head {
    /// More is needed.
    Unsure,
    /// A call of this tool, whose arguments begin at this byte.
    Call { name: String, at: usize },
    /// Something else, with this field first.
    Other { key: String },
}

/// Reads `{"name": "...", "arguments": {`.
pub(super) fn head(text: &str) -> Head {
    let mut rest = text;
    let other = |key: &str| Head::Other { key: key.to_owned() };
    let mut keys = [String::new(), String::new()];
    for (at, key) in keys.iter_mut().enumerate() {
        match literal(&mut rest, if at == 0 { '{' } else { ',' }) {
            Some(true) => {}
            Some(false) => return other(""),
            None => return Head::Unsure,
        }
        match string(&mut rest) {
            Some(Some(found)) => *key = found,
            Some(None) => return other(""),
            None => return Head::Unsure,
        }
        match literal(&mut rest, ':') {
            Some(true) => {}
            Some(false) => return other(""),
            None => return Head::Unsure,
        }
        if at == 0 {
            if key != "name" {
                return other(key);
            }
            match string(&mut rest) {
                Some(Some(found)) => *key = found,
                Some(None) => return other("name"),
                None => return Head::Unsure,
            }
        }
    }
    let [name, field] = keys;
    let value = rest.trim_start();
    match value.chars().next() {
        None => Head::Unsure,
        Some('{') if matches!(field.as_str(), "arguments" | "parameters") => {
            Head::Call { name, at: text.len() - value.len() }
        }
        _ => other("name"),
    }
}

/// Takes a character behind blanks; nothing if there is none yet.
fn literal(rest: &mut &str, wanted: char) -> Option<bool> {
    let trimmed = rest.trim_start();
    let first = trimmed.chars().next()?;
    if first == wanted {
        *rest = trimmed.get(first.len_utf8()..).unwrap_or_default();
    }
    Some(first == wanted)
}

/// Takes a JSON text behind blanks; the inner nothing if there is something else.
fn string(rest: &mut &str) -> Option<Option<String>> {
    let trimmed = rest.trim_start();
    if !trimmed.starts_with('"') {
        return trimmed.chars().next().map(|_| None);
    }
    let mut escaped = false;
    for (at, c) in trimmed.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let (own, after) = trimmed.split_at(at + 1);
                *rest = after;
                return Some(serde_json::from_str(own).ok());
            }
            _ => {}
        }
    }
    None
}
