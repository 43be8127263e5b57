//! Session tickets: what a client keeps of its TLS session, sealed under keys that change and that a successor takes over.
//!
//! A ticket is the name of its key, a nonce, and the session under AES-256-GCM. A key seals for six hours and opens for six
//! more; then nobody can open what it has sealed.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use rustls::server::ProducesTickets;
use serde_json::{Value, json};

use crate::state::Shelf;
use crate::state::parcel::{Said, ago};
use crate::units::Name;

/// How long a key seals, and then opens.
const SPAN: Duration = Duration::from_hours(6);
const NAME: usize = 16;
const NONCE: usize = 12;

/// Keys by listener and client CA, so that sessions resume after a reload, and only where they began: a session that began
/// without a client certificate must not resume where one is required.
static TICKETERS: LazyLock<Shelf<String, Ticketer>> = LazyLock::new(Shelf::default);

/// The keys of this listener, with the mark of its client CA.
pub(super) fn keep(listener: &Name, mark: &[u8]) -> Arc<Ticketer> {
    let place = format!("{listener} {}", BASE64.encode(digest(&SHA256, mark)));
    TICKETERS.keep(place, || Ticketer::new(Instant::now()))
}

/// The keys of all listeners, as of this moment.
pub fn pack(now: Instant) -> Value {
    Value::Object(TICKETERS.all().into_iter().map(|(place, ticketer)| (place, ticketer.pack(now))).collect())
}

/// Takes up the keys of a predecessor, for listeners that are still as they were; false where some cannot be read.
pub fn unpack(said: Said<'_>) -> bool {
    TICKETERS.all().iter().fold(said.value.is_object(), |good, (place, ticketer)| {
        let known = said.get(place).is_none_or(|said| ticketer.unpack(said).is_some());
        known && good
    })
}

/// The keys of one listener.
pub(super) struct Ticketer {
    keys: ArcSwap<Keys>,
    turning: Mutex<()>,
}

/// The one that seals, and the one before it; none where the machine has no random numbers.
#[derive(Default)]
struct Keys {
    now: Option<Arc<Key>>,
    before: Option<Arc<Key>>,
}

struct Key {
    name: [u8; NAME],
    secret: [u8; 32],
    made: Instant,
    sealing: RandomizedNonceKey,
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer")
    }
}

impl Key {
    fn draw(now: Instant) -> Option<Self> {
        let (mut name, mut secret) = ([0; NAME], [0; 32]);
        let drawn = aws_lc_rs::rand::fill(&mut name).and_then(|()| aws_lc_rs::rand::fill(&mut secret));
        drawn.inspect_err(|_| log::error!("no session tickets: there are no random numbers")).ok()?;
        Self::of(name, secret, now)
    }

