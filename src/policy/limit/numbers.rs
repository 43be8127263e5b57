//! How a key becomes a number: under a seed of this process, or under one that outlives it.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// What the parts of a key are written to.
#[derive(Clone)]
pub enum Numbers {
    /// The seed goes with the process.
    Passing(DefaultHasher),
    /// The seed lies on disk with the counts, and no other version of the library may hash in another way.
    Lasting(SipHasher13),
}

impl Hasher for Numbers {
    fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Passing(hasher) => hasher.write(bytes),
            Self::Lasting(hasher) => hasher.write(bytes),
        }
    }
    fn finish(&self) -> u64 {
        match self {
            Self::Passing(hasher) => hasher.finish(),
            Self::Lasting(hasher) => hasher.finish(),
        }
    }
}
