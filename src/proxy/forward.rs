//! The request as the target gets it: who asked whom through what, and what the route adds or takes away.

use std::time::Instant;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Uri, Version, header};
use pingora_error::Result;
use pingora_http::RequestHeader;

use super::ctx::Ctx;
use super::intake::{Intake, field};
use super::time;
use crate::fault::Fault;
use crate::listener::Connection;
use crate::policy::auth::source;

/// Fields that every request is given.
const MOST_ADDED: usize = 8;

/// Sets what hops tell each other, then what the route says of path, host and fields. `version` is the one that the
/// client spoke.
///
/// The head is built anew from its parts: one map with room for all, where each change through Pingora's own type
/// would read the name again and keep a second map of spellings.
pub(super) fn request(out: &mut RequestHeader, version: Version, ctx: &Ctx) -> Result<()> {
    let (Some(intake), Some(connection), Some(route)) = (&ctx.intake, &ctx.connection, &ctx.route) else {
        return Err(Fault::GatewayInternal.into());
    };
    let mut fields = HeaderMap::with_capacity(out.headers.len() + MOST_ADDED);
    let mut cookies = 0;
    for (name, value) in &out.headers {
        let stays_here = (*name == header::TE && out.version != Version::HTTP_2)
            || (*name == field::TRACESTATE && !ctx.trace.is_continued())
            || *name == field::X_YUMEN_ATTEMPT
            || (*name == field::X_YUMEN_COPY && !intake.trusted);
        if !stays_here {
            cookies += usize::from(*name == header::COOKIE);
            fields.append(name.clone(), value.clone());
        }
    }
    hops(&mut fields, version, intake, connection)?;
    fields.insert(field::X_REQUEST_ID, value(ctx.id())?);
    fields.insert(
        field::TRACEPARENT,
        // A call of our own has not counted its first try yet.
        HeaderValue::from_bytes(&ctx.trace.traceparent(ctx.upstream.tries.max(1)))
            .map_err(|_| Fault::GatewayInternal)?,
    );
    if let Some((name, left)) = ctx.upstream.end.as_ref().and_then(|end| time::left(end, Instant::now())) {
        fields.insert(name, left);
    }
    if ctx.upstream.tries > 1 {
        fields.insert(field::X_YUMEN_ATTEMPT, ctx.upstream.tries.into());
    }
    for (name, said) in ctx.found.iter().flat_map(|found| &found.forward) {
        match said {
            Some(said) => drop(fields.insert(name, said.clone())),
            None => drop(fields.remove(name)),
        }
    }
    if let Some(sticky) = ctx.picked.as_ref().and_then(|picked| picked.target().sticky()) {
        sticky.hide(&mut fields);
    }
    if cookies > 1 {
        join_cookies(&mut fields)?;
    }
    if let Some(host) = route.host.set() {
        fields.insert(header::HOST, value(host)?);
    }
    let mut parts = http::Request::new(()).into_parts().0;
    (parts.method, parts.version, parts.headers) = (out.method.clone(), out.version, fields);
    parts.uri = match &route.rewrite {
        Some(rewrite) => rewritten(&out.uri, &rewrite.apply(out.uri.path(), &ctx.params)?)?,
        None => out.uri.clone(),
    };
    if let Some(found) = ctx.found.as_ref().filter(|found| !found.hidden_params.is_empty()) {
        parts.uri = without(&parts.uri, &found.hidden_params)?;
    }
    *out = RequestHeader::from(parts);
    route.request.request(out);
    Ok(())
}

pub(super) fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Fault::GatewayInternal.into())
}

/// Another path, the same query.
fn rewritten(uri: &Uri, path: &str) -> Result<Uri> {
    let target = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    target.parse().map_err(|_| Fault::RequestTarget.into())
}

/// The same without these parameters.
fn without(uri: &Uri, hidden: &[Box<str>]) -> Result<Uri> {
    let path = uri.path();
    let kept = uri.query().and_then(|query| source::without(query, hidden));
    let target = kept.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    target.parse().map_err(|_| Fault::RequestTarget.into())
}

/// Who asked, for what host, how, and through whom. Without trust there is no chain to continue: intake has
/// removed what the client said of one.
pub(super) fn hops(fields: &mut HeaderMap, version: Version, intake: &Intake, connection: &Connection) -> Result<()> {
    let proto = if intake.https { "https" } else { "http" };
    let host = fields.get(header::HOST).cloned().unwrap_or_else(|| HeaderValue::from_static(""));
    let peer = connection.peer.ip().to_canonical();
    let address = connection.address.to_str().unwrap_or_default();
    let client = if intake.client == peer { connection.address.clone() } else { value(&intake.client.to_string())? };
    let element = forwarded(address, peer.is_ipv6(), host.to_str().unwrap_or_default(), proto);
    let (for_whom, forwarded) = if intake.trusted {
        (chain(fields, &field::X_FORWARDED_FOR, address)?, chain(fields, &header::FORWARDED, &element)?)
    } else {
        (None, None)
    };
    let hop = match version {
        Version::HTTP_2 => "2 yumen",
        Version::HTTP_10 => "1.0 yumen",
        _ => "1.1 yumen",
    };
    let via = chain(fields, &header::VIA, hop)?;
    fields.insert(field::X_FORWARDED_FOR, for_whom.unwrap_or_else(|| connection.address.clone()));
    let forwarded = match forwarded {
        Some(forwarded) => forwarded,
        None => HeaderValue::try_from(element).map_err(|_| Fault::GatewayInternal)?,
    };
    fields.insert(header::FORWARDED, forwarded);
    fields.insert(header::VIA, via.unwrap_or(HeaderValue::from_static(hop)));
    fields.insert(field::X_REAL_IP, client);
    fields.insert(field::X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    fields.entry(field::X_FORWARDED_HOST).or_insert(host);
    Ok(())
}

/// What earlier hops said in the field, be it in several lines, and one more; nothing where they said nothing.
fn chain(fields: &HeaderMap, name: &HeaderName, more: &str) -> Result<Option<HeaderValue>> {
    let said = fields.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let mut all: String = said.flat_map(|line| [line, ", "]).collect();
    if all.is_empty() {
        return Ok(None);
    }
    all.push_str(more);
    HeaderValue::try_from(all).map(Some).map_err(|_| Fault::GatewayInternal.into())
}

/// One element of `Forwarded` (RFC 7239 section 4); what is no token is quoted.
fn forwarded(address: &str, is_v6: bool, host: &str, proto: &str) -> String {
    let quote = if host.bytes().any(|b| matches!(b, b':' | b'[')) { "\"" } else { "" };
    let (open, close) = if is_v6 { ("\"[", "]\"") } else { ("", "") };
    let mut element = String::with_capacity(address.len() + host.len() + 32);
    for part in ["for=", open, address, close, ";host=", quote, host, quote, ";proto=", proto] {
        element.push_str(part);
    }
    element
}

/// HTTP/2 clients may send a cookie a line; HTTP/1 knows one line only (RFC 9113 section 8.2.3).
fn join_cookies(fields: &mut HeaderMap) -> Result<()> {
    let mut lines = fields.get_all(header::COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return Ok(());
    }
    let lines: Vec<_> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&lines.join(&b"; "[..])).map_err(|_| Fault::RequestMalformed)?;
    fields.insert(header::COOKIE, joined);
    Ok(())
}
