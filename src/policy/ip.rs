//! Refuses clients whose address is not on the list.
//!
//! ```yaml
//! ip: { allow: [10.0.0.0/8, "2001:db8::/32"], deny: [10.9.0.0/16] }
//! ```
//!
//! A list may be `file:/path`, with a network a line; `#` begins a comment. It is read again when it changes.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::{Mode, Rule, Tools};
use super::networks::{List, Networks};
use crate::exchange::{Refusal, Request};
use crate::fault::Fault;
use crate::problem::{Path, Problems};

/// Which networks may enter: the longest prefix that holds the client's address decides, and of two equal ones `deny`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ip")]
pub struct Config {
    /// Networks that may enter, or `file:/path` with one a line; everyone else is refused. Left out: everyone may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<List>,
    /// Networks that may not enter, or `file:/path` with one a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<List>,
    /// `shadow` only counts and logs who would be refused.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
}

/// The list, decided once.
#[derive(Debug)]
pub struct Ip {
    networks: Networks<bool>,
    others: bool,
    files: Vec<PathBuf>,
    rule: Rule,
}

impl Ip {
    pub fn compile(config: &Config, at: &Path, tools: &Tools<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if config.allow.is_none() && config.deny.is_none() {
            problems.error(at.clone(), "takes at least one of `allow` and `deny`");
        }
        let mut read = |list: &Option<List>, key: &str| {
            list.as_ref().map_or_else(Vec::new, |list| list.read(&at.key(key), problems))
        };
        let (allow, deny) = (read(&config.allow, "allow"), read(&config.deny, "deny"));
        let may = |may: bool| move |network: IpNet| (network, may);
        // Later ones replace earlier ones: `deny` wins over the same network in `allow`.
        let networks = allow.into_iter().map(may(true)).chain(deny.into_iter().map(may(false)));
        let files = [&config.allow, &config.deny].into_iter().flatten().filter_map(List::file).collect();
        (problems.errors() == before).then(|| Self {
            networks: networks.collect(),
            others: config.allow.is_none(),
            files,
            rule: Rule::new(at, config.mode, tools),
        })
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn admits(&self, client: IpAddr) -> bool {
        self.networks.longest(client).map_or(self.others, |(_, may)| *may)
    }

    /// Refuses who may not enter.
    pub fn check(&self, request: &dyn Request) -> Result<(), Refusal> {
        let client = request.client();
        if self.admits(client) {
            return Ok(());
        }
        let network = self.networks.longest(client).map(|(network, _)| network);
        let why = match network {
            Some(network) => format!("{client} is in {network}"),
            None => format!("{client} is in no network of `allow`"),
        };
        Err(self.rule.refuse(Fault::ClientRefused, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(yaml: &str) -> Result<Ip, String> {
        let mut problems = Problems::default();
        let place = |_: &Path| "y:1:1".to_owned();
        let auth = std::collections::BTreeMap::new();
        let tools = Tools::alone(&place, &auth);
        let made = Ip::compile(&serde_yaml::from_str(yaml).unwrap(), &Path::of(["ip"]), &tools, &mut problems);
        made.ok_or_else(|| problems.iter().map(|p| format!("{}: {}", p.at, p.sentence)).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn the_longest_prefix_decides() {
        let ip = ip("{ allow: [10.0.0.0/8, 10.9.1.0/24, '2001:db8::/32'], deny: [10.9.0.0/16, 10.7.7.7] }").unwrap();
        for (client, may) in [
            ("10.1.2.3", true),
            ("10.9.2.3", false),
            ("10.9.1.3", true),
            ("10.7.7.7", false),
            ("10.7.7.8", true),
            ("11.0.0.1", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:10.9.2.3", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(ip.admits(client.parse::<IpAddr>().unwrap().to_canonical()), may, "{client}");
        }
    }

    #[test]
    fn deny_alone_lets_everyone_else_in_and_wins_over_the_same_network() {
        let only = ip("{ deny: [10.0.0.0/8] }").unwrap();
        assert!(!only.admits([10, 1, 1, 1].into()) && only.admits([11, 1, 1, 1].into()));
        let both = ip("{ allow: [10.0.0.0/8], deny: [10.0.0.0/8] }").unwrap();
        assert!(!both.admits([10, 1, 1, 1].into()));
        assert!(!ip("{ allow: [] }").unwrap().admits([10, 1, 1, 1].into()), "an empty list admits nobody");
    }

    #[test]
    fn a_file_has_a_network_a_line_and_each_mistake_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("blocked.txt");
        std::fs::write(&file, "# ours\n10.0.0.0/8 # inside\n\n2001:db8::/32\n").unwrap();
        let list = ip(&format!("{{ deny: 'file:{}' }}", file.display())).unwrap();
        assert!(!list.admits([10, 1, 1, 1].into()) && list.admits([11, 1, 1, 1].into()));
        assert_eq!(list.files(), std::slice::from_ref(&file));
        std::fs::write(&file, "10.0.0.0/8\nten\n10.0.0.1/8\n").unwrap();
        let wrong = ip(&format!("{{ deny: 'file:{}' }}", file.display())).unwrap_err();
        assert!(wrong.contains("line 2: `ten`") && wrong.contains("line 3: `10.0.0.1/8`"), "{wrong}");
        assert!(ip("{ deny: file:/nowhere/at/all }").unwrap_err().contains("cannot read /nowhere/at/all"));
        assert!(ip("{}").unwrap_err().contains("at least one"));
    }
}
