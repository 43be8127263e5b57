//! Which operations of a description a route takes, and under which hosts clients find them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::policy::template::Segment;
use crate::route::Route;
use crate::route::host::HostPattern;
use crate::route::matches::Match;

/// The servers under which the operation is found; none where the route does not take it.
pub(super) fn servers(route: &Route, method: &str, path: &str, scheme: &str) -> Option<BTreeSet<String>> {
    let takes = |one: &&Match| {
        let methods = one.methods.is_empty() || one.methods.iter().any(|known| known.to_string() == method);
        methods && takes_path(one, path)
    };
    let hosts: BTreeSet<_> = route.matches.iter().filter(takes).map(|one| server(&one.host, scheme)).collect();
    (!hosts.is_empty()).then_some(hosts)
}

/// Whether a path that the template describes can be one of the match.
fn takes_path(one: &Match, template: &str) -> bool {
    if let Some(regex) = &one.regex {
        return regex.matches(&template.replace(['{', '}'], ""));
    }
    let Some(path) = &one.path else { return true };
    let mut segments = template.trim_start_matches('/').split('/');
    for segment in path.segments() {
        match (segment, segments.next()) {
            (Segment::Rest, _) => return true,
            (_, None) => return false,
            (Segment::Literal(name), Some(said)) if **name != *said && !said.contains('{') => return false,
            _ => {}
        }
    }
    segments.next().is_none()
}

/// How a host is written as a server; a name before the dot is the client's to choose.
fn server(host: &HostPattern, scheme: &str) -> String {
    match host {
        HostPattern::Exact(host) => format!("{scheme}://{host}"),
        HostPattern::Below(host) => format!("{scheme}://{{name}}{host}"),
        HostPattern::Any => "/".to_owned(),
    }
}

/// The same as the description wants it.
pub(super) fn described(servers: &BTreeSet<String>) -> Value {
    let one = |url: &String| {
        if url.contains("{name}") {
            json!({ "url": url, "variables": { "name": { "default": "www" } } })
        } else {
            json!({ "url": url })
        }
    };
    servers.iter().map(one).collect()
}
