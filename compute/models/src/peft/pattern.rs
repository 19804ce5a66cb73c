//! The keys of `rank_pattern` and `alpha_pattern`: regular expressions that say which modules they
//! mean.
//!
//! PEFT asks Python whether `(.*\.)?(KEY)$` matches a module's name. Here the part of that language
//! is read that such keys use: characters, `.`, classes, groups with alternatives, and `? * +`.
//! Anything else is refused, because guessing would scale a module wrongly. The search goes back
//! where it must, with a bound on its steps.

use std::cell::Cell;

use crate::limits::{PATTERN_BYTES_MAX, PATTERN_DEPTH_MAX, PATTERN_STEPS_MAX};

/// What stands at one place.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Character(char),
    Any,
    /// Ranges, both ends within; negated or not.
    Class(Vec<(char, char)>, bool),
    Start,
    End,
    Group(Vec<Vec<Item>>),
}

/// A node and how often it may stand there.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    node: Node,
    least: usize,
    most: usize,
}

/// A key, ready to be tried.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern(Vec<Vec<Item>>);

impl Pattern {
    /// Reads a key; nothing if it uses what is not supported.
    pub(super) fn new(key: &str) -> Option<Self> {
        if key.len() > PATTERN_BYTES_MAX {
            return None;
        }
        let characters: Vec<char> = key.chars().collect();
        let mut reader = Reader { characters: &characters, at: 0 };
        let all = reader.alternatives(0)?;
        (reader.at == characters.len()).then_some(Self(all))
    }

    /// Whether it means a module; nothing where finding out takes too many steps.
    pub(super) fn matches(&self, module: &str) -> Option<bool> {
        let text: Vec<char> = module.chars().collect();
        let search = Search { text: &text, steps: Cell::new(PATTERN_STEPS_MAX) };
        let starts = (0..=text.len()).filter(|at| *at == 0 || text.get(at - 1) == Some(&'.'));
        let mut found = false;
        for at in starts {
            found = found || search.group(&self.0, at, &mut |end| end == text.len());
        }
        (search.steps.get() > 0).then_some(found)
    }
}

struct Reader<'a> {
    characters: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    fn takes(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }

    fn alternatives(&mut self, depth: usize) -> Option<Vec<Vec<Item>>> {
        if depth > PATTERN_DEPTH_MAX {
            return None;
        }
        let mut all = vec![Vec::new()];
        while let Some(character) = self.peek().filter(|c| *c != ')') {
            self.at += 1;
            if character == '|' {
                all.push(Vec::new());
                continue;
            }
            let node = self.node(character, depth)?;
            let item = self.repeated(node)?;
            all.last_mut()?.push(item);
        }
        Some(all)
    }

    fn repeated(&mut self, node: Node) -> Option<Item> {
        let (least, most) = match self.peek() {
            Some('?') => (0, 1),
            Some('*') => (0, usize::MAX),
            Some('+') => (1, usize::MAX),
            _ => return Some(Item { node, least: 1, most: 1 }),
        };
        self.at += 1;
        // Lazy and possessive repetition, and repeated repetition.
        let is_plain = !matches!(self.peek(), Some('?' | '*' | '+' | '{'));
        is_plain.then_some(Item { node, least, most })
    }

    fn node(&mut self, character: char, depth: usize) -> Option<Node> {
        Some(match character {
            '.' => Node::Any,
            '^' => Node::Start,
            '$' => Node::End,
            '[' => self.class()?,
            '\\' => match self.next()? {
                'd' => Node::Class(vec![('0', '9')], false),
                'w' => Node::Class(vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')], false),
                escaped if escaped.is_ascii_punctuation() => Node::Character(escaped),
                _ => return None,
            },
            '(' => {
                if self.takes('?') && !self.takes(':') {
                    return None;
                }
                let group = self.alternatives(depth + 1)?;
                if !self.takes(')') {
                    return None;
                }
                Node::Group(group)
            }
            '?' | '*' | '+' | '{' | '}' | ']' => return None,
            plain => Node::Character(plain),
        })
    }

    fn class(&mut self) -> Option<Node> {
        let is_negated = self.takes('^');
        let mut ranges = Vec::new();
        loop {
            let first = match self.next()? {
                ']' if !ranges.is_empty() => return Some(Node::Class(ranges, is_negated)),
                '\\' => match self.next()? {
                    'd' => {
                        ranges.push(('0', '9'));
                        continue;
                    }
                    escaped if escaped.is_ascii_punctuation() => escaped,
                    _ => return None,
                },
                ']' | '[' => return None,
                plain => plain,
            };
            let is_range = self.peek() == Some('-')
                && self.characters.get(self.at + 1).is_some_and(|next| *next != ']');
            let last = if is_range {
                self.at += 1;
                self.next().filter(|last| *last >= first && *last != '\\')?
            } else {
                first
            };
            ranges.push((first, last));
        }
    }
}

