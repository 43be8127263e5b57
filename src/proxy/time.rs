//! How long a request may take in all: what the document allows, and what its client said that it waits.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Method, request};

use super::ctx::Ctx;
use super::intake::field;
use crate::fault::Fault;
pub(super) use crate::pool::timeout::is_stream;
use crate::pool::timeout::{self, is_grpc};
use crate::units;

/// What ends later ends for nobody.
pub(super) const FOREVER: Duration = Duration::from_hours(24 * 365);
/// A client that left after so long without an answer says something of the target, too.
const LONG: Duration = Duration::from_secs(5);

/// When the answer must be whole.
#[derive(Debug, Clone)]
pub struct End {
    pub at: Instant,
    /// Its client wanted it so: no fault of the target, however slow.
    pub by_client: bool,
    /// The field in which the target is told what is left.
    pub told_in: Option<HeaderName>,
}

/// The end of a request that began at `started`, if it has any.
pub(super) fn end(timeouts: &timeout::Config, request: &request::Parts, started: Instant) -> Option<End> {
    let headers = &request.headers;
    let asked = timeouts.deadline_header.as_ref().map(timeout::Field::name);
    let grpc = request.method == Method::POST && is_grpc(headers);
    if timeouts.total.is_none() && asked.is_none() && !grpc {
        return None;
    }
    let said = |name: &HeaderName| headers.get(name).and_then(|said| said.to_str().ok());
    let by_grpc = grpc.then(|| said(&field::GRPC_TIMEOUT).and_then(grpc_timeout)).flatten();
    let by_field = asked.and_then(said).and_then(length);
    let client = by_grpc.into_iter().chain(by_field).min();
    let total = timeouts.total.map(units::Duration::get);
    let length = client.into_iter().chain(total).min()?;
    let told_in = if grpc { Some(field::GRPC_TIMEOUT) } else { asked.cloned() };
    Some(End { at: started.checked_add(length)?, by_client: Some(length) != total, told_in })
}

/// What the target is told: the field, and what is left, rounded down so that it ends before us.
pub(super) fn left(end: &End, now: Instant) -> Option<(&HeaderName, HeaderValue)> {
    let name = end.told_in.as_ref()?;
    timeout::told(name, end.at.saturating_duration_since(now)).map(|left| (name, left))
}

