//! What is wrong with the settings of discovery.

use super::{Config, consul};
use crate::pool::tls;
use crate::problem::{Path, Problems};
use crate::units::is_host_name;

/// `targets` says whether the document names targets too.
pub(in crate::pool) fn complain(config: &Config, targets: bool, at: &Path, problems: &mut Problems) {
    let sources = [("srv", &config.srv), ("consul", &config.consul)];
    let said: Vec<_> = sources.iter().filter(|(_, said)| said.is_some()).map(|(key, _)| *key).collect();
    match said[..] {
        [first, second] => problems.error(at.key(second), format!("stands beside `{first}`; targets have one source")),
        [one] if targets => {
            problems.error(at.key(one), "stands beside `targets`; targets have one source");
        }
        _ => {}
    }
    if let Some(name) = config.srv.as_ref().filter(|name| !is_service(name)) {
        let sentence = format!("`{name}` is not the name of a service, e.g. _http._tcp.app.internal");
        problems.error(at.key("srv"), sentence);
    }
    if config.consul.as_ref().is_some_and(String::is_empty) {
        problems.error(at.key("consul"), "is empty; name a service, e.g. events");
    }
    if config.consul.is_some() {
        of_consul(config, at, problems);
    } else {
        let own = [
            ("tag", config.tag.is_some()),
            ("at", config.at.is_some()),
            ("token", config.token.is_some()),
            ("datacenter", config.datacenter.is_some()),
            ("ca", config.ca.is_some()),
        ];
        // As a default it waits for pools that ask Consul.
        for (key, _) in own.into_iter().filter(|(_, said)| *said) {
            problems.error(at.key(key), "is asked for beside `consul` only");
        }
    }
}

/// `_http._tcp.app.internal`, with or without the dot at its end.
fn is_service(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let mut labels = name.split('.');
    let marked = |label: Option<&str>| label.is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    is_host_name(name) && marked(labels.next()) && marked(labels.next()) && labels.next().is_some()
}

fn of_consul(config: &Config, at: &Path, problems: &mut Problems) {
    if config.at.as_ref().is_some_and(|url| url.target.contains('?')) {
        problems.error(at.key("at"), "has a query; say where Consul answers, e.g. http://127.0.0.1:8500");
    }
    if let Some(file) = &config.ca {
        tls::complain_of_authorities(file, &at.key("ca"), problems);
        if consul::at(config).is_some_and(|url| !url.tls) {
            problems.error(at.key("ca"), "is believed over `https:` only");
        }
    }
    let Some(token) = &config.token else { return };
    if token.is_literal() {
        let sentence = "a secret in the document is read by everyone who reads it; write file:/path or env:NAME";
        problems.warn(at.key("token"), sentence);
    }
    match token.resolve() {
        Err(why) => problems.error(at.key("token"), why),
        Ok(text) if text.is_empty() || text.bytes().any(|b| !b.is_ascii_graphic()) => {
            problems.error(at.key("token"), "holds no token: it is empty, or has spaces or control characters");
        }
        Ok(_) => {}
    }
    if consul::at(config).is_some_and(|url| !url.is_safe()) {
        problems.warn(at.key("token"), "travels over `http:`, where anyone on the way can read it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_two_marked_labels() {
        for name in ["_http._tcp.app.internal", "_http._tcp.app.internal.", "_a._b.c"] {
            assert!(is_service(name), "{name}");
        }
        for name in ["app.internal", "_http.app.internal", "_http._tcp", "_._tcp.a", "_http._tcp.a b", ""] {
            assert!(!is_service(name), "{name}");
        }
    }
}
