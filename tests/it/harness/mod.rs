//! What every test stands on: the real program, origins that say what they are told, clients that hide nothing.

pub mod consul;
pub mod gateway;
pub mod h2;
pub mod handshake;
pub mod mosquitto;
pub mod names;
pub mod origin;
pub mod redis;
pub mod tls;
pub mod tools;
pub mod wire;

use std::thread;
use std::time::{Duration, Instant};

pub use consul::Consul;
pub use gateway::{Gateway, Setup};
pub use mosquitto::Mosquitto;
pub use names::Names;
pub use origin::Origin;
pub use redis::Redis;
pub use wire::{Connection, Request};

/// How long a test waits for what must come. Passing tests never wait this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until there is something to see.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Does the same `n` times.
pub fn times<T>(n: usize, mut deed: impl FnMut() -> T) -> Vec<T> {
    (0..n).map(|_| deed()).collect()
}
