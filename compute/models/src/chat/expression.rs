//! The expressions within one tag of a template, token by token; see `operators` for what is
//! changed and why.

/// A token of an expression, with its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Blank(&'a str),
    Name(&'a str),
    Number(&'a str),
    Text(&'a str),
    Mark(&'a str),
}

/// The first token of a text, and what follows it.
pub(super) fn next_token<'a>(text: &'a str) -> Result<(Token<'a>, &'a str), String> {
    let first = text.chars().next().ok_or("a tag does not end")?;
    let until = |stop: &dyn Fn(char) -> bool| text.find(stop).unwrap_or(text.len());
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (kind, length): (fn(&'a str) -> Token<'a>, usize) = match first {
        c if c.is_whitespace() => (Token::Blank, until(&|c| !c.is_whitespace())),
        c if c.is_ascii_digit() => (Token::Number, until(&|c| !is_word(c) && c != '.')),
        c if is_word(c) => (Token::Name, until(&|c| !is_word(c))),
        '\'' | '"' => (Token::Text, quoted_length(text, first)?),
        _ => {
            let two = ["==", "!=", "<=", ">=", "**", "//"].iter().any(|m| text.starts_with(m));
            (Token::Mark, if two { 2 } else { first.len_utf8() })
        }
    };
    let (token, after) = text.split_at(length);
    Ok((kind(token), after))
}

/// The length of a quoted text with its quotes.
fn quoted_length(text: &str, quote: char) -> Result<usize, String> {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if character == '\\' {
            is_escaped = true;
        } else if character == quote {
            return Ok(at + 1);
        }
    }
    Err("a quoted text does not end".to_owned())
}

/// What brackets are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Bracket {
    /// None: the tag itself.
    #[default]
    Tag,
    /// `f(…)`
    Call,
    /// `x[…]`
    Subscript,
    /// `(…)`
    Group,
    /// `[…]` and `{…}`
    List,
}

/// What is open at one depth of brackets.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    bracket: Bracket,
    /// Whether a counting call was begun whose argument goes on.
    in_call: bool,
    /// Whether the operand so far holds arithmetic that a filter behind it would tear apart.
    has_arithmetic: bool,
    /// Whether anything stands in it yet.
    has_content: bool,
    /// Whether its first `:` was seen.
    has_colon: bool,
    /// Whether it has a `,`, which makes a list of a group.
    has_comma: bool,
    /// Whether it has a name, so that its value is not known yet.
    has_name: bool,
}

/// Writes an expression with counting calls.
#[derive(Debug)]
pub(super) struct Writer<'a, 'o> {
    out: &'o mut String,
    outer: Vec<Level>,
    level: Level,
    before: Option<Token<'a>>,
    /// Whether a list was just counted: a filter, behind which no part of it can be taken.
    is_made: bool,
}

impl<'a, 'o> Writer<'a, 'o> {
    pub(super) fn new(out: &'o mut String) -> Self {
        Self { out, outer: Vec::new(), level: Level::default(), before: None, is_made: false }
    }

    /// How many brackets are open.
    pub(super) const fn depth(&self) -> usize {
        self.outer.len()
    }

    pub(super) fn push(&mut self, token: Token<'a>) -> Result<(), String> {
        let is_made = std::mem::take(&mut self.is_made);
        match token {
            Token::Blank(blank) => {
                self.out.push_str(blank);
                self.is_made = is_made;
                return Ok(());
            }
            Token::Mark("." | "[" | "(") if is_made => {
                return Err("it takes a part of a list where it is made".to_owned());
            }
            Token::Number(text) | Token::Text(text) => self.out.push_str(text),
            Token::Name(name) => self.name(name),
            Token::Mark(mark) => self.mark(mark)?,
        }
        if !matches!(token, Token::Mark("(" | "[" | "{")) {
            self.level.has_content = true;
        }
        self.before = Some(token);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), String> {
        self.boundary();
        if self.outer.is_empty() { Ok(()) } else { Err(mismatch()) }
    }

