//! The name of a key in a store: a hash that is the same on all hosts and so wide that no two keys share it.

use std::hash::Hasher;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// SHA-256 of what was written, of which 128 bits are used.
pub(super) struct Wide(Context);

impl Wide {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Puts the name behind `text`.
    pub(super) fn name(self, text: &mut String) {
        let digest = self.0.finish();
        URL_SAFE_NO_PAD.encode_string(digest.as_ref().get(..16).unwrap_or_default(), text);
    }
}

/// Numbers are written in one order of bytes, whatever the machine has.
impl Hasher for Wide {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }
    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }
    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
    /// Nobody asks for so few bits of it.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_same_name_on_every_host_and_for_ever() {
        let mut wide = Wide::new();
        wide.write_u32(0x0a00_0001);
        wide.write_usize(3);
        wide.write(b"abc");
        let mut name = "yumen:".to_owned();
        wide.name(&mut name);
        assert_eq!(name, "yumen:PpFv10mFcMi0CRMAJBSgsQ");
    }
}
