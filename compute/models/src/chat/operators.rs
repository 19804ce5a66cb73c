//! Makes what a template puts together countable.
//!
//! The template engine runs `a + b` and `[a, b]` by itself, and a template that doubles a text
//! forty times would fill any memory in a few hundred steps. So what grows becomes a call that
//! counts: `a |__plus(b)`, `a |__join(b)` for `~`, `[a, b]|__made`, `x[__edge():2]` for slices,
//! `{% set ns.x = (y)|__made %}` for what is kept in a namespace, `{{ __text(5) }}Hello` for text
//! between tags. `*` is refused, no template needs it; so is the little that cannot be changed
//! without another meaning. After this, whatever a template says, nothing uncounted is left in it.

use super::expression::{Token, Writer, next_token};

/// White space between tags is not counted, so there may not be much of it in one place.
const BLANK_BYTES_MAX: usize = 256;

/// Rewrites a template so that all that it makes can be counted.
///
/// # Errors
/// What about it is not supported.
pub(super) fn rewrite(source: &str) -> Result<String, String> {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = find_tag(rest) {
        let (text, tag) = rest.split_at(at);
        put_text(text, &mut out)?;
        rest = match tag.get(..2).unwrap_or_default() {
            "{{" => put_tag(tag, "}}", &mut out)?,
            "{%" => put_tag(tag, "%}", &mut out)?,
            _ => {
                let end = tag.find("#}").ok_or("a comment does not end")? + 2;
                let (comment, after) = tag.split_at(end);
                out.push_str(comment);
                after
            }
        };
    }
    put_text(rest, &mut out)?;
    Ok(out)
}

fn find_tag(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find('{')?;
        match text.as_bytes().get(at + 1) {
            Some(b'{' | b'%' | b'#') => return Some(at),
            _ => from = at + 1,
        }
    }
}

/// Text between tags, with its count before its first character that is no white space: there it
/// changes nothing in how white space around tags is trimmed.
fn put_text(text: &str, out: &mut String) -> Result<(), String> {
    let blank = text.find(|c: char| !c.is_whitespace()).unwrap_or(text.len());
    if blank > BLANK_BYTES_MAX {
        return Err(format!("{blank} bytes of white space in one place"));
    }
    let (before, after) = text.split_at(blank);
    out.push_str(before);
    if !after.is_empty() {
        out.push_str(&format!("{{{{ __text({}) }}}}", text.len()));
    }
    out.push_str(after);
    Ok(())
}

/// One tag from its opening mark on; gives what follows it.
fn put_tag<'a>(tag: &'a str, close: &str, out: &mut String) -> Result<&'a str, String> {
    let (open, mut rest) = tag.split_at_checked(2).unwrap_or((tag, ""));
    out.push_str(open);
    // The mark for trimming white space is no operator.
    if let Some(trim @ ('-' | '+')) = rest.chars().next() {
        out.push(trim);
        rest = rest.get(1..).unwrap_or_default();
    }
    let mut tokens = Vec::new();
    let mut depth = 0usize;
    let end = loop {
        let closes = |text: &str| depth == 0 && text.starts_with(close);
        let trims = rest.starts_with(['-', '+']) && closes(rest.get(1..).unwrap_or_default());
        if trims || closes(rest) {
            let (end, after) = rest.split_at(close.len() + usize::from(trims));
            rest = after;
            break end;
        }
        let (token, after) = next_token(rest)?;
        match token {
            Token::Mark("(" | "[" | "{") => depth += 1,
            Token::Mark(")" | "]" | "}") => depth = depth.saturating_sub(1),
            _ => {}
        }
        tokens.push(token);
        rest = after;
    };
    match (open, tokens.iter().find(|token| !matches!(token, Token::Blank(_)))) {
        ("{%", Some(Token::Name("raw"))) => return Err("it uses raw blocks".to_owned()),
        ("{%", Some(Token::Name("set"))) => put_set(&tokens, out)?,
        _ => {
            let mut writer = Writer::new(out);
            tokens.iter().try_for_each(|token| writer.push(*token))?;
            writer.finish()?;
        }
    }
    out.push_str(end);
    Ok(rest)
}

