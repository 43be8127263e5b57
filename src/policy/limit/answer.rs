//! How a client is told of a limit: `RateLimit-Policy`, `RateLimit`, `Retry-After`, and the fields from before them.
//!
//! The standard fields are those of draft-ietf-httpapi-ratelimit-headers.

use http::{HeaderName, HeaderValue, header};

use super::config::{Config, Headers};
use super::left::Left;
use crate::units::Quota;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

type Field = (HeaderName, HeaderValue);

/// When there will be more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Nobody knows.
    None,
    /// When the period ends; one is not as long as the other.
    Calendar,
    /// After so many seconds.
    Seconds(u64),
}

impl Window {
    pub fn of(config: &Config) -> Self {
        let rate = config.rate.map(|rate| Self::Seconds(rate.per().length().as_secs()));
        rate.unwrap_or_else(|| match config.quota.map(Quota::per) {
            Some(per) if per.is_even() => Self::Seconds(u64::from(per.hours()) * 3600),
            Some(_) => Self::Calendar,
            None => Self::None,
        })
    }
}

/// What is the same in every answer under one limit.
#[derive(Debug)]
pub struct Fields {
    name: sfv::String,
    policy: HeaderValue,
    quota: u64,
    /// Without a window nobody knows when there will be more.
    timed: bool,
    headers: Headers,
}

impl Fields {
    /// `quota` requests in a `window`. Nothing for a name that no field can carry.
    pub fn new(name: &str, quota: u64, window: Window, headers: Headers) -> Option<Self> {
        let name = sfv::String::try_from(name.to_owned()).ok()?;
        let mut policy = sfv::ItemSerializer::new().bare_item(&name).parameter(sfv::key_ref("q"), number(quota));
        if let Window::Seconds(window) = window {
            policy = policy.parameter(sfv::key_ref("w"), number(window));
        }
        let policy = HeaderValue::try_from(policy.finish()).ok()?;
        Some(Self { name, policy, quota, timed: window != Window::None, headers })
    }

    /// The fields of an answer to a request that was admitted.
    pub fn admitted(&self, left: &Left, to: &mut Vec<Field>) {
        if self.headers == Headers::None {
            return;
        }
        let item = sfv::ItemSerializer::new().bare_item(&self.name);
        let mut item = item.parameter(sfv::key_ref("r"), number(left.requests));
        if self.timed {
            item = item.parameter(sfv::key_ref("t"), number(left.seconds()));
        }
        if let Ok(item) = HeaderValue::try_from(item.finish()) {
            to.extend([(POLICY, self.policy.clone()), (LIMIT, item)]);
        }
        if self.headers == Headers::Legacy {
            let numbers = [self.quota, left.requests, left.seconds()].map(HeaderValue::from);
            to.extend([LEGACY_LIMIT, LEGACY_REMAINING, LEGACY_RESET].into_iter().zip(numbers));
        }
    }

    /// The fields of a refusal.
    pub fn refused(&self, left: &Left) -> Vec<Field> {
        let mut fields = vec![(header::RETRY_AFTER, HeaderValue::from(left.seconds()))];
        self.admitted(left, &mut fields);
        fields
    }

    /// Whether this leaves a smaller share than that one.
    pub fn is_tighter(&self, left: &Left, other: &Self, than: &Left) -> bool {
        u128::from(left.requests) * u128::from(other.quota) < u128::from(than.requests) * u128::from(self.quota)
    }
}

/// Fields carry 15 digits.
fn number(number: u64) -> sfv::Integer {
    let most = u64::try_from(sfv::Integer::MAX).unwrap_or(0);
    sfv::Integer::try_from(number.min(most)).unwrap_or(sfv::Integer::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn said(fields: &[Field]) -> Vec<String> {
        fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    const LEFT: Left = Left { requests: 0, reset: Duration::from_millis(11_500) };

    #[test]
    fn a_refusal_says_when_and_how_much() {
        let fields = Fields::new("per-user", 100, Window::Seconds(60), Headers::Standard).unwrap();
        let expected =
            ["retry-after: 12", "ratelimit-policy: \"per-user\";q=100;w=60", "ratelimit: \"per-user\";r=0;t=12"];
        assert_eq!(said(&fields.refused(&LEFT)), expected);
    }

    #[test]
    fn the_old_fields_come_where_they_are_asked_for_and_none_where_none_are() {
        let fields = Fields::new("a", 100, Window::Seconds(60), Headers::Legacy).unwrap();
        let expected = ["x-ratelimit-limit: 100", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 12"];
        assert_eq!(said(&fields.refused(&LEFT))[3..], expected);
        let silent = Fields::new("a", 100, Window::None, Headers::None).unwrap();
        assert_eq!(said(&silent.refused(&LEFT)), ["retry-after: 12"]);
    }

    #[test]
    fn the_smaller_share_is_the_tighter_one() {
        let of = |quota| Fields::new("a", quota, Window::None, Headers::Standard).unwrap();
        let left = |requests| Left { requests, reset: Duration::ZERO };
        assert!(of(100).is_tighter(&left(10), &of(10), &left(5)));
        assert!(!of(10).is_tighter(&left(5), &of(100), &left(10)));
    }
}
