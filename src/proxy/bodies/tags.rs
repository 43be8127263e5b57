//! Validators of answers that may be changed: a target's `ETag` says nothing of the rules and of what they read, so clients
//! get one that does, and what they send of it is told to the target in its own words.
//!
//! All tags of such a route are marked, also of answers that pass as they are: who has one without the mark has it from
//! before the rules. A date cannot be marked, so nothing is compared by dates here.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::changed;
use crate::policy::compress;
use crate::policy::transform::Side;
use crate::proxy::ctx::Ctx;
use crate::proxy::response::rebuild;
use crate::route::Route;

/// What a client says of the bodies that it has, as the target would know them.
pub(super) fn ask(session: &mut Session, route: &Route, side: &Side, ctx: &Ctx) {
    let fields = &session.req_header().headers;
    let has = |name: HeaderName| fields.contains_key(name);
    let (tags, date) = (has(header::IF_NONE_MATCH) || has(header::IF_MATCH), has(header::IF_MODIFIED_SINCE));
    if !tags && !date {
        return;
    }
    let mark = if tags { of(session, route, side, ctx) } else { String::new() };
    let request = session.req_header_mut();
    request.remove_header(&header::IF_MODIFIED_SINCE);
    for (name, others) in [(header::IF_NONE_MATCH, false), (header::IF_MATCH, true)] {
        let Some(asked) = bare(&request.headers, &name, mark.as_bytes(), others) else { continue };
        request.remove_header(&name);
        if !asked.is_empty() {
            // What came as a value is one without a part of it.
            let _ = HeaderValue::from_bytes(&asked).map(|asked| request.insert_header(name, asked));
        }
    }
}

/// A list of tags without the mark; those of `others` that have none stay, or go. Nothing where it stays as it is.
fn bare(fields: &HeaderMap, name: &HeaderName, mark: &[u8], others: bool) -> Option<Vec<u8>> {
    let lines: Vec<_> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() || lines.iter().any(|line| line.trim_ascii() == b"*") {
        return None;
    }
    let mut out = Vec::new();
    for (before, tag) in lines.iter().flat_map(|line| tags(line)) {
        let Some(tag) = tag.strip_suffix(mark).or(others.then_some(tag)) else { continue };
        if !out.is_empty() {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(&[before, b"\"", tag, b"\""].concat());
    }
    Some(out)
}

/// The tags of a list: what stands before the quotes, and what between them.
fn tags(mut line: &[u8]) -> Vec<(&[u8], &[u8])> {
    let (mut found, quote) = (Vec::new(), |byte: &u8| *byte == b'"');
    while let Some((before, rest)) = cut(line, quote) {
        let Some((tag, after)) = cut(rest, quote) else { break };
        let weak: &[u8] = if before.ends_with(b"W/") { b"W/" } else { b"" };
        found.push((weak, tag));
        line = after;
    }
    found
}

fn cut(line: &[u8], at: impl Fn(&u8) -> bool) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(at)?;
    Some((line.get(..at)?, line.get(at + 1..)?))
}

/// The head of an answer gets the mark, and says by what it varies where its body is `changing`.
pub(super) fn mark(
    session: &Session,
    route: &Route,
    side: &Side,
    head: &mut ResponseHeader,
    changing: bool,
    ctx: &Ctx,
) -> Result<()> {
    let same = head.status == StatusCode::NOT_MODIFIED;
    if !same && !head.status.is_success() {
        return Ok(());
    }
    let mark = head.headers.contains_key(header::ETAG).then(|| of(session, route, side, ctx));
    let asked = &session.req_header().headers;
    rebuild(head, |fields| {
        if same {
            compress::still_the_same(asked, fields);
        }
        if let Some(tag) = fields.remove(header::ETAG)
            && let Some(marked) = mark.and_then(|mark| marked(&tag, &mark))
        {
            fields.insert(header::ETAG, marked);
        }
        if changing || same {
            fields.remove(header::LAST_MODIFIED);
            side.mark.vary().for_each(|name| compress::vary_by(fields, name));
        }
        Ok(())
    })
}

/// Nothing of what is no tag.
fn marked(tag: &HeaderValue, mark: &str) -> Option<HeaderValue> {
    let open = tag.as_bytes().strip_suffix(b"\"").filter(|open| open.contains(&b'"'))?;
    HeaderValue::from_bytes(&[open, mark.as_bytes(), b"\""].concat()).ok()
}

fn of(session: &Session, route: &Route, side: &Side, ctx: &Ctx) -> String {
    changed(session, route, side, None, ctx, |facts| Ok(side.mark.text(facts))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bared(said: &str, others: bool) -> Option<String> {
        let fields = HeaderMap::from_iter([(header::IF_NONE_MATCH, said.parse().unwrap())]);
        bare(&fields, &header::IF_NONE_MATCH, b"~1", others).map(|bare| String::from_utf8(bare).unwrap())
    }

    #[test]
    fn only_tags_of_the_same_rules_are_asked_for() {
        let is = |said: &str| Some(said.to_owned());
        assert_eq!(bared("\"a~1\", W/\"b,c~1\",\"d~2\" , \"e\"", false), is("\"a\", W/\"b,c\""));
        assert_eq!(bared("\"a~1\", \"e\"", true), is("\"a\", \"e\""));
        assert_eq!(bared("\"d~2\"", false), is(""));
        assert_eq!(bared("nonsense \"", false), is(""));
        assert_eq!(bared("*", false), None);
        let put = |tag: &'static str| marked(&HeaderValue::from_static(tag), "~1");
        assert_eq!(put("W/\"a\"").unwrap(), "W/\"a~1\"");
        assert_eq!((put("a"), put("\"")), (None, None));
    }
}