/// A `set` tag: what is kept in a namespace outlives its loop, so it is counted as a whole.
fn put_set(tokens: &[Token<'_>], out: &mut String) -> Result<(), String> {
    let is_sign = |token: &Token<'_>| matches!(token, Token::Mark("="));
    let target = tokens.iter().position(is_sign).map_or(tokens.len(), |at| at + 1);
    let (target, value) = tokens.split_at(target);
    let keeps = target.iter().any(|token| matches!(token, Token::Mark("." | "[")));
    let mut writer = Writer::new(out);
    target.iter().try_for_each(|token| writer.push(*token))?;
    writer.finish()?;
    if keeps {
        out.push('(');
    }
    let mut writer = Writer::new(out);
    for token in value {
        if writer.depth() == 0 && matches!(token, Token::Mark(",")) {
            return Err("it sets a list without brackets".to_owned());
        }
        writer.push(*token)?;
    }
    writer.finish()?;
    if keeps {
        out.push_str(")|__made ");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(expression: &str) -> String {
        let source = rewrite(&format!("{{{{{expression}}}}}")).unwrap();
        source[2..source.len() - 2].to_owned()
    }

    #[test]
    fn operators_become_calls() {
        for (from, to) in [
            ("a+b", "a|__plus(b)"),
            ("a ~ 'x+y' ~ b.c", "a |__join( 'x+y' )|__join( b.c)"),
            ("f(a+b, c+d)+e", "f(a|__plus(b), c|__plus(d))|__plus(e)"),
            ("a+b|trim if c+'d' == e else f", "a|__plus(b|trim ) if c|__plus('d' )== e else f"),
            ("a[i-1]", "a[i-1]"),
            ("a[1:]", "a[1|__edge:]"),
            ("a[:n+1]", "a[__edge():n|__plus(1)]"),
            ("a[::-1]", "a[__edge()::-1]"),
            ("{'a': b+c}", "{'a': b|__plus(c)}|__made"),
            ("['a', 'b']", "['a', 'b']"),
            ("[a] + (b)", "[a]|__made |__plus( (b))"),
            ("(a, b)", "(a, b)|__made"),
            ("a in ('x', 'y')", "a in ('x', 'y')"),
            ("a is not none and b", "a is not none and b"),
            ("a+-1", "a|__plus(-1)"),
        ] {
            assert_eq!(tag(from), to, "{from}");
        }
        let set = rewrite("{%- set ns.x = a + b -%}{% set y = [a] %}").unwrap();
        assert_eq!(set, "{%- set ns.x =( a |__plus( b ))|__made -%}{% set y = [a]|__made %}");
    }

    #[test]
    fn text_is_counted_where_it_disturbs_nothing() {
        let found = rewrite("{% if a -%}\n  Hi {{ b }}\n{%- endif %}{# + #}").unwrap();
        assert_eq!(found, "{% if a -%}\n  {{ __text(6) }}Hi {{ b }}\n{%- endif %}{# + #}");
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        for (source, says) in [
            ("{{ 'a' * 1000000 }}", "operator *"),
            ("{% raw %}x{% endraw %}", "raw"),
            ("{{ a - b + c }}", "mixes"),
            ("{% set a = b, b %}", "without brackets"),
            ("{{ [a, b][0] }}", "part of a list"),
            ("{{ a", "does not end"),
            ("{{ 'a }}", "quoted text"),
            ("{# a", "comment"),
            ("{{ a) }}", "brackets"),
            ("{{ + a }}", "nothing before"),
        ] {
            let reason = rewrite(source).unwrap_err();
            assert!(reason.contains(says), "{source}: {reason}");
        }
        assert!(rewrite(&" ".repeat(300)).unwrap_err().contains("white space"));
    }
}