    fn of(name: [u8; NAME], secret: [u8; 32], made: Instant) -> Option<Self> {
        Some(Self { name, secret, made, sealing: RandomizedNonceKey::new(&AES_256_GCM, &secret).ok()? })
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made)
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.sealing.seal_in_place_append_tag(Aad::from(&self.name), &mut sealed).ok()?;
        Some([&self.name, nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn open(&self, nonce: &[u8; NONCE], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.sealing.open_in_place(nonce, Aad::from(&self.name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    fn pack(&self, now: Instant) -> Value {
        json!({ "name": BASE64.encode(self.name), "secret": BASE64.encode(self.secret), "made": ago(now, self.made) })
    }

    fn unpack(said: Said<'_>) -> Option<Self> {
        let bytes = |key: &str| BASE64.decode(said.text(key)?).ok();
        Self::of(bytes("name")?.try_into().ok()?, bytes("secret")?.try_into().ok()?, said.ago("made")?)
    }
}

impl Ticketer {
    fn new(now: Instant) -> Self {
        let keys = Keys { now: Key::draw(now).map(Arc::new), before: None };
        Self { keys: ArcSwap::from_pointee(keys), turning: Mutex::default() }
    }

    /// The key that seals at this moment: a new one where the last has had its time.
    fn turn(&self, now: Instant) -> Option<Arc<Key>> {
        let young = |keys: &Keys| keys.now.clone().filter(|key| key.age(now) < SPAN);
        if let Some(key) = young(&self.keys.load()) {
            return Some(key);
        }
        let _alone = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys.load_full();
        if let Some(key) = young(&keys) {
            return Some(key);
        }
        let next = Arc::new(Key::draw(now)?);
        self.keys.store(Arc::new(Keys { now: Some(Arc::clone(&next)), before: keys.now.clone() }));
        Some(next)
    }

    fn encrypt_at(&self, plain: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.turn(now)?.seal(plain)
    }

    fn decrypt_at(&self, ticket: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        let keys = self.keys.load();
        let mut known = keys.now.iter().chain(&keys.before).filter(|key| key.age(now) < SPAN * 2);
        known.find(|key| key.name == *name)?.open(nonce, sealed)
    }

    fn pack(&self, now: Instant) -> Value {
        let keys = self.keys.load();
        let all = keys.now.iter().chain(&keys.before).map(|key| key.pack(now));
        Value::Array(all.collect())
    }

    /// What a predecessor has sealed can be opened, and what is sealed here by it, should it go on in our place.
    fn unpack(&self, said: Said<'_>) -> Option<()> {
        let keys = said.value.as_array()?.iter().take(2).map(|value| Key::unpack(Said { value, ..said }).map(Arc::new));
        let mut keys = keys.collect::<Option<Vec<_>>>()?.into_iter();
        let _alone = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.store(Arc::new(Keys { now: Some(keys.next()?), before: keys.next() }));
        Some(())
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(SPAN.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, Instant::now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(ticket, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn server(ticketer: &Arc<Ticketer>, key: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_no_client_auth();
        let secret = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![key.cert.der().clone()], secret).unwrap();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.ticketer = Arc::<Ticketer>::clone(ticketer);
        Arc::new(config)
    }

    /// Whether a handshake resumes a session.
    fn resumes(server: &Arc<rustls::ServerConfig>, client: &Arc<rustls::ClientConfig>) -> bool {
        let mut here = rustls::ServerConnection::new(Arc::clone(server)).unwrap();
        let mut there = rustls::ClientConnection::new(Arc::clone(client), "a.example".try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        while here.wants_write() || there.wants_write() {
            there.write_tls(&mut bytes).unwrap();
            here.read_tls(&mut std::mem::take(&mut bytes).as_slice()).unwrap();
            here.process_new_packets().unwrap();
            here.write_tls(&mut bytes).unwrap();
            there.read_tls(&mut std::mem::take(&mut bytes).as_slice()).unwrap();
            there.process_new_packets().unwrap();
        }
        here.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    #[test]
    fn a_session_of_the_predecessor_resumes_with_the_successor() {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let key = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(key.cert.der().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let client = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
            let client = Arc::new(client.unwrap().with_root_certificates(roots).with_no_client_auth());
            let [old, stranger, new] = [(); 3].map(|()| Arc::new(Ticketer::new(Instant::now())));
            assert!(!resumes(&server(&old, &key), &client));
            assert!(resumes(&server(&old, &key), &client));
            let packed = old.pack(Instant::now());
            new.unpack(Said { value: &packed, now: Instant::now() }).unwrap();
            assert!(resumes(&server(&new, &key), &client));
            assert!(!resumes(&server(&stranger, &key), &client));
        }
    }

    #[test]
    fn a_ticket_is_good_for_at_least_six_hours_and_at_most_twelve() {
        let now = Instant::now();
        let ticketer = Ticketer::new(now);
        let (first, last) =
            (ticketer.encrypt_at(b"session", now).unwrap(), ticketer.encrypt_at(b"session", now + HOUR * 5));
        assert_ne!(first, last.clone().unwrap(), "a nonce is used once");
        let opens = |ticket: &[u8], hour: u32| ticketer.decrypt_at(ticket, now + HOUR * hour).is_some();
        assert!(opens(&first, 11) && !opens(&first, 12));
        let next = ticketer.encrypt_at(b"another", now + HOUR * 7).unwrap();
        assert_ne!(next[..NAME], first[..NAME], "the key has changed");
        assert!(opens(&first, 11) && opens(&last.unwrap(), 11) && opens(&next, 18) && !opens(&next, 19));
        assert_eq!(ticketer.decrypt_at(&next, now + HOUR * 7).unwrap(), b"another");
        ticketer.encrypt_at(b"", now + HOUR * 14).unwrap();
        assert!(!opens(&first, 11), "two keys are kept");
    }

    #[test]
    fn a_successor_opens_what_was_sealed_and_forgets_when_its_predecessor_would_have() {
        let now = Instant::now();
        let old = Ticketer::new(now);
        let first = old.encrypt_at(b"session", now).unwrap();
        let second = old.encrypt_at(b"session", now + HOUR * 7).unwrap();
        let packed = old.pack(now + HOUR * 8);
        let new = Ticketer::new(now + HOUR * 8);
        assert!(new.decrypt_at(&second, now + HOUR * 8).is_none());
        new.unpack(Said { value: &packed, now: now + HOUR * 8 }).unwrap();
        for hour in [8, 11, 12, 13, 18, 19] {
            for ticket in [&first, &second] {
                let at = now + HOUR * hour;
                assert_eq!(new.decrypt_at(ticket, at), old.decrypt_at(ticket, at), "{hour}");
            }
        }
        assert_eq!(old.decrypt_at(&new.encrypt_at(b"back", now + HOUR * 8).unwrap(), now + HOUR * 8).unwrap(), b"back");
        for wrong in ["{}", "[]", "[{}]", "[{\"name\": \"AA\", \"secret\": \"AA\", \"made\": 0}]"] {
            let value = serde_json::from_str(wrong).unwrap();
            assert!(new.unpack(Said { value: &value, now }).is_none(), "{wrong}");
        }
        assert!(new.decrypt_at(&second, now + HOUR * 8).is_some(), "what cannot be read changes nothing");
    }

    #[test]
    fn another_client_ca_has_other_keys() {
        let name: Name = "tickets-of-two".parse().unwrap();
        let (one, same, other) = (keep(&name, b"a"), keep(&name, b"a"), keep(&name, b"b"));
        let ticket = one.encrypt(b"session").unwrap();
        assert!(same.decrypt(&ticket).is_some() && other.decrypt(&ticket).is_none());
        let packed = pack(Instant::now());
        assert!(unpack(Said { value: &packed, now: Instant::now() }));
        assert!(other.decrypt(&ticket).is_none() && one.decrypt(&ticket).is_some());
    }

    proptest! {
        #[test]
        fn nothing_but_a_whole_ticket_opens(at in 0_usize..200, bit in 0_u8..8, bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let ticketer = Ticketer::new(Instant::now());
            let mut ticket = ticketer.encrypt(b"what a client keeps of its session").unwrap();
            let at = at % ticket.len();
            ticket[at] ^= 1 << bit;
            prop_assert!(ticketer.decrypt(&ticket).is_none());
            prop_assert!(ticketer.decrypt(&ticket[..at]).is_none());
            prop_assert!(ticketer.decrypt(&bytes).is_none());
        }
    }
}
