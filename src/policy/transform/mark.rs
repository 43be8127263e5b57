//! What tells changed bodies of one thing apart: the rules, and what those read of the request.

use std::hash::Hasher;

use http::{HeaderMap, HeaderName, header};
use siphasher::sip::SipHasher13;

use super::Facts;
use crate::policy::key::Part;

/// One side's rules, and what they read.
#[derive(Debug)]
pub struct Mark {
    /// A hash of their text: other rules are another one, also after a reload or on another host.
    rules: u64,
    reads: Vec<Read>,
}

/// Something of the request that is not in its address.
#[derive(Debug, Clone, PartialEq)]
enum Read {
    Part(Part),
    /// Who it is.
    Identity,
    /// Nobody can tell what of it: all.
    All,
}

impl Mark {
    /// Of rules that put in these parts.
    pub(super) fn of_parts<'p>(text: &str, parts: impl Iterator<Item = &'p Part>) -> Self {
        let reads = parts.filter(|part| !matches!(part, Part::Param(_) | Part::Host | Part::Route | Part::Operation));
        Self { rules: hash(|to| put(to, text.as_bytes())), reads: reads.cloned().map(Read::Part).collect() }
    }

    /// Of a template.
    pub(super) fn of_template(text: &str, template: &str) -> Self {
        let rules = hash(|to| {
            put(to, text.as_bytes());
            put(to, template.as_bytes());
        });
        Self { rules, reads: reads(template) }
    }

    /// What is put behind a validator of the target.
    pub fn text(&self, facts: &Facts<'_>) -> String {
        let mark = hash(|to| {
            to.write_u64(self.rules);
            self.reads.iter().for_each(|read| read.put(to, facts));
        });
        format!("~{mark:016x}")
    }

    /// Names for `Vary`: the fields that it reads; `*` where it reads something else.
    pub fn vary(&self) -> impl Iterator<Item = &str> {
        self.reads.iter().map(|read| match read {
            Read::Part(Part::Header(name)) => name.as_str(),
            Read::Part(Part::Cookie(_)) => "cookie",
            _ => "*",
        })
    }
}

impl Read {
    fn put(&self, to: &mut SipHasher13, facts: &Facts<'_>) {
        match self {
            Self::Part(part) => match facts.value(part) {
                Some(value) => put(to, value.to_string().as_bytes()),
                None => to.write_u64(u64::MAX),
            },
            Self::Identity => identity(to, facts),
            Self::All => {
                identity(to, facts);
                put(to, facts.request.client().to_string().as_bytes());
                fields(to, facts.request.headers());
            }
        }
    }
}

fn identity(to: &mut SipHasher13, facts: &Facts<'_>) {
    let Some(identity) = facts.identity else { return };
    put(to, identity.consumer.as_deref().unwrap_or_default().as_bytes());
    if let Some(claims) = &identity.claims {
        put(to, serde_json::to_string(&**claims).unwrap_or_default().as_bytes());
    }
}

/// All but those by which the client asks for this very mark.
fn fields(to: &mut SipHasher13, all: &HeaderMap) {
    let asks = [header::IF_NONE_MATCH, header::IF_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];
    let mut all: Vec<_> = all.iter().filter(|(name, _)| !asks.contains(name)).collect();
    all.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    for (name, value) in all {
        put(to, name.as_str().as_bytes());
        put(to, value.as_bytes());
    }
}

fn put(to: &mut SipHasher13, bytes: &[u8]) {
    to.write_usize(bytes.len());
    to.write(bytes);
}

fn hash(of: impl FnOnce(&mut SipHasher13)) -> u64 {
    let mut to = SipHasher13::new();
    of(&mut to);
    to.finish()
}

/// What a template reads, as far as its text shows that; more rather than less.
fn reads(template: &str) -> Vec<Read> {
    let mut found = Vec::new();
    let mut add = |read: Read| {
        if !found.contains(&read) {
            found.push(read);
        }
    };
    let mut rest = template;
    while let Some((word, after)) = next_word(rest) {
        rest = after;
        match word {
            "request" => of_request(after).into_iter().for_each(&mut add),
            "claims" | "consumer" => add(Read::Identity),
            "self" | "debug" => add(Read::All),
            _ => {}
        }
    }
    found
}

/// What stands behind `request`; nothing where that is in the address.
fn of_request(after: &str) -> Option<Read> {
    let Some((what, after)) = after.strip_prefix('.').and_then(next_word) else { return Some(Read::All) };
    match what {
        "method" | "path" | "host" | "query" | "params" => None,
        "client" => Some(Read::Part(Part::Client)),
        "headers" => Some(field(after).map_or(Read::All, |name| Read::Part(Part::Header(name)))),
        _ => Some(Read::All),
    }
}

/// `.accept`, `["accept-language"]`: one field and no other.
fn field(after: &str) -> Option<HeaderName> {
    let name = if let Some(after) = after.strip_prefix('.') {
        let (name, after) = next_word(after)?;
        // A deed on all of them.
        if after.trim_start().starts_with('(') {
            return None;
        }
        name
    } else {
        let quoted = after.strip_prefix('[')?;
        let quote = quoted.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let (name, after) = quoted.get(1..)?.split_once(quote)?;
        after.starts_with(']').then_some(name)?
    };
    HeaderName::from_bytes(name.as_bytes()).ok()
}

/// The next name and what follows it.
fn next_word(text: &str) -> Option<(&str, &str)> {
    let is_part = |sign: char| sign.is_alphanumeric() || sign == '_';
    let begun = text.get(text.find(is_part)?..)?;
    Some(begun.split_at(begun.find(|sign| !is_part(sign)).unwrap_or(begun.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vary(template: &str) -> Vec<String> {
        Mark::of_template("", template).vary().map(str::to_owned).collect()
    }

    #[test]
    fn what_a_template_reads_is_seen_in_its_text() {
        assert_eq!(vary("{{ body.a }} {{ request.path }} {{ request.query.x }} {{ status }}"), [""; 0]);
        assert_eq!(vary(r#"{{ request.headers["x-tenant"] }}{{ request.headers.accept }}"#), ["x-tenant", "accept"]);
        assert_eq!(vary("{{ request.headers['x-tenant'] }}"), ["x-tenant"]);
        for all in [
            "{{ request.headers }}",
            "{{ request }}",
            "{% set r = request %}{{ r.client }}",
            "{{ request.headers[body.name] }}",
            "{{ request.headers.items() }}",
            "{{ request['headers'] }}",
            "{{ request . headers . accept }}",
            "{{ request.headers|tojson }}",
            "{{ request.client }}",
            "{{ claims.sub }}",
            "{{ consumer }}",
        ] {
            assert_eq!(vary(all), ["*"], "{all}");
        }
    }

    #[test]
    fn other_rules_are_another_mark() {
        let rules = |text| Mark::of_parts(text, std::iter::empty()).rules;
        assert_eq!(rules("a"), rules("a"));
        assert_ne!(rules("a"), rules("b"));
    }
}
