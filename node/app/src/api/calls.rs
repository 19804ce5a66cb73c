//! Calls of tools in what a model says, found while it is said.
//!
//! Three forms are known, and it is the text that tells which: `<tool_call>` around an object (Hermes,
//! Qwen), an object that is the whole answer (Llama 3), a list of objects that is the whole answer
//! (Mistral). An object is a call if it names a tool of the request. What is no call after all is text.

mod json;

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;

use self::json::{Depth, Head, head};
use super::answer::random_name;

const OPENS: &str = "<tool_call>";
const CLOSES: &str = "</tool_call>";
/// Characters of a call's name: as many as Mistral's templates insist on.
const ID_CHARS: usize = 9;
/// Bytes of what may be a call before it is taken for text: more than any head of one has.
const HEAD_BYTES_MAX: usize = 512;

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Text of the answer.
    Text(String),
    /// A call begins.
    Call {
        /// Which of the answer's calls, from 0.
        index: usize,
        /// Its name.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of a call's arguments, as JSON text.
    Arguments {
        /// Which call.
        index: usize,
        /// The text.
        text: String,
    },
}

/// Where an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    /// Between tags.
    Tags,
    /// It is the answer.
    Nothing,
    /// In a list.
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but blanks so far.
    Begin,
    Text,
    /// At the beginning of an object that may be a call.
    Object(Around),
    /// In an object whose fields come in another order: all of it is needed.
    Whole(Around),
    /// In the arguments of a call.
    Arguments(Around),
    /// Behind the arguments, before the object's end.
    Tail(Around),
    /// Behind the object.
    After(Around),
}

/// Reads an answer.
#[derive(Debug)]
pub(super) struct CallReader {
    tools: BTreeSet<String>,
    state: State,
    /// What is not told yet.
    held: String,
    depth: Depth,
    /// How far `depth` has followed `held`.
    followed: usize,
    calls: usize,
    /// Whether nothing but blanks came since the last call.
    is_bare: bool,
    said: VecDeque<Said>,
}

impl CallReader {
    /// For an answer that may call these tools.
    pub(super) fn new(tools: BTreeSet<String>) -> Self {
        Self {
            tools,
            state: State::Begin,
            held: String::new(),
            depth: Depth::default(),
            followed: 0,
            calls: 0,
            is_bare: false,
            said: VecDeque::new(),
        }
    }

    /// Calls so far.
    pub(super) const fn calls(&self) -> usize {
        self.calls
    }

    /// Takes what was said, and gives what of it is certain now.
    pub(super) fn push(&mut self, text: &str) -> Vec<Said> {
        self.held.push_str(text);
        while self.advance() {}
        self.said.drain(..).collect()
    }

    /// The answer ended: what is left is told as what it is.
    pub(super) fn finish(&mut self) -> Vec<Said> {
        let (rest, state) = (std::mem::take(&mut self.held), self.state);
        match state {
            State::Begin | State::Text => self.text(&rest),
            State::Object(around) | State::Whole(around) if !self.whole(&rest) => {
                let opened = if around == Around::Tags { OPENS } else { "" };
                self.text(&format!("{opened}{rest}"));
            }
            State::Arguments(_) => self.arguments(&rest),
            _ => {}
        }
        self.said.drain(..).collect()
    }

    /// One step; says whether there may be another.
    fn advance(&mut self) -> bool {
        match self.state {
            State::Begin => self.begin(),
            State::Text => self.find_tag(),
            State::Object(around) => self.object(around),
            State::Whole(around) => self.await_whole(around),
            State::Arguments(around) => match self.close() {
                Some(arguments) => {
                    self.arguments(&arguments);
                    self.go(State::Tail(around))
                }
                None => {
                    let some = std::mem::take(&mut self.held);
                    self.followed = 0;
                    self.arguments(&some);
                    false
                }
            },
            State::Tail(around) => {
                // Whatever else the object holds is nobody's.
                self.depth.open = self.depth.open.max(1);
                match self.close() {
                    Some(_) => self.go(State::After(around)),
                    None => false,
                }
            }
            State::After(around) => self.after(around),
        }
    }

    fn go(&mut self, state: State) -> bool {
        self.state = state;
        self.depth = Depth::default();
        self.followed = 0;
        true
    }

    fn begin(&mut self) -> bool {
        let trimmed = self.held.trim_start();
        let mut characters = trimmed.chars().filter(|c| !c.is_whitespace());
        match (characters.next(), characters.next()) {
            (None, _) | (Some('['), None) => false,
            (Some('{'), _) => self.go(State::Object(Around::Nothing)),
            (Some('['), Some('{')) => {
                let from = self.held.find('{').unwrap_or(0);
                self.held.drain(..from);
                self.go(State::Object(Around::List))
            }
            _ => self.go(State::Text),
        }
    }

