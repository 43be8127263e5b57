//! Hosts as routes name them, and as upstreams see them.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::canonical;

/// The hosts of a match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host.
    Exact(Box<str>),
    /// Every host below; without the `*`, e.g. `.example.com`.
    Below(Box<str>),
    /// Every host.
    #[default]
    Any,
}

impl HostPattern {
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Below(domain) => host.len() > domain.len() && host.ends_with(&**domain),
            Self::Any => true,
        }
    }
    /// Exact before wildcard, the longer wildcard before the shorter, any host last: the highest comes first.
    pub fn rank(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(domain) => domain.len(),
            Self::Any => 0,
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(domain) => Ok(Self::Below(format!(".{}", name(text, domain)?).into())),
            None => Ok(Self::Exact(name(text, text)?.into())),
        }
    }
}

/// The host as requests carry it after they were made safe.
fn name(text: &str, host: &str) -> Result<String, String> {
    if host.contains('*') {
        return Err(format!("`{text}`: `*` stands only in front, e.g. *.example.com"));
    }
    match canonical::host(host) {
        Ok((name, None)) => Ok(name.into_owned()),
        Ok((_, Some(port))) => Err(format!("`{text}`: leave `:{port}` out, routes serve every listener")),
        Err(_) => Err(format!("`{text}` is not a host, e.g. api.example.com")),
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Below(domain) => write!(f, "*{domain}"),
            Self::Any => f.write_str("*"),
        }
    }
}

crate::units::scalar!(HostPattern, "a host", example "api.example.com",
    bare number |n| Err(format!("`{n}` is not a host, e.g. api.example.com")),
    "A host, `*.example.com` for every host below, or `*` for every host.");

/// The host that the upstream sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The client's.
    #[default]
    Pass,
    /// This one, perhaps with a port.
    Set(Box<str>),
}

impl UpstreamHost {
    /// The host that takes the place of the client's.
    pub fn set(&self) -> Option<&str> {
        match self {
            Self::Pass => None,
            Self::Set(host) => Some(host),
        }
    }
}

impl FromStr for UpstreamHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "pass" {
            return Ok(Self::Pass);
        }
        match canonical::host(text) {
            Ok((host, Some(port))) => Ok(Self::Set(format!("{host}:{port}").into())),
            Ok((host, None)) => Ok(Self::Set(host.into())),
            Err(_) => Err(format!("`{text}` is not `pass` or a host, e.g. api.example.com")),
        }
    }
}

impl fmt::Display for UpstreamHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Set(host) => f.write_str(host),
        }
    }
}

crate::units::scalar!(UpstreamHost, "`pass` or a host", example "pass",
    bare number |n| Err(format!("`{n}` is not a host, e.g. api.example.com")),
    "`pass` keeps the client's host; a name is sent instead of it.");

/// The number of a host pattern in one table.
pub type HostId = u32;

/// Every host pattern of a table, each with the less specific ones that match the same hosts.
#[derive(Debug)]
pub struct Hosts {
    exact: HashMap<Box<str>, Box<[HostId]>>,
    below: HashMap<Box<str>, Box<[HostId]>>,
}

impl Hosts {
    /// Numbers the patterns in the order in which they come; 0 is any host.
    pub fn new<'p>(patterns: impl IntoIterator<Item = &'p HostPattern>) -> (Self, HashMap<HostPattern, HostId>) {
        let mut ids = HashMap::from([(HostPattern::Any, 0)]);
        for pattern in patterns {
            let next = HostId::try_from(ids.len()).unwrap_or(HostId::MAX);
            ids.entry(pattern.clone()).or_insert(next);
        }
        let mut hosts = Self { exact: HashMap::new(), below: HashMap::new() };
        for (pattern, id) in &ids {
            match pattern {
                HostPattern::Exact(name) => hosts.exact.insert(name.clone(), chain(*id, name, &ids)),
                HostPattern::Below(domain) => hosts.below.insert(domain.clone(), chain(*id, domain, &ids)),
                HostPattern::Any => None,
            };
        }
        (hosts, ids)
    }

    /// The patterns that match this host, the most specific first; any host is the last.
    pub fn chain(&self, host: &str) -> &[HostId] {
        if let Some(chain) = self.exact.get(host) {
            return chain;
        }
        if self.below.is_empty() {
            return &[0];
        }
        domains(host).find_map(|domain| self.below.get(domain)).map_or(&[0], |chain| chain)
    }

    /// The patterns that match every host of this one, itself first.
    pub fn wider(&self, pattern: &HostPattern) -> &[HostId] {
        let known = match pattern {
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::Below(domain) => self.below.get(domain),
            HostPattern::Any => None,
        };
        known.map_or(&[0], |chain| chain)
    }
}

/// The patterns that match what this one matches, itself first.
fn chain(id: HostId, text: &str, ids: &HashMap<HostPattern, HostId>) -> Box<[HostId]> {
    let wider = domains(text).filter_map(|domain| ids.get(&HostPattern::Below(domain.into())));
    std::iter::once(id).chain(wider.copied()).chain([0]).collect()
}

/// `.b.c` and `.c` of `a.b.c`, and of `.a.b.c`.
fn domains(host: &str) -> impl Iterator<Item = &str> {
    host.char_indices().filter(|(at, c)| *at > 0 && *c == '.').filter_map(|(at, _)| host.get(at..))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_is_read_as_requests_carry_it() {
        for (text, shown) in [
            ("API.example.com", "api.example.com"),
            ("*.Example.com.", "*.example.com"),
            ("*", "*"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), shown);
        }
        for text in ["", "a*.b", "*.*.b", "a b", "a:80", "user@a", "*."] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
        assert_eq!("API.internal:8080".parse::<UpstreamHost>().unwrap().to_string(), "api.internal:8080");
        assert!("a/b".parse::<UpstreamHost>().is_err());
    }

    fn name() -> impl Strategy<Value = String> {
        "[ab](\\.[ab]){0,4}"
    }

    proptest! {
        #[test]
        fn the_chain_holds_what_matches_the_most_specific_first(
            host in name(),
            patterns in prop::collection::vec((name(), any::<bool>()), 0..12),
        ) {
            let patterns: Vec<HostPattern> = patterns.iter()
                .map(|(name, below)| if *below { format!("*.{name}") } else { name.clone() }.parse().unwrap()).collect();
            let (hosts, ids) = Hosts::new(&patterns);
            let mut expected: Vec<&HostPattern> = ids.keys().filter(|pattern| pattern.matches(&host)).collect();
            expected.sort_by_key(|pattern| std::cmp::Reverse(pattern.rank()));
            let expected: Vec<HostId> = expected.into_iter().map(|pattern| ids[pattern]).collect();
            prop_assert_eq!(hosts.chain(&host), &expected[..]);
        }
    }
}