    fn name(&mut self, name: &str) {
        let is_word = matches!(name, "and" | "or" | "in" | "if" | "else")
            || (name == "not" && self.before != Some(Token::Name("is")));
        if is_word && self.boundary() {
            self.out.push(' ');
        }
        self.level.has_name = true;
        self.out.push_str(name);
    }

    fn mark(&mut self, mark: &str) -> Result<(), String> {
        let is_operand = self.ends_operand();
        match mark {
            "*" | "**" => return Err(format!("it uses the operator {mark}")),
            "+" | "~" if !is_operand => {
                return Err(format!("it has {mark} with nothing before it"));
            }
            "+" | "~" => {
                self.close_call();
                if self.level.has_arithmetic {
                    return Err("it mixes + or ~ with other arithmetic".to_owned());
                }
                self.out.push_str(if mark == "+" { "|__plus(" } else { "|__join(" });
                self.level.in_call = true;
                return Ok(());
            }
            "-" if is_operand => {
                self.close_call();
                self.level.has_arithmetic = true;
            }
            "-" | "/" | "//" | "%" => self.level.has_arithmetic |= !self.level.in_call,
            "(" | "[" | "{" => {
                self.out.push_str(mark);
                self.open(mark, is_operand);
                return Ok(());
            }
            ")" | "]" | "}" => return self.close(mark),
            ":" => {
                self.boundary();
                let is_slice = self.level.bracket == Bracket::Subscript;
                if is_slice && !std::mem::replace(&mut self.level.has_colon, true) {
                    self.out.push_str(if self.level.has_content { "|__edge" } else { "__edge()" });
                }
            }
            "," => {
                self.boundary();
                self.level.has_comma = true;
            }
            "==" | "!=" | "<" | ">" | "<=" | ">=" | "=" => drop(self.boundary()),
            _ => {}
        }
        self.out.push_str(mark);
        Ok(())
    }

    fn open(&mut self, mark: &str, is_operand: bool) {
        let bracket = match (mark, is_operand) {
            ("(", true) => Bracket::Call,
            ("(", false) => Bracket::Group,
            ("[", true) => Bracket::Subscript,
            _ => Bracket::List,
        };
        self.level.has_content = true;
        self.outer.push(std::mem::replace(&mut self.level, Level { bracket, ..Level::default() }));
    }

    fn close(&mut self, mark: &str) -> Result<(), String> {
        self.boundary();
        self.out.push_str(mark);
        let outer = self.outer.pop().ok_or_else(mismatch)?;
        let inner = std::mem::replace(&mut self.level, outer);
        let makes = match inner.bracket {
            Bracket::List => true,
            Bracket::Group => inner.has_comma,
            Bracket::Tag | Bracket::Call | Bracket::Subscript => false,
        };
        if makes && inner.has_name {
            self.out.push_str("|__made");
            self.is_made = true;
        }
        self.level.has_name |= inner.has_name;
        Ok(())
    }

    /// Closes a counting call; gives whether one was open.
    fn close_call(&mut self) -> bool {
        let was_open = std::mem::take(&mut self.level.in_call);
        if was_open {
            self.out.push(')');
        }
        was_open
    }

    /// The end of an operand of what binds less than `+`; gives whether a call was closed.
    fn boundary(&mut self) -> bool {
        self.level.has_arithmetic = false;
        self.close_call()
    }

    /// Whether an operator here has something to its left.
    fn ends_operand(&self) -> bool {
        match self.before {
            Some(Token::Name(name)) => !matches!(
                name,
                "and" | "or" | "not" | "in" | "if" | "elif" | "else" | "is" | "set" | "for"
            ),
            Some(Token::Number(_) | Token::Text(_)) => true,
            Some(Token::Mark(mark)) => matches!(mark, ")" | "]" | "}"),
            _ => false,
        }
    }
}

fn mismatch() -> String {
    "brackets do not match".to_owned()
}
