//! Hides addresses of people and machines in text: e-mail and public IPv4.
//!
//! Placeholders are fixed and never match again, so that redacting twice changes
//! nothing. Names, telephone numbers and the like are not found here.

use std::net::Ipv4Addr;

/// What stands where an e-mail address stood.
pub const EMAIL_PLACEHOLDER: &str = "[email]";
/// What stands where a public IPv4 address stood.
pub const ADDRESS_PLACEHOLDER: &str = "[address]";

/// Longest local part and domain of an address (RFC 5321, 4.5.3.1), in bytes.
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;

/// Redacts `text`.
#[must_use]
pub fn redact(text: &str) -> String {
    // In this order: an address that goes can complete the domain of an e-mail before
    // it, never the other way round.
    redact_emails(&redact_addresses(text))
}

/// Replaces e-mail addresses (the common form of RFC 5322 addr-spec, and any script on
/// both sides of the `@`, RFC 6531).
fn redact_emails(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at);
        let after = after.get(1..).unwrap_or_default();
        let local = local_part(before);
        let domain = domain_part(after);
        if local == 0 || domain == 0 {
            out.push_str(before);
            out.push('@');
            rest = after;
        } else {
            out.push_str(before.get(..before.len() - local).unwrap_or_default());
            out.push_str(EMAIL_PLACEHOLDER);
            rest = after.get(domain..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

/// Bytes at the end of `before` that are the local part of an address; 0 for none.
fn local_part(before: &str) -> usize {
    let allowed = |c: char| c.is_alphanumeric() || "._%+-'".contains(c);
    let tail = before.trim_end_matches(allowed);
    let mut local = before.get(tail.len()..).unwrap_or_default();
    // A sentence may end or a quotation begin right before an address.
    local = local.trim_start_matches(['.', '\'', '-']);
    let bare = local.len() > LOCAL_BYTES_MAX || local.ends_with('.');
    if bare { 0 } else { local.len() }
}

/// Bytes at the start of `after` that are the domain of an address; 0 for none.
fn domain_part(after: &str) -> usize {
    let allowed = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
    let rest = after.trim_start_matches(allowed);
    let domain = after.get(..after.len() - rest.len()).unwrap_or_default();
    let domain = domain.trim_end_matches(['.', '-']);
    let Some((host, top)) = domain.rsplit_once('.') else { return 0 };
    let top_ok = top.chars().count() >= 2 && top.chars().all(char::is_alphabetic);
    let punycode = top.starts_with("xn--");
    let labels_ok = !host.is_empty() && !host.split('.').any(str::is_empty);
    let fits = domain.len() <= DOMAIN_BYTES_MAX;
    if (top_ok || punycode) && labels_ok && fits { domain.len() } else { 0 }
}

/// Replaces IPv4 addresses that are reachable from outside; private ones say nothing
/// about anybody and are needed in documentation.
fn redact_addresses(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = ' ';
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, candidate) = rest.split_at(start);
        out.push_str(before);
        previous = before.chars().next_back().unwrap_or(previous);
        let run = candidate.len()
            - candidate.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (run, later) = candidate.split_at(run);
        let number = run.trim_end_matches('.');
        let joined = previous.is_alphanumeric() || "_.".contains(previous);
        let continues = later.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if !joined && !continues && is_public(number) {
            out.push_str(ADDRESS_PLACEHOLDER);
            out.push_str(run.get(number.len()..).unwrap_or_default());
        } else {
            out.push_str(run);
        }
        previous = run.chars().next_back().unwrap_or(previous);
        rest = later;
    }
    out.push_str(rest);
    out
}

/// Whether `text` is a dotted quad outside the special-purpose registry (RFC 6890).
fn is_public(text: &str) -> bool {
    let Ok(address) = text.parse::<Ipv4Addr>() else { return false };
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails() {
        assert_eq!(redact("Mail Jo.Doe+x@mail.example.org."), "Mail [email].");
        assert_eq!(redact("<a@b.co>, 'c-d@e.fr'"), "<[email]>, '[email]'");
        assert_eq!(redact("müller@bücher.de"), "[email]");
        assert_eq!(redact("x@пример.рф y@z.xn--p1ai"), "[email] [email]");
    }

    #[test]
    fn what_is_no_email() {
        for text in
            ["@user", "a @ b", "x@localhost", "git@host:repo", "2@3.4", "a.@b.co", "@", "a@@b"]
        {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(redact("from 8.8.8.8, then (1.1.1.1)."), "from [address], then ([address]).");
        assert_eq!(redact("8.8.4.4:53 and 9.9.9.9/32"), "[address]:53 and [address]/32");
    }

    #[test]
    fn what_is_no_public_address() {
        for text in [
            "10.0.0.1",
            "127.0.0.1",
            "192.168.1.1",
            "172.16.0.9",
            "169.254.1.1",
            "192.0.2.4",
            "1.2.3",
            "1.2.3.4.5",
            "v1.2.3.4",
            "1.2.3.4a",
            "256.1.1.1",
            "08.8.8.8",
            "100.64.0.1",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
