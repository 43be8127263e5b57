//! Hashes of passwords: which are strong enough, what they are compared with, and how many are computed at once.
//!
//! The floor is that of OWASP's Password Storage Cheat Sheet: argon2id with 19 MiB and 2 passes, or less memory with
//! more passes as it lists them; bcrypt with a cost of 10.

use std::fmt;
use std::sync::{Arc, LazyLock};

use argon2::{Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::Semaphore;

/// A hash that is strong enough to be guessed at in vain, and cheap enough for a request.
pub enum Hash {
    Bcrypt(Box<str>),
    Argon2 { params: Params, salt: Box<[u8]>, hash: Box<[u8]> },
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Bcrypt(_)) { "Bcrypt" } else { "Argon2" })
    }
}

/// KiB and passes, the least of which is enough.
const FLOOR: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];
/// KiB, passes and lanes that a request may cost at most.
const CEILING: (u32, u32, u32) = (262_144, 16, 16);
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 10..=16;

/// What a line may begin with and is not taken.
const WEAK: [(&str, &str); 7] = [
    ("$apr1$", "MD5"),
    ("$1$", "MD5"),
    ("{SHA}", "SHA-1"),
    ("{SSHA}", "SHA-1"),
    ("$5$", "SHA-256"),
    ("$6$", "SHA-512"),
    ("$2x$", "the bcrypt of a version with a mistake in it"),
];

impl Hash {
    /// The error is what is wrong with it, without showing it.
    pub fn read(text: &str) -> Result<Self, String> {
        if let Some((_, name)) = WEAK.iter().find(|(start, _)| text.starts_with(start)) {
            return Err(format!("is hashed by {name}, which is guessed too fast; take argon2id or bcrypt"));
        }
        if let Some(rest) = text.strip_prefix("$argon2") {
            return Self::argon2(rest);
        }
        if ["$2a$", "$2b$", "$2y$"].iter().any(|start| text.starts_with(start)) {
            return Self::bcrypt(text);
        }
        let crypt = text.len() == 13 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
        let what = if crypt { "is hashed by crypt, which is guessed too fast" } else { "is no hash that is known" };
        Err(format!("{what}; take argon2id or bcrypt"))
    }

    fn bcrypt(text: &str) -> Result<Self, String> {
        let parts = text.parse::<bcrypt::HashParts>().map_err(|_| "is no whole bcrypt hash")?;
        let cost = parts.get_cost();
        if cost < *BCRYPT_COSTS.start() {
            return Err(format!("has a bcrypt cost of {cost}, at least 10 is needed, e.g. htpasswd -B -C 12"));
        }
        if !BCRYPT_COSTS.contains(&cost) {
            return Err(format!("has a bcrypt cost of {cost}, which takes a request too long; at most 16"));
        }
        Ok(Self::Bcrypt(text.into()))
    }

    /// A PHC string after `$argon2`: `id$v=19$m=19456,t=2,p=1$SALT$HASH`.
    fn argon2(rest: &str) -> Result<Self, String> {
        let wrong = || "is no whole argon2 hash, e.g. $argon2id$v=19$m=19456,t=2,p=1$...".to_owned();
        let parts: Vec<_> = rest.split('$').collect();
        let [kind, version, costs, salt, hash] = parts.as_slice() else { return Err(wrong()) };
        if *kind != "id" || *version != "v=19" {
            return Err(format!("is hashed by argon2{kind} {version}; take argon2id, v=19"));
        }
        let cost = |part: Option<&str>, name: &str| part?.strip_prefix(name)?.parse::<u32>().ok();
        let mut costs = costs.split(',');
        let (memory, passes, lanes) = (cost(costs.next(), "m="), cost(costs.next(), "t="), cost(costs.next(), "p="));
        let (Some(memory), Some(passes), Some(lanes), None) = (memory, passes, lanes, costs.next()) else {
            return Err(wrong());
        };
        if !FLOOR.iter().any(|(least, times)| memory >= *least && passes >= *times) {
            return Err(format!("has an argon2id cost of m={memory},t={passes}; at least m=19456,t=2 is needed"));
        }
        if memory > CEILING.0 || passes > CEILING.1 || lanes > CEILING.2 {
            return Err("has an argon2id cost that takes a request too long; at most m=262144,t=16,p=16".to_owned());
        }
        let bytes = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| wrong());
        let (salt, hash) = (bytes(salt)?, bytes(hash)?);
        if salt.len() < 8 || !(16..=64).contains(&hash.len()) {
            return Err(wrong());
        }
        let params = Params::new(memory, passes, lanes, Some(hash.len())).map_err(|_| wrong())?;
        Ok(Self::Argon2 { params, salt: salt.into(), hash: hash.into() })
    }

    /// Takes as long as it should: tens of milliseconds.
    pub fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2 { params, salt, hash } => {
                let mut computed = vec![0; hash.len()];
                let argon2 = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params.clone());
                argon2.hash_password_into(password, salt, &mut computed).is_ok()
                    && verify_slices_are_equal(&computed, hash).is_ok()
            }
        }
    }
}

