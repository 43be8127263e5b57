//! Whether an answer may be kept, for how long it is fresh, and for how long it may be served after that (RFC 9111).
//!
//! Stored are answers that say how long they are fresh, by `s-maxage`, `max-age` or `Expires`; where the route says `ttl`,
//! those with a status that caches know of without being told; and those that can be validated. Time is never guessed.
//!
//! Never stored, whatever the route says: answers marked `no-store` or `private`, with `Set-Cookie`, that vary by
//! everything or by what the gateway itself tells the target, parts (206), answers for a client whom guards have let in and
//! the key does not tell from others that are not marked `public` or `s-maxage`, and answers to requests with
//! `Authorization` that neither were keyed by who asks nor are marked `public`, `s-maxage` or `must-revalidate`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode, header};

use super::directives::{Directives, age, elements};

/// What the route says of times.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    pub ttl: Option<Duration>,
    pub stale: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    pub negative: Option<Duration>,
}

/// Whose answer it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asker {
    /// The request had credentials in `Authorization`.
    pub authorized: bool,
    /// A guard has said who it is.
    pub identified: bool,
    /// That is part of the key.
    pub keyed: bool,
}

/// An answer that may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Before it is used again, it is asked for if this time has passed; a moment ago where it always is.
    pub fresh_until: SystemTime,
    /// When it was made, as far as it tells.
    pub born: SystemTime,
    /// How long after that it may be served: while it is fetched anew, and where that fails. In seconds.
    pub while_fetched: u32,
    pub if_error: u32,
}

/// Why an answer is not kept; the word is in the log.
pub type Not = &'static str;

/// What an answer that came just `now` is worth.
pub fn judge(status: StatusCode, head: &HeaderMap, asker: Asker, times: &Times, now: SystemTime) -> Result<Kept, Not> {
    let said = Directives::of(head);
    may_be_kept(status, head, &said, asker)?;
    let (lifetime, age) = lifetime(status, head, &said, times, now)?;
    let lifetime = if said.no_cache { Duration::ZERO } else { lifetime };
    let left = lifetime.saturating_sub(age);
    // What is not fresh now never was.
    let fresh_until = if left.is_zero() { now - Duration::from_millis(1) } else { now + left };
    let (while_fetched, if_error) = stale(&said, times);
    Ok(Kept { fresh_until, born: now.checked_sub(age).unwrap_or(UNIX_EPOCH), while_fetched, if_error })
}

fn may_be_kept(status: StatusCode, head: &HeaderMap, said: &Directives, asker: Asker) -> Result<(), Not> {
    let shared = said.public || said.s_maxage.is_some();
    let not = match status.as_u16() {
        // 304 has no body of its own; 206 and 416 are parts.
        100..=199 | 206 | 304 | 416 => Some("status"),
        _ if said.must_understand && !is_known(status) => Some("must-understand"),
        _ if said.no_store => Some("no-store"),
        _ if said.private => Some("private"),
        _ if head.contains_key(header::SET_COOKIE) => Some("set-cookie"),
        _ if is_stream(head) => Some("stream"),
        _ if asker.identified && !asker.keyed && !shared => Some("identity"),
        _ if asker.authorized && !asker.keyed && !shared && !said.must_revalidate => Some("authorization"),
        _ if elements(head.get_all(header::VARY)).any(is_ours) => Some("vary"),
        _ => None,
    };
    not.map_or(Ok(()), Err)
}

/// Fields that say something else to the target for each request, or for each client, whatever the client has sent.
const OURS: [&str; 8] =
    ["*", "x-forwarded-for", "forwarded", "x-real-ip", "via", "x-request-id", "traceparent", "tracestate"];

fn is_ours(name: &[u8]) -> bool {
    OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
}

/// Events come for as long as someone listens: there is no end to wait for.
fn is_stream(head: &HeaderMap) -> bool {
    let kind = head.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    let events = b"text/event-stream";
    kind.is_some_and(|kind| kind.get(..events.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(events)))
}

fn is_known(status: StatusCode) -> bool {
    status.canonical_reason().is_some()
}

/// What caches may keep without being told for how long (RFC 9110 section 15.1).
fn is_usual(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308) || is_negative(status)
}

fn is_negative(status: StatusCode) -> bool {
    matches!(status.as_u16(), 404 | 405 | 410 | 414 | 501)
}