/// A `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let fits = (1..=8).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| fits)?;
    Some(match unit {
        "H" => Duration::from_hours(number),
        "M" => Duration::from_mins(number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// `1500ms`, `2s`, or a plain number of milliseconds; what is neither says nothing.
fn length(text: &str) -> Option<Duration> {
    if text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_millis);
    }
    text.parse::<units::Duration>().ok().map(units::Duration::get)
}

impl Ctx {
    /// Whether the time of the request is over.
    pub fn is_over(&self) -> bool {
        self.upstream.end.as_ref().is_some_and(|end| end.at <= Instant::now())
    }

    /// Whether there is time for a pause, and something after it.
    pub(super) fn has_left(&self, pause: Duration) -> bool {
        self.upstream.end.as_ref().is_none_or(|end| end.at.saturating_duration_since(Instant::now()) > pause)
    }

    /// What the target is told of: a client that would not wait, or that did not end its request, says nothing of it.
    pub(super) fn blamed(&self, fault: Option<Fault>) -> Option<Fault> {
        let hurried = self.upstream.end.as_ref().is_some_and(|end| end.by_client) || self.left().is_some();
        let excused = match fault {
            Some(Fault::UpstreamTimeoutTotal) => hurried || !self.upstream.sent,
            Some(Fault::UpstreamTimeoutFirstByte) => !self.upstream.sent,
            _ => false,
        };
        if excused { Some(Fault::ClientGone) } else { fault }
    }

    /// Tells the target of the present try how that went.
    pub(super) fn tell_target(&mut self, fault: Option<Fault>, status: u16) {
        let blamed = self.blamed(fault);
        let in_vain = blamed == Some(Fault::ClientGone) && self.has_waited();
        if let Some(picked) = &mut self.picked {
            if in_vain {
                picked.waited_in_vain();
            }
            picked.record(blamed, status);
        }
    }

    /// Whether the target had the whole request for long and has not begun to answer.
    fn has_waited(&self) -> bool {
        let upstream = &self.upstream;
        upstream.sent && upstream.answered.is_none() && upstream.asked.is_some_and(|asked| asked.elapsed() >= LONG)
    }

    /// A wait that ended because the whole time was over is told as that.
    pub(super) fn told(&self, fault: Fault) -> Fault {
        let waited = matches!(
            fault,
            Fault::UpstreamConnectTimeout | Fault::UpstreamTimeoutFirstByte | Fault::UpstreamTimeoutIdle
        );
        if waited && self.is_over() { Fault::UpstreamTimeoutTotal } else { fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(fields: &[(&'static str, &str)]) -> request::Parts {
        let post = http::Request::post("/");
        let all = fields.iter().fold(post, |request, (name, value)| request.header(*name, *value));
        all.body(()).unwrap().into_parts().0
    }

    fn after(yaml: &str, fields: &[(&'static str, &str)]) -> Option<(Duration, bool)> {
        let started = Instant::now();
        let end = end(&serde_yaml::from_str(yaml).unwrap(), &post(fields), started)?;
        Some((end.at - started, end.by_client))
    }

    #[test]
    fn the_shorter_of_what_is_allowed_and_what_the_client_waits_holds() {
        let (ms, kind) = (Duration::from_millis, ("content-type", "application/grpc+proto"));
        let both = "{ total: 2s, deadline_header: x-wait }";
        let story: [(&str, &[_], _); 10] = [
            ("{}", &[("x-wait", "5")], None),
            ("{ total: 2s }", &[("x-wait", "5"), ("grpc-timeout", "1S")], Some((ms(2000), false))),
            (both, &[], Some((ms(2000), false))),
            (both, &[("x-wait", "150")], Some((ms(150), true))),
            (both, &[("x-wait", "1s")], Some((ms(1000), true))),
            (both, &[("x-wait", "1h")], Some((ms(2000), false))),
            (both, &[("x-wait", "soon")], Some((ms(2000), false))),
            ("{}", &[kind, ("grpc-timeout", "250m")], Some((ms(250), true))),
            ("{ total: 1s }", &[kind, ("grpc-timeout", "2S")], Some((ms(1000), false))),
            (both, &[kind, ("grpc-timeout", "900m"), ("x-wait", "800")], Some((ms(800), true))),
        ];
        for (yaml, fields, wanted) in story {
            assert_eq!(after(yaml, fields), wanted, "{yaml} {fields:?}");
        }
    }

    #[test]
    fn a_grpc_timeout_is_read_as_the_protocol_says() {
        let story =
            [("1H", Some(3_600_000)), ("2M", Some(120_000)), ("99999999m", Some(99_999_999)), ("1500000u", Some(1500))];
        for (text, millis) in story {
            assert_eq!(grpc_timeout(text), millis.map(Duration::from_millis), "{text}");
        }
        for text in ["", "m", "1", "1x", "-1S", "+1S", "1 S", "123456789m", "\u{e9}"] {
            assert_eq!(grpc_timeout(text), None, "{text}");
        }
    }

    #[test]
    fn the_target_is_told_what_is_left() {
        let now = Instant::now();
        let end = |told_in| End { at: now + Duration::from_micros(1_500_900), by_client: false, told_in };
        let told = |told_in| left(&end(told_in), now).map(|(_, left)| left.to_str().unwrap().to_owned());
        assert_eq!(told(Some(field::GRPC_TIMEOUT)).as_deref(), Some("1500m"));
        assert_eq!(told(Some(HeaderName::from_static("x-wait"))).as_deref(), Some("1500ms"));
        assert_eq!(told(None), None);
        let over = now + Duration::from_hours(1);
        assert_eq!(left(&end(Some(field::GRPC_TIMEOUT)), over).unwrap().1, "0m");
    }
}