/// A new argon2id hash as it stands in a file; nothing where the machine has no randomness.
pub fn hash(password: &[u8]) -> Option<String> {
    let (mut salt, mut hash) = ([0; 16], [0; 32]);
    aws_lc_rs::rand::fill(&mut salt).ok()?;
    Argon2::default().hash_password_into(password, &salt, &mut hash).ok()?;
    let (memory, passes, lanes) = (Params::DEFAULT_M_COST, Params::DEFAULT_T_COST, Params::DEFAULT_P_COST);
    let text = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
    Some(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}", text(&salt), text(&hash)))
}

/// As many at once as there are cores; a few times as many may wait for their turn.
struct Turns {
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// How many wait for each that runs.
const QUEUE: usize = 8;

static TURNS: LazyLock<Turns> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Turns { running: Arc::new(Semaphore::new(cores)), places: Arc::new(Semaphore::new(cores * (1 + QUEUE))) }
});

/// Whether `hash` is of `password`, found out beside the requests; nothing where too many ask at once.
pub async fn verify(hash: Arc<Hash>, password: Box<str>) -> Option<bool> {
    let place = Arc::clone(&TURNS.places).try_acquire_owned().ok()?;
    let turn = Arc::clone(&TURNS.running).acquire_owned().await.ok()?;
    // The turn ends with the work, also where the client has left before.
    let work = move || {
        let verdict = hash.is_of(password.as_bytes());
        drop((turn, place));
        verdict
    };
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_hashed_here_is_taken_and_only_its_own_password_fits() {
        let hash = Hash::read(&super::hash("grüße".as_bytes()).unwrap()).unwrap();
        assert!(hash.is_of("grüße".as_bytes()) && !hash.is_of(b"gruesse"));
        // Made by libxcrypt, and a vector of argon2's authors.
        for (line, password) in [
            ("$2y$10$LXh5YGIRVvOJDzpKM2EHkOepyk.CxOuh4RW.HpTDDXssfLedMwEky", "geheim"),
            ("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"),
        ] {
            let hash = Hash::read(line).unwrap();
            assert!(hash.is_of(password.as_bytes()) && !hash.is_of(b"another"), "{line}");
        }
    }

    #[test]
    fn weak_and_endless_hashes_are_refused() {
        for (line, said) in [
            ("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "MD5"),
            ("$1$salt$qJH7.N4xYta3aEG/dfqo/0", "MD5"),
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1"),
            ("$6$salt$abc", "SHA-512"),
            ("rqXexS6ZhobKA", "crypt"),
            ("secret", "no hash"),
            ("", "no hash"),
            ("$2x$12$LXh5YGIRVvOJDzpKM2EHkO0N5gqHMDdsf1kJgD1k8zKfXB1kQ9Y4i", "mistake"),
            ("$2y$05$LXh5YGIRVvOJDzpKM2EHkO0N5gqHMDdsf1kJgD1k8zKfXB1kQ9Y4i", "cost of 5"),
            ("$2y$31$LXh5YGIRVvOJDzpKM2EHkO0N5gqHMDdsf1kJgD1k8zKfXB1kQ9Y4i", "too long"),
            ("$2y$12$short", "no whole bcrypt"),
            ("$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAA", "argon2i v=19"),
            ("$argon2id$v=16$m=19456,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAA", "v=19"),
            ("$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAA", "m=4096,t=3"),
            ("$argon2id$v=19$m=9999999,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAA", "too long"),
            ("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$AAAA", "no whole argon2"),
            ("$argon2id$v=19$m=19456,t=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAA", "no whole argon2"),
        ] {
            let why = Hash::read(line).unwrap_err();
            assert!(why.contains(said), "{line}: {why}");
        }
        assert!(Hash::read("$argon2id$v=19$m=7168,t=5,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAA").is_ok());
    }
}