    fn find_tag(&mut self) -> bool {
        if let Some(at) = self.held.find(OPENS) {
            let before: String = self.held.drain(..at).collect();
            self.held.drain(..OPENS.len());
            self.text(&before);
            return self.go(State::Object(Around::Tags));
        }
        let begins = |from: &usize| {
            let tail = self.held.get(*from..).unwrap_or_default();
            OPENS.starts_with(tail) || (self.is_bare && tail.trim().is_empty())
        };
        let mut places = (0..=self.held.len()).filter(|at| self.held.is_char_boundary(*at));
        let keep = places.find(begins).unwrap_or(self.held.len());
        let sure: String = self.held.drain(..keep).collect();
        self.text(&sure);
        false
    }

    fn object(&mut self, around: Around) -> bool {
        match head(&self.held) {
            Head::Unsure if self.held.len() < HEAD_BYTES_MAX => false,
            Head::Call { name, at } if self.tools.contains(&name) => {
                self.held.drain(..at);
                self.call(name);
                self.go(State::Arguments(around))
            }
            Head::Other { key }
                if around == Around::Tags
                    || matches!(key.as_str(), "name" | "type" | "arguments" | "parameters") =>
            {
                self.go(State::Whole(around))
            }
            _ if around == Around::Tags => self.go(State::Whole(around)),
            _ => self.go(State::Text),
        }
    }

    fn await_whole(&mut self, around: Around) -> bool {
        if around == Around::Tags {
            let Some(at) = self.held.find(CLOSES) else { return false };
            let object: String = self.held.drain(..at).collect();
            if self.whole(&object) {
                return self.go(State::After(around));
            }
            self.held.drain(..CLOSES.len());
            self.text(&format!("{OPENS}{object}{CLOSES}"));
            return self.go(State::Text);
        }
        let Some(object) = self.close() else { return false };
        if self.whole(&object) {
            return self.go(State::After(around));
        }
        self.text(&object);
        self.go(State::Text)
    }

    fn after(&mut self, around: Around) -> bool {
        let trimmed = self.held.trim_start();
        if trimmed.is_empty() || (around == Around::Tags && CLOSES.starts_with(trimmed)) {
            if trimmed != CLOSES {
                return false;
            }
            self.held.clear();
            return self.go(State::Text);
        }
        let (rest, next) = match around {
            Around::Tags => (trimmed.strip_prefix(CLOSES).unwrap_or(trimmed), State::Text),
            Around::Nothing => (trimmed, State::Text),
            Around::List => match trimmed.strip_prefix(',') {
                Some(rest) => (rest, State::Object(around)),
                None => (trimmed.strip_prefix(']').unwrap_or(trimmed), State::Text),
            },
        };
        self.held = rest.to_owned();
        self.go(next)
    }

    /// What is held up to the end of the value that it begins with, once it is there.
    fn close(&mut self) -> Option<String> {
        let fresh = self.held.get(self.followed..).unwrap_or_default();
        match self.depth.end(fresh) {
            Some(end) => {
                let end = self.followed + end;
                self.followed = 0;
                Some(self.held.drain(..end).collect())
            }
            None => {
                self.followed = self.held.len();
                None
            }
        }
    }

    /// Takes an object for a call, if it is one.
    fn whole(&mut self, object: &str) -> bool {
        let Ok(value) = serde_json::from_str::<Value>(object) else { return false };
        let named = value.get("name").and_then(Value::as_str);
        let Some(name) = named.filter(|name| self.tools.contains(*name)) else { return false };
        let arguments = match value.get("arguments").or_else(|| value.get("parameters")) {
            Some(Value::String(text)) => text.clone(),
            Some(arguments) => arguments.to_string(),
            None => "{}".to_owned(),
        };
        self.call(name.to_owned());
        self.arguments(&arguments);
        true
    }

    fn call(&mut self, name: String) {
        let id = random_name().chars().take(ID_CHARS).collect();
        self.said.push_back(Said::Call { index: self.calls, id, name });
        self.calls += 1;
        self.is_bare = true;
    }

    fn arguments(&mut self, text: &str) {
        if !text.is_empty() {
            let index = self.calls.saturating_sub(1);
            self.said.push_back(Said::Arguments { index, text: text.to_owned() });
        }
    }

