//! The request made safe: one method, one canonical path, one host, one client, checked before anything reads them.

use std::net::IpAddr;

use http::header::{self, HeaderName};
use http::{HeaderMap, Version};
use pingora_http::RequestHeader;

use crate::canonical;
use crate::fault::Fault;
use crate::listener::Connection;
use crate::listener::rules::check_h2;
use crate::snapshot::{ClientIp, Forwarded};

/// What the client was found to be and to want; the canonical path is put back into the request itself.
pub struct Intake {
    /// Lower case, without trailing dot and port.
    pub host: Box<str>,
    /// The port after the host, if the client named one that is not its scheme's own.
    pub port: Option<u16>,
    /// The right-most untrusted hop.
    pub client: IpAddr,
    /// Whether the nearest hop may speak for others.
    pub trusted: bool,
    /// Whether the client spoke TLS, to us or to a trusted hop before us.
    pub https: bool,
}

/// Names of fields that are ours to say, in one place.
pub mod field {
    use http::header::HeaderName;
    pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    pub const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
    pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    pub const X_YUMEN_ATTEMPT: HeaderName = HeaderName::from_static("x-yumen-attempt");
    pub const X_YUMEN_COPY: HeaderName = HeaderName::from_static("x-yumen-copy");
    pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
    pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
    pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
    pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    pub const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
}

/// Other Yumens that a request may have come through before it is called a loop.
const MOST_HOPS: usize = 5;

/// Checks `request`, puts its canonical path and host back into it, and says who asks. Each refusal is a [`Fault`].
pub fn make_safe(request: &mut RequestHeader, connection: &Connection, client_ip: &ClientIp) -> Result<Intake, Fault> {
    if request.version == Version::HTTP_2 {
        // For HTTP/1 the same was checked byte by byte when the head was read.
        check_h2(request, &connection.listener.limits)?;
        // Pingora (0.9.1) has no way to tell such a client to go on: it does not wait to hear it from the target either.
        request.remove_header(&header::EXPECT);
    }
    let named = canonical_target(request, connection.listener.limits.uri.len())?;
    let (host, port) = canonical_host(request, named.as_deref())?;
    check_hops(&request.headers)?;
    if let Some(tls) = &connection.tls
        && !connection.listener.serves(tls.name.as_deref(), &host)
    {
        return Err(Fault::RequestMisdirected);
    }
    let peer = connection.peer.ip().to_canonical();
    let trusted = client_ip.trust.iter().any(|network| network.contains(peer));
    let client = if trusted { client_of(&request.headers, client_ip, peer) } else { peer };
    let https = forwarded_https(&request.headers, trusted).unwrap_or(connection.tls.is_some());
    if request.headers.keys().any(is_hop_by_hop) {
        strip_hop_by_hop(request);
    }
    if !trusted && request.headers.keys().any(speaks_for_others) {
        strip_forwarded(request);
    }
    let port = port.filter(|port| *port != if https { 443 } else { 80 });
    Ok(Intake { host, port, client, trusted, https })
}

/// The host of a request that was refused after its only `Host` was put back; nothing where nobody knows which it is.
pub fn host_of(request: &RequestHeader, refused: Fault) -> Option<String> {
    let known = matches!(refused, Fault::RequestLoop | Fault::RequestMisdirected);
    let line = request.headers.get(header::HOST).filter(|_| known)?.to_str().ok()?;
    canonical::host(line).ok().map(|(host, _)| host.to_string())
}

/// RFC 9110 section 7.6.3: `Via` tells of the way behind the request; too many of ours are a loop.
fn check_hops(headers: &HeaderMap) -> Result<(), Fault> {
    let lines = headers.get_all(header::VIA).into_iter().filter_map(|line| line.to_str().ok());
    let hops = lines.flat_map(|line| line.split(',')).filter(|hop| hop.trim().ends_with(" yumen"));
    if hops.count() >= MOST_HOPS { Err(Fault::RequestLoop) } else { Ok(()) }
}

