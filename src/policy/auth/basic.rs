//! Admits who shows a name and a password that stand in a file, which holds only hashes.
//!
//! ```yaml
//! auth: { basic: { file: /etc/yumen/users }, strip: true, forward: { x-user: consumer } }
//! ```
//!
//! The file is what htpasswd writes, `name:hash` a line; only argon2id and bcrypt are taken. `yumen password acme` prints
//! a line. A name that is not there costs as much time as one that is: it is compared with the hash of another.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flight::Flights;
use super::memory::{Mark, Memory};
use super::password::{self, Hash};
use super::source::{self, Source};
use super::{Denial, pem};
use crate::exchange::{Identity, Request};
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::state::Shelf;

/// Names and passwords (RFC 7617), hashed in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Basic")]
pub struct Config {
    /// A file with `name:hash` a line, hashed by argon2id or bcrypt; it is read again when it changes.
    pub file: PathBuf,
}

/// Where names and passwords lie.
pub const SOURCE: Source = Source::Header(http::header::AUTHORIZATION);

/// Longer ones are not looked at.
const LONGEST: usize = 2048;
/// How long a request waits until its password was looked at.
const LATEST: Duration = Duration::from_mins(1);
/// Bytes of names that were found good, by file.
const REMEMBERED: usize = 1 << 20;

/// Who was found good, by the content of the file: another content, and everyone is asked again.
static MEMORIES: LazyLock<Shelf<[u8; 32], Memory<Arc<str>>>> = LazyLock::new(Shelf::default);

/// The users of a file.
#[derive(Debug)]
pub struct Users {
    known: HashMap<Arc<str>, Arc<Hash>>,
    /// The same hashes, for names that are not there.
    hashes: Vec<Arc<Hash>>,
    good: Arc<Memory<Arc<str>>>,
    looking: Flights<Result<Arc<str>, Denial>>,
    file: PathBuf,
}

/// A name and a password that have to be looked at.
pub struct Shown {
    name: Box<str>,
    password: Box<str>,
    mark: Mark,
}

impl Users {
    pub fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Option<Self> {
        let (before, at, show) = (problems.errors(), at.key("file"), config.file.display());
        let text = pem::whole(&config.file).map_err(|why| problems.error(at.clone(), why)).ok()?;
        let mut known = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut wrong = |why: String| problems.error(at.clone(), format!("{show}:{}: {why}", number + 1));
            let Some((name, hash)) = line.split_once(':').filter(|(name, _)| !name.is_empty()) else {
                wrong("is no `name:hash`, e.g. acme:$2y$12$...".to_owned());
                continue;
            };
            match Hash::read(hash) {
                Err(why) => wrong(format!("the password of `{name}` {why}")),
                Ok(hash) => {
                    if known.insert(Arc::from(name), Arc::new(hash)).is_some() {
                        wrong(format!("`{name}` stands there twice"));
                    }
                }
            }
        }
        if known.is_empty() && problems.errors() == before {
            problems.warn(at, format!("{show} has no users, so nobody can come in"));
        }
        let mut content = [0; 32];
        content.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        let good = MEMORIES.keep(content, || Memory::new(REMEMBERED));
        let hashes = known.values().cloned().collect();
        (problems.errors() == before).then(|| Self {
            known,
            hashes,
            good,
            looking: Flights::default(),
            file: config.file.clone(),
        })
    }

    pub fn file(&self) -> &PathBuf {
        &self.file
    }

    /// Who the request comes from, if it was found out before; else what has to be looked at.
    pub fn recall(&self, request: &dyn Request) -> Result<Result<Identity, Shown>, Denial> {
        let text = source::find(&[SOURCE], "basic", request)?.ok_or(Denial::missing("no name and password"))?;
        let malformed = |why| Denial::new(Fault::AuthMalformed, why);
        if text.len() > LONGEST {
            return Err(malformed("a name and password that are too long"));
        }
        let bytes = STANDARD.decode(text).map_err(|_| malformed("something else than base64"))?;
        let text = String::from_utf8(bytes).map_err(|_| malformed("a name or password that is not UTF-8"))?;
        let (name, password) = text.split_once(':').ok_or_else(|| malformed("a name without a password"))?;
        if text.chars().any(char::is_control) {
            return Err(malformed("a name or password with control characters"));
        }
        let mark = Mark::of([name.as_bytes(), password.as_bytes()]);
        Ok(match self.good.get(&mark, Instant::now()) {
            Some(name) => Ok(named(name)),
            None => Err(Shown { name: name.into(), password: password.into(), mark }),
        })
    }

    /// Whose name and password it is; who shows the same meanwhile gets the same answer.
    pub async fn verify(&self, shown: Shown) -> Result<Identity, Denial> {
        let looking = self.looking.once(shown.mark, Box::pin(self.look(shown)));
        let late = |_| Denial::new(Fault::AuthUnavailable, "the password could not be looked at in time");
        let (name, _) = tokio::time::timeout(LATEST, looking).await.map_err(late)?;
        name.map(named)
    }

    /// Everyone waits as long, whether the name is there or not.
    async fn look(&self, shown: Shown) -> Result<Arc<str>, Denial> {
        // Another one may have found it out since it was looked for.
        if let Some(name) = self.good.get(&shown.mark, Instant::now()) {
            return Ok(name);
        }
        let wrong = || Denial::new(Fault::AuthPassword, "no such name, or another password");
        let user = self.known.get_key_value(&*shown.name);
        let other = || self.hashes.get(Mark::of([shown.name.as_bytes()]).draw(self.hashes.len()));
        let hash = user.map(|(_, hash)| hash).or_else(other).ok_or_else(wrong)?;
        let busy = || Denial::new(Fault::AuthUnavailable, "too many passwords are being looked at");
        let fits = password::verify(Arc::clone(hash), shown.password).await.ok_or_else(busy)?;
        let (name, _) = user.filter(|_| fits).ok_or_else(wrong)?;
        self.good.put(shown.mark, Arc::clone(name), None, name.len());
        Ok(Arc::clone(name))
    }
}

fn named(name: Arc<str>) -> Identity {
    Identity { consumer: Some(name), ..Identity::default() }
}