/// What follows, asked where a part has matched.
type Then<'a> = &'a mut dyn FnMut(usize) -> bool;

struct Search<'a> {
    text: &'a [char],
    steps: Cell<u32>,
}

impl Search<'_> {
    fn group(&self, alternatives: &[Vec<Item>], at: usize, then: Then<'_>) -> bool {
        alternatives.iter().any(|items| self.items(items, at, then))
    }

    fn items(&self, items: &[Item], at: usize, then: Then<'_>) -> bool {
        match items.split_first() {
            None => then(at),
            Some((item, rest)) => self.item(item, 0, at, &mut |at| self.items(rest, at, then)),
        }
    }

    /// As often as it goes, then less often.
    fn item(&self, item: &Item, done: usize, at: usize, then: Then<'_>) -> bool {
        let Some(steps) = self.steps.get().checked_sub(1) else { return false };
        self.steps.set(steps);
        if done < item.most {
            let again = self.node(&item.node, at, &mut |next| {
                let has_moved = next > at || done < item.least;
                has_moved && self.item(item, done + 1, next, then)
            });
            if again {
                return true;
            }
        }
        done >= item.least && then(at)
    }

    fn node(&self, node: &Node, at: usize, then: Then<'_>) -> bool {
        let here = self.text.get(at);
        let fits = match node {
            Node::Start => return at == 0 && then(at),
            Node::End => return at == self.text.len() && then(at),
            Node::Group(alternatives) => return self.group(alternatives, at, then),
            Node::Any => here.is_some(),
            Node::Character(wanted) => here == Some(wanted),
            Node::Class(ranges, is_negated) => here.is_some_and(|here| {
                ranges.iter().any(|(first, last)| (first..=last).contains(&here)) != *is_negated
            }),
        };
        fits && then(at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "model.layers.13.self_attn.q_proj";

    fn is_match(key: &str, module: &str) -> bool {
        Pattern::new(key).unwrap().matches(module).unwrap()
    }

    #[test]
    fn keys_mean_what_they_mean_to_python() {
        for key in [
            "q_proj",
            "self_attn.q_proj",
            "model.layers.13.self_attn.q_proj",
            "^model.layers.13.self_attn.q_proj",
            r"layers\.\d+\.self_attn\.(q|v)_proj",
            r".*\.(1[0-9]|2[0-3])\..*q_proj",
            "[qkv]_proj",
            "[^k]_proj$",
            "(?:self_attn.)?q_proj",
            "q_.*",
            ".*",
            "a|q_proj",
            r"layers\.1\w\.[\w]?self_attn.+",
        ] {
            if key.contains("[\\w]") {
                assert!(Pattern::new(key).is_none(), "{key}");
            } else {
                assert!(is_match(key, MODULE), "{key}");
            }
        }
        for key in
            ["proj", "q_pro", "_proj", "layers.1.self_attn.q_proj", "^q_proj", "[^q]_proj", "x*"]
        {
            assert!(!is_match(key, MODULE), "{key}");
        }
        assert!(is_match("q.proj", MODULE), "a dot is any character");
    }

    #[test]
    fn what_is_not_supported_is_nothing() {
        for key in [
            "(?!q)_proj",
            "(q",
            "q)",
            "[q",
            "q{2}",
            "*q",
            "q**",
            "q+?",
            r"\1",
            r"\b",
            "[]",
            "[z-a]",
            "[a-\\d]",
        ] {
            assert_eq!(Pattern::new(key), None, "{key}");
        }
        assert_eq!(Pattern::new(&"(".repeat(600)), None);
        assert_eq!(Pattern::new(&"(".repeat(100)), None);
    }

    #[test]
    fn searching_ends() {
        let slow = Pattern::new("(a*)*(a*)*(a*)*(a*)*b").unwrap();
        assert_eq!(slow.matches(&"a".repeat(60)), None);
    }
}