/// Puts the canonical path and the query into the request; returns the authority of an absolute-form target.
fn canonical_target(request: &mut RequestHeader, longest: usize) -> Result<Option<String>, Fault> {
    let raw = request.raw_path();
    if raw.len() > longest {
        return Err(Fault::RequestUriTooLong);
    }
    let text = std::str::from_utf8(raw).map_err(|_| Fault::RequestTarget)?;
    let (authority, origin_form) = if text.starts_with('/') { (None, text) } else { absolute_form(text)? };
    let (path, query) = origin_form.split_once('?').map_or((origin_form, None), |(path, query)| (path, Some(query)));
    if query.is_some_and(|query| query.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'#') || !is_escaped_well(query))
    {
        return Err(Fault::RequestTarget);
    }
    let canonical = canonical::path(path.as_bytes())?;
    let unchanged = authority.is_none() && matches!(canonical, std::borrow::Cow::Borrowed(_));
    let mut authority = authority.map(str::to_owned);
    if !unchanged {
        // By HTTP/2 the target itself says the authority, and the new one does not.
        authority = authority.or_else(|| request.uri.authority().map(ToString::to_string));
        let target = query.map_or_else(|| canonical.to_string(), |query| format!("{canonical}?{query}"));
        request.set_uri(target.parse().map_err(|_| Fault::RequestTarget)?);
    }
    Ok(authority)
}

/// Whether every escape is one, and of something else than NUL: of others, each reader makes what it likes.
fn is_escaped_well(query: &str) -> bool {
    let mut escapes = query.split('%').skip(1);
    escapes.all(|rest| {
        let digits = rest.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00")
    })
}

/// The authority and the origin-form of `http://host/path` (RFC 9112 section 3.2.2).
fn absolute_form(target: &str) -> Result<(Option<&str>, &str), Fault> {
    let (scheme, rest) = target.split_once("://").ok_or(Fault::RequestTarget)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Fault::RequestTarget);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match path.as_bytes().first() {
        Some(b'/') => Ok((Some(authority), path)),
        None => Ok((Some(authority), "/")),
        Some(_) => Err(Fault::RequestTarget),
    }
}

/// The one host of the request, put back as its only `Host`; every place that names one must agree.
fn canonical_host(request: &mut RequestHeader, absolute: Option<&str>) -> Result<(Box<str>, Option<u16>), Fault> {
    let mut lines = request.headers.get_all(header::HOST).iter();
    let (line, more) = (lines.next(), lines.next());
    if more.is_some() {
        return Err(Fault::RequestHost);
    }
    let line = line.map(|line| line.to_str()).transpose().map_err(|_| Fault::RequestHost)?;
    let authority = request.uri.authority().map(http::uri::Authority::as_str);
    let mut named = [line, authority, absolute].into_iter().flatten().map(canonical::host);
    let (host, port) = named.next().ok_or(Fault::RequestHost)??;
    for other in named {
        if other? != (host.clone(), port) {
            return Err(Fault::RequestHost);
        }
    }
    let spelled = line.is_some_and(|line| is_spelling(line, &host, port));
    let host: Box<str> = host.into();
    if !spelled {
        let spelling = port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        request.insert_header(header::HOST, &spelling).map_err(|_| Fault::RequestHost)?;
    }
    if request.uri.authority().is_some() {
        let path = request.uri.path_and_query().cloned().ok_or(Fault::RequestTarget)?;
        request.set_uri(path.into());
    }
    Ok((host, port))
}

fn field_of(from: Forwarded) -> HeaderName {
    match from {
        Forwarded::XForwardedFor => field::X_FORWARDED_FOR,
        Forwarded::Forwarded => header::FORWARDED,
        Forwarded::XRealIp => field::X_REAL_IP,
    }
}

/// Whether `line` is how host and port are written.
fn is_spelling(line: &str, host: &str, port: Option<u16>) -> bool {
    let said = line.strip_prefix(host);
    match port {
        None => said == Some(""),
        Some(port) => said.and_then(|said| said.strip_prefix(':')) == Some(itoa::Buffer::new().format(port)),
    }
}