/// For how long it is fresh from its making on, and how old it is.
fn lifetime(
    status: StatusCode,
    head: &HeaderMap,
    said: &Directives,
    times: &Times,
    now: SystemTime,
) -> Result<(Duration, Duration), Not> {
    if let (Some(ttl), true) = (times.ttl, is_usual(status) && !is_negative(status)) {
        return Ok((ttl, Duration::ZERO));
    }
    let date = date(head, &header::DATE);
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let apparent = date.and_then(|date| now.duration_since(date).ok()).unwrap_or_default();
    // The clocks of two machines are never quite the same.
    let apparent = if apparent < Duration::from_secs(2) { Duration::ZERO } else { apparent };
    let age = seconds(age(head)).max(apparent);
    let told = said.s_maxage.or(said.max_age).map(seconds).or_else(|| expires(head, date.unwrap_or(now)));
    if let Some(told) = told {
        return Ok((told, age));
    }
    if let (Some(negative), true) = (times.negative, is_negative(status)) {
        return Ok((negative, Duration::ZERO));
    }
    let can_be_validated = head.contains_key(header::ETAG) || head.contains_key(header::LAST_MODIFIED);
    if is_usual(status) && !is_negative(status) && can_be_validated {
        return Ok((Duration::ZERO, age));
    }
    Err("no freshness")
}

/// What `Expires` says: a time that cannot be read has passed.
fn expires(head: &HeaderMap, made: SystemTime) -> Option<Duration> {
    if !head.contains_key(header::EXPIRES) {
        return None;
    }
    Some(date(head, &header::EXPIRES).and_then(|end| end.duration_since(made).ok()).unwrap_or_default())
}

fn date(head: &HeaderMap, name: &header::HeaderName) -> Option<SystemTime> {
    let mut lines = head.get_all(name).iter();
    let only = lines.next().filter(|_| lines.next().is_none())?;
    httpdate::parse_http_date(only.to_str().ok()?).ok()
}

