//! Admits who shows a key that stands in a file, which holds only hashes.
//!
//! ```yaml
//! auth: { key: { in: [header.x-api-key], file: /etc/yumen/partner-keys.yaml }, forward: { x-plan: consumer.plan } }
//! ```
//!
//! `yumen key new acme` prints a key and the line for the file: `acme: { hash: "sha256:...", plan: gold }`. What stands
//! beside `hash` is known of the consumer. The hash is fast, because these keys cannot be guessed; passwords are no keys.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::source::{self, Source};
use super::{Denial, pem};
use crate::exchange::{Identity, Request};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::units::Name;

/// Keys of consumers, hashed in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKey")]
pub struct Config {
    /// A file with a consumer a line; it is read again when it changes.
    pub file: PathBuf,
    /// Where the key lies; it must not lie in two of these places.
    #[serde(default = "x_api_key", rename = "in")]
    pub sources: Vec<Source>,
}

fn x_api_key() -> Vec<Source> {
    vec![Source::Header(http::HeaderName::from_static("x-api-key"))]
}

/// What a key begins with, so that a leaked one is recognised by who searches for secrets.
const START: &str = "ymn_";
/// Longer ones are none of ours.
const LONGEST: usize = 256;

type Hash = [u8; 32];

#[derive(Debug)]
struct Consumer {
    name: Arc<str>,
    attributes: Arc<Map<String, Value>>,
}

/// The keys of a file.
#[derive(Debug)]
pub struct ApiKeys {
    /// By the first bytes of the hash; the whole hash decides.
    consumers: HashMap<[u8; 8], Vec<(Hash, Arc<Consumer>)>>,
    pub sources: Vec<Source>,
    file: PathBuf,
}

impl ApiKeys {
    pub fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        if config.sources.is_empty() {
            problems.error(at.key("in"), "names no place, so nobody could come in");
        }
        let at = at.key("file");
        let (mut consumers, mut seen) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        match pem::whole(&config.file).and_then(|text| lines(&text)) {
            Err(why) => problems.error(at, format!("{}: {why}", config.file.display())),
            Ok(lines) => {
                for (name, line) in lines {
                    match consumer(&name, line) {
                        Err(why) => problems.error(at.clone(), format!("{}: `{name}` {why}", config.file.display())),
                        Ok((hashes, consumer)) => {
                            for hash in hashes {
                                if seen.contains(&hash) {
                                    problems.error(
                                        at.clone(),
                                        format!(
                                            "{}: `{name}` has a key that stands there twice",
                                            config.file.display()
                                        ),
                                    );
                                }
                                seen.push(hash);
                                consumers.entry(first(&hash)).or_default().push((hash, Arc::clone(&consumer)));
                            }
                        }
                    }
                }
            }
        }
        let (sources, file) = (config.sources.clone(), config.file.clone());
        (problems.errors() == before).then_some(Self { consumers, sources, file })
    }

    pub fn file(&self) -> &PathBuf {
        &self.file
    }

    /// Whose key the request shows.
    pub fn ask(&self, request: &dyn Request) -> Result<Identity, Denial> {
        let key = source::find(&self.sources, "apikey", request)?.ok_or(Denial::missing("no key"))?;
        let unknown = || Denial::new(Fault::AuthKey, "the key is nobody's");
        if key.len() > LONGEST {
            return Err(unknown());
        }
        let hash = digest(&SHA256, key.as_bytes());
        let near = self.consumers.get(hash.as_ref().get(..8).unwrap_or_default()).ok_or_else(unknown)?;
        let same = |known: &&(Hash, Arc<Consumer>)| verify_slices_are_equal(&known.0, hash.as_ref()).is_ok();
        let (_, consumer) = near.iter().find(same).ok_or_else(unknown)?;
        Ok(Identity {
            consumer: Some(Arc::clone(&consumer.name)),
            attributes: Some(Arc::clone(&consumer.attributes)),
            ..Identity::default()
        })
    }
}

fn first(hash: &Hash) -> [u8; 8] {
    let mut first = [0; 8];
    first.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    first
}

type Lines = BTreeMap<String, Map<String, Value>>;

fn lines(text: &str) -> Result<Lines, String> {
    let shape = "is a map of consumers, e.g. acme: { hash: \"sha256:...\" }";
    // By way of a value, which refuses what is written twice.
    let value: Option<serde_yaml::Value> = serde_yaml::from_str(text).map_err(|why| format!("{shape}: {why}"))?;
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Lines::new()) };
    serde_yaml::from_value(value).map_err(|_| shape.to_owned())
}

fn consumer(name: &str, mut line: Map<String, Value>) -> Result<(Vec<Hash>, Arc<Consumer>), String> {
    let name: Name = name.parse().map_err(|_| "is no name: use letters, digits, `-`, `_` and `.`")?;
    // A list without any is a consumer whose keys are all taken back.
    let hashes: Option<Vec<String>> = match line.remove("hash") {
        Some(Value::String(hash)) => Some(vec![hash]),
        list => list.and_then(|list| serde_json::from_value(list).ok()),
    };
    let hashes = hashes.ok_or("has no `hash`; `yumen key new` prints one")?;
    let hashes = hashes.iter().map(|text| {
        let bytes = text.strip_prefix("sha256:").and_then(|hash| URL_SAFE_NO_PAD.decode(hash).ok());
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or("has a `hash` that `yumen key new` did not print")
    });
    let hashes = hashes.collect::<Result<Vec<Hash>, _>>()?;
    Ok((hashes, Arc::new(Consumer { name: name.as_str().into(), attributes: Arc::new(line) })))
}

/// A new key and its hash as it stands in the file; nothing where the machine has no randomness.
pub fn generate() -> Option<(String, String)> {
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).ok()?;
    let key = format!("{START}{}", URL_SAFE_NO_PAD.encode(random));
    let hash = format!("sha256:{}", URL_SAFE_NO_PAD.encode(digest(&SHA256, key.as_bytes())));
    Some((key, hash))
}