    /// Text; blanks between calls are none.
    fn text(&mut self, text: &str) {
        let is_blank = text.trim().is_empty();
        let is_nothing = text.is_empty() || (self.is_bare && is_blank);
        if !is_nothing {
            self.is_bare &= is_blank;
            self.said.push_back(Said::Text(text.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and calls, with pieces put together.
    fn read(pieces: &[&str]) -> (String, Vec<(String, String)>) {
        let tools = ["get", "get_weather"].map(str::to_owned).into();
        let mut reader = CallReader::new(tools);
        let mut said: Vec<Said> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
        said.extend(reader.finish());
        let (mut text, mut calls) = (String::new(), Vec::<(String, String)>::new());
        for one in said {
            match one {
                Said::Text(more) => text += &more,
                Said::Call { index, id, name } => {
                    assert_eq!((index, id.len()), (calls.len(), 9));
                    calls.push((name, String::new()));
                }
                Said::Arguments { index, text } => calls[index].1 += &text,
            }
        }
        assert_eq!(reader.calls(), calls.len());
        (text, calls)
    }

    fn call(name: &str, arguments: &str) -> (String, String) {
        (name.to_owned(), arguments.to_owned())
    }

    /// An answer, its text, and its calls.
    type Sample = (&'static str, &'static str, Vec<(String, String)>);

    /// Answers with what they hold.
    fn samples() -> Vec<Sample> {
        vec![
            ("Hello <tool> {x}", "Hello <tool> {x}", vec![]),
            ("  plain", "  plain", vec![]),
            (
                "Let me see.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"a } \\\" {\"}}\n</tool_call>",
                "Let me see.\n",
                vec![call("get_weather", "{\"city\": \"a } \\\" {\"}")],
            ),
            (
                "<tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>\n<tool_call>{\"arguments\":{\"a\":[1]},\"name\":\"get\"}</tool_call> done",
                " done",
                vec![call("get", "{}"), call("get", "{\"a\":[1]}")],
            ),
            (
                "{\"name\": \"get\", \"parameters\": {\"x\": {}}, \"more\": [1]}",
                "",
                vec![call("get", "{\"x\": {}}")],
            ),
            (
                "{\"type\": \"function\", \"name\": \"get\", \"parameters\": {\"x\": 1}}",
                "",
                vec![call("get", "{\"x\":1}")],
            ),
            (
                "{\"name\": \"nobody\", \"parameters\": {}}",
                "{\"name\": \"nobody\", \"parameters\": {}}",
                vec![],
            ),
            ("{\"x\": 5}", "{\"x\": 5}", vec![]),
            ("{\"name\": 5}", "{\"name\": 5}", vec![]),
            (
                " [{\"name\": \"get\", \"arguments\": {\"a\": \"\u{e4}\"}}, {\"name\": \"get_weather\", \"arguments\": {}}]",
                "",
                vec![call("get", "{\"a\": \"\u{e4}\"}"), call("get_weather", "{}")],
            ),
            ("[1, 2]", "[1, 2]", vec![]),
            ("<tool_call>\nnonsense</tool_call>!", "<tool_call>\nnonsense</tool_call>!", vec![]),
            ("<tool_call>\n{\"name\": \"get\"", "<tool_call>\n{\"name\": \"get\"", vec![]),
            (
                "<tool_call>{\"name\": \"get\", \"arguments\": {\"a\": \"cut",
                "",
                vec![call("get", "{\"a\": \"cut")],
            ),
            (
                "<tool_call>{\"name\": \"get\", \"arguments\": \"{\\\"a\\\":1}\"}</tool_call>",
                "",
                vec![call("get", "{\"a\":1}")],
            ),
            ("a <tool_c", "a <tool_c", vec![]),
        ]
    }

    #[test]
    fn calls_of_every_form_are_found_in_one_piece_or_many() {
        for (answer, text, calls) in samples() {
            let whole = read(&[answer]);
            assert_eq!((whole.0.as_str(), &whole.1), (text, &calls), "{answer}");
            let letters: Vec<String> = answer.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            let cut = read(&letters);
            assert_eq!((cut.0.as_str(), &cut.1), (text, &calls), "letter by letter: {answer}");
        }
    }

    #[test]
    fn arguments_come_while_they_are_said() {
        let mut reader = CallReader::new(["get".to_owned()].into());
        let said = reader.push("<tool_call>{\"name\": \"get\", \"arguments\": {\"a");
        assert!(matches!(said[0], Said::Call { index: 0, .. }));
        assert_eq!(said[1], Said::Arguments { index: 0, text: "{\"a".to_owned() });
        assert_eq!(reader.push("\": 1")[0], Said::Arguments { index: 0, text: "\": 1".to_owned() });
        assert_eq!(
            reader.push("}}</tool_call>"),
            [Said::Arguments { index: 0, text: "}".to_owned() }]
        );
        assert_eq!(reader.finish(), []);
    }

    #[test]
    fn where_an_answer_is_cut_does_not_matter() {
        let words = [
            "<tool_call>",
            "</tool_call>",
            "{\"name\": \"get\", ",
            "\"arguments\": ",
            "{\"a\": 1}",
            "}",
            " ",
            "[",
            ",",
            "text",
            "\"",
            "{",
        ];
        let mut number = 1u64;
        let mut next = |below: usize| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (number >> 33) as usize % below
        };
        for _ in 0..3_000 {
            let parts = next(12);
            let answer: String = (0..parts).map(|_| words[next(words.len())]).collect();
            let size = 1 + next(6);
            let pieces: Vec<&str> =
                answer.as_bytes().chunks(size).map(|p| std::str::from_utf8(p).unwrap()).collect();
            assert_eq!(read(&pieces), read(&[&answer]), "{answer:?} by {size}");
        }
    }
}