/// Both windows after the answer's time; what the answer forbids, the route cannot allow.
fn stale(said: &Directives, times: &Times) -> (u32, u32) {
    if said.must_revalidate || said.proxy_revalidate || said.no_cache {
        return (0, 0);
    }
    let route = |time: Option<Duration>| time.map(|time| u32::try_from(time.as_secs().max(1)).unwrap_or(u32::MAX));
    (
        route(times.stale).or(said.stale_while_revalidate).unwrap_or(0),
        route(times.stale_if_error).or(said.stale_if_error).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn head(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for (name, value) in lines {
            head.append(*name, value.parse().unwrap());
        }
        head
    }

    /// Seconds that it is fresh for, or why it is not kept.
    fn fresh(status: u16, lines: &[(&'static str, &str)], asker: Asker, times: &Times) -> Result<u64, Not> {
        let status = StatusCode::from_u16(status).unwrap();
        let kept = judge(status, &head(lines), asker, times, now())?;
        Ok(kept.fresh_until.duration_since(now()).map_or(0, |left| left.as_secs()))
    }

    fn plain(lines: &[(&'static str, &str)]) -> Result<u64, Not> {
        fresh(200, lines, Asker::default(), &Times::default())
    }

    #[test]
    fn an_answer_says_how_long_it_is_fresh() {
        let date = httpdate::fmt_http_date(now());
        let (later, earlier) = (now() + Duration::from_secs(90), now() - Duration::from_secs(10));
        let (later, earlier) = (httpdate::fmt_http_date(later), httpdate::fmt_http_date(earlier));
        let cc = "cache-control";
        assert_eq!(plain(&[(cc, "max-age=60")]), Ok(60));
        assert_eq!(plain(&[(cc, "max-age=60, s-maxage=10")]), Ok(10));
        assert_eq!(plain(&[(cc, "max-age=60"), ("age", "20")]), Ok(40));
        assert_eq!(plain(&[(cc, "max-age=60"), ("age", "61")]), Ok(0));
        assert_eq!(plain(&[(cc, "max-age=60"), ("date", &earlier)]), Ok(50));
        assert_eq!(plain(&[("expires", &later), ("date", &date)]), Ok(90));
        assert_eq!(plain(&[("expires", &later)]), Ok(90));
        assert_eq!(plain(&[("expires", "0")]), Ok(0));
        assert_eq!(plain(&[("expires", &later), (cc, "max-age=0")]), Ok(0));
        assert_eq!(plain(&[("etag", "\"a\"")]), Ok(0));
        assert_eq!(plain(&[]), Err("no freshness"));
        assert_eq!(plain(&[(cc, "no-cache, max-age=60")]), Ok(0));
    }

    #[test]
    fn what_must_not_be_kept_is_not_whatever_the_route_says() {
        let ttl =
            Times { ttl: Some(Duration::from_mins(1)), negative: Some(Duration::from_secs(5)), ..Times::default() };
        let cc = "cache-control";
        let table: [(&[(&str, &str)], Not); 10] = [
            (&[("content-type", "Text/Event-Stream")], "stream"),
            (&[("content-type", "text/event-stream; charset=utf-8")], "stream"),
            (&[(cc, "no-store")], "no-store"),
            (&[(cc, "Private, max-age=60")], "private"),
            (&[(cc, "private=\"x\"")], "private"),
            (&[("set-cookie", "a=b")], "set-cookie"),
            (&[("vary", "accept, *")], "vary"),
            (&[("vary", "X-Forwarded-For")], "vary"),
            (&[(cc, "no-store, must-understand")], "no-store"),
            (&[(cc, "public"), ("set-cookie", "a=b")], "set-cookie"),
        ];
        for (lines, why) in table {
            assert_eq!(fresh(200, lines, Asker::default(), &ttl), Err(why), "{lines:?}");
        }
        assert_eq!(fresh(206, &[(cc, "max-age=60")], Asker::default(), &ttl), Err("status"));
        assert_eq!(fresh(599, &[(cc, "max-age=60, must-understand")], Asker::default(), &ttl), Err("must-understand"));
        assert_eq!(fresh(200, &[(cc, "no-cache")], Asker::default(), &ttl), Ok(0));
    }

    #[test]
    fn the_route_overrides_how_long_what_may_be_kept_is_fresh() {
        let times =
            Times { ttl: Some(Duration::from_mins(1)), negative: Some(Duration::from_secs(5)), ..Times::default() };
        let of = |status, lines| fresh(status, lines, Asker::default(), &times);
        assert_eq!((of(200, &[]), of(301, &[]), of(204, &[])), (Ok(60), Ok(60), Ok(60)));
        assert_eq!(of(200, &[("cache-control", "max-age=1"), ("age", "100")]), Ok(60));
        assert_eq!((of(404, &[]), of(410, &[])), (Ok(5), Ok(5)));
        assert_eq!(of(404, &[("cache-control", "max-age=7")]), Ok(7));
        for status in [201, 302, 403, 500, 502, 503] {
            assert_eq!(of(status, &[]), Err("no freshness"), "{status}");
        }
        assert_eq!(fresh(404, &[("etag", "\"a\"")], Asker::default(), &Times::default()), Err("no freshness"));
    }

    #[test]
    fn nothing_of_one_is_kept_for_another() {
        let keyed = Asker { authorized: true, identified: true, keyed: true };
        let shared = Asker { keyed: false, ..keyed };
        let unknown = Asker { authorized: true, ..Asker::default() };
        let of = |asker, said| fresh(200, &[("cache-control", said)], asker, &Times::default());
        assert_eq!(of(keyed, "max-age=60"), Ok(60));
        assert_eq!(of(keyed, "private, max-age=60"), Err("private"));
        assert_eq!(of(shared, "max-age=60"), Err("identity"));
        assert_eq!(of(shared, "max-age=60, must-revalidate"), Err("identity"));
        assert_eq!(of(shared, "public, max-age=60"), Ok(60));
        assert_eq!(of(unknown, "max-age=60"), Err("authorization"));
        for said in ["s-maxage=60", "public, max-age=60", "max-age=60, must-revalidate"] {
            assert_eq!(of(unknown, said), Ok(60), "{said}");
        }
    }

    #[test]
    fn stale_is_served_only_where_the_answer_does_not_forbid_it() {
        let route = Times {
            stale: Some(Duration::from_secs(30)),
            stale_if_error: Some(Duration::from_mins(10)),
            ..Times::default()
        };
        let of = |said: &str, times: &Times| {
            let head = head(&[("cache-control", said)]);
            let kept = judge(StatusCode::OK, &head, Asker::default(), times, now()).unwrap();
            (kept.while_fetched, kept.if_error)
        };
        assert_eq!(of("max-age=1", &Times::default()), (0, 0));
        assert_eq!(of("max-age=1, stale-while-revalidate=5, stale-if-error=6", &Times::default()), (5, 6));
        assert_eq!(of("max-age=1", &route), (30, 600));
        for said in ["must-revalidate", "proxy-revalidate", "no-cache"] {
            assert_eq!(of(&format!("max-age=1, stale-if-error=6, {said}"), &route), (0, 0), "{said}");
        }
    }
}