/// The right-most hop that is not trusted; where the chain cannot be read, the last hop that could.
fn client_of(headers: &HeaderMap, client_ip: &ClientIp, peer: IpAddr) -> IpAddr {
    let hop = |text: &str| match client_ip.from {
        Forwarded::Forwarded => forwarded_for(text),
        Forwarded::XForwardedFor | Forwarded::XRealIp => address(text),
    };
    let mut client = peer;
    let lines = headers.get_all(field_of(client_ip.from)).iter().rev();
    for text in lines.flat_map(|line| line.to_str().unwrap_or("-").rsplit(',')) {
        let Some(address) = hop(text.trim()) else { return client };
        client = address;
        if !client_ip.trust.iter().any(|network| network.contains(client)) {
            return client;
        }
    }
    client
}

/// The `for` of one element of `Forwarded` (RFC 7239 section 4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    address(node.trim_matches('"'))
}

/// An address as hops write it: bare, in brackets, with or without port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    text.parse().ok().or_else(bare).or_else(with_port).map(|ip: IpAddr| ip.to_canonical())
}

fn forwarded_https(headers: &HeaderMap, trusted: bool) -> Option<bool> {
    if !trusted {
        return None;
    }
    match headers.get(field::X_FORWARDED_PROTO)?.as_bytes() {
        b"https" => Some(true),
        b"http" => Some(false),
        _ => None,
    }
}

/// Fields that `Connection` may not take away: they decide who asks, for what, and how it is traced.
fn is_protected(name: &HeaderName) -> bool {
    const OTHERS: [HeaderName; 5] =
        [field::X_REAL_IP, field::X_REQUEST_ID, field::TRACEPARENT, field::TRACESTATE, header::FORWARDED];
    matches!(
        *name,
        header::HOST
            | header::AUTHORIZATION
            | header::COOKIE
            | header::VIA
            | header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::CONTENT_TYPE
            | header::UPGRADE
    ) || OTHERS.contains(name)
        || name.as_str().starts_with("x-forwarded-")
}

/// Fields that belong to one connection (RFC 9110 section 7.6.1).
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TE
            | header::TRAILER
            | header::UPGRADE
            | header::PROXY_AUTHORIZATION
            | header::PROXY_AUTHENTICATE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Fields in which hops say for whom they ask.
fn speaks_for_others(name: &HeaderName) -> bool {
    *name == header::FORWARDED || name.as_str().starts_with("x-forwarded-") || name.as_str() == "x-real-ip"
}

/// Removes what belongs to this connection only (RFC 9110 section 7.6.1); a WebSocket handshake keeps its two fields.
fn strip_hop_by_hop(request: &mut RequestHeader) {
    let named = connection_names(&request.headers);
    let wanted = request.headers.get(header::UPGRADE).filter(|_| named.contains(&header::UPGRADE));
    let websocket = request.version == Version::HTTP_11
        && wanted.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    for name in named.iter().filter(|name| !is_protected(name)) {
        request.remove_header(name);
    }
    // What gRPC needs to hear of its own hop it may say of the next (its protocol: `te: trailers` is required).
    if request.version != Version::HTTP_2 || request.headers.get(header::TE).is_some_and(|te| te != "trailers") {
        request.remove_header(&header::TE);
    }
    for name in [header::TRAILER, header::PROXY_AUTHORIZATION, header::PROXY_AUTHENTICATE] {
        request.remove_header(&name);
    }
    for name in [field::KEEP_ALIVE, field::PROXY_CONNECTION, field::HTTP2_SETTINGS] {
        request.remove_header(&name);
    }
    if websocket {
        let _ = request.insert_header(header::CONNECTION, "Upgrade");
    } else {
        request.remove_header(&header::CONNECTION);
        request.remove_header(&header::UPGRADE);
    }
}

/// The field names in `Connection`, for a request or a response.
pub fn connection_names(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION).into_iter();
    let words = lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    words.filter_map(|word| HeaderName::from_bytes(word).ok()).collect()
}

/// What only a trusted hop may say about the way behind it.
fn strip_forwarded(request: &mut RequestHeader) {
    let said: Vec<_> = request.headers.keys().filter(|name| speaks_for_others(name)).cloned().collect();
    for name in said {
        request.remove_header(&name);
    }
}
