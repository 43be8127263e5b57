//! The request as the target gets it: who asked whom through what, and what the route adds or takes away.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::{HeaderValue, Version, header};
use pingora_error::Result;
use pingora_http::RequestHeader;

use super::ctx::Ctx;
use super::intake::{Intake, field};
use crate::fault::Fault;

/// Sets what hops tell each other, then what the route says of path, host and fields.
/// `version` is the one that the client spoke.
pub(super) fn request(out: &mut RequestHeader, version: Version, ctx: &Ctx) -> Result<()> {
    let (Some(intake), Some(connection), Some(route)) = (&ctx.intake, &ctx.connection, &ctx.route) else {
        return Err(Fault::GatewayInternal.into());
    };
    if let Some(rewrite) = &route.rewrite {
        rewritten(out, &rewrite.apply(out.uri.path(), &ctx.params)?)?;
    }
    hops(out, version, intake, connection.peer.ip().to_canonical())?;
    out.insert_header(field::X_REQUEST_ID, ctx.id())?;
    out.insert_header(field::TRACEPARENT, ctx.trace.traceparent().as_slice())?;
    if !ctx.trace.is_continued() {
        out.remove_header(&field::TRACESTATE);
    }
    join_cookies(out)?;
    if let Some(host) = route.host.set() {
        out.insert_header(header::HOST, host)?;
    }
    route.request.request(out);
    Ok(())
}

/// Another path, the same query.
fn rewritten(out: &mut RequestHeader, path: &str) -> Result<()> {
    let target = out.uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    out.set_uri(target.parse().map_err(|_| Fault::RequestTarget)?);
    Ok(())
}

/// Who asked, for what host, how, and through whom. Without trust there is no chain to continue: intake has
/// removed what the client said of one.
fn hops(out: &mut RequestHeader, version: Version, intake: &Intake, peer: IpAddr) -> Result<()> {
    let proto = if intake.https { "https" } else { "http" };
    let host = out.headers.get(header::HOST).cloned().unwrap_or_else(|| HeaderValue::from_static(""));
    let mut text = String::with_capacity(96);
    chain(&mut text, out.headers.get(field::X_FORWARDED_FOR));
    let _ = write!(text, "{peer}");
    out.insert_header(field::X_FORWARDED_FOR, text.as_str())?;
    text.clear();
    chain(&mut text, out.headers.get(header::FORWARDED));
    forwarded(&mut text, peer, &host, proto);
    out.insert_header(header::FORWARDED, text.as_str())?;
    text.clear();
    chain(&mut text, out.headers.get(header::VIA));
    text.push_str(match version {
        Version::HTTP_2 => "2 yumen",
        Version::HTTP_10 => "1.0 yumen",
        _ => "1.1 yumen",
    });
    out.insert_header(header::VIA, text.as_str())?;
    text.clear();
    let _ = write!(text, "{}", intake.client);
    out.insert_header(field::X_REAL_IP, text.as_str())?;
    out.insert_header(field::X_FORWARDED_PROTO, proto)?;
    if !out.headers.contains_key(field::X_FORWARDED_HOST) {
        out.insert_header(field::X_FORWARDED_HOST, host)?;
    }
    Ok(())
}

/// What hops before us said, to be continued.
fn chain(text: &mut String, said: Option<&HeaderValue>) {
    if let Some(said) = said.and_then(|said| said.to_str().ok()) {
        text.push_str(said);
        text.push_str(", ");
    }
}

/// One element of `Forwarded` (RFC 7239 section 4); what is no token is quoted.
fn forwarded(text: &mut String, peer: IpAddr, host: &HeaderValue, proto: &str) {
    let host = host.to_str().unwrap_or_default();
    let quote = if host.contains([':', '[']) { "\"" } else { "" };
    let _ = match peer {
        IpAddr::V4(ip) => write!(text, "for={ip};host={quote}{host}{quote};proto={proto}"),
        IpAddr::V6(ip) => write!(text, "for=\"[{ip}]\";host={quote}{host}{quote};proto={proto}"),
    };
}

/// HTTP/2 clients may send a cookie a line; HTTP/1 knows one line only (RFC 9113 section 8.2.3).
fn join_cookies(out: &mut RequestHeader) -> Result<()> {
    let mut lines = out.headers.get_all(header::COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return Ok(());
    }
    let lines: Vec<_> = out.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = lines.join(&b"; "[..]);
    out.insert_header(header::COOKIE, joined)
}
