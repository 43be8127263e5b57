//! What was in each file that a document is made of or names, as hashes: enough to say whether it has changed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::Texts;

/// A SHA-256.
pub type Seal = [u8; 32];

/// Each file with the hash of its content; none for what could not be read, a directory for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seals(BTreeMap<PathBuf, Option<Seal>>);

impl Seals {
    /// Of these files as they are now, those of the document as they were read.
    pub fn of(files: &[PathBuf], texts: &Texts) -> Self {
        let known: BTreeMap<_, _> = texts.iter().collect();
        let seal = |file: &PathBuf| match known.get(file.as_path()) {
            Some(text) => Some(self::seal(text.as_bytes())),
            None => std::fs::read(file).ok().map(|bytes| self::seal(&bytes)),
        };
        Self(files.iter().map(|file| (file.clone(), seal(file))).collect())
    }

    /// Nothing where the file is none of these.
    pub fn get(&self, file: &Path) -> Option<Option<&Seal>> {
        self.0.get(file).map(Option::as_ref)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Path, Option<&Seal>)> {
        self.0.iter().map(|(file, seal)| (file.as_path(), seal.as_ref()))
    }

    /// One hash of all of them, 64 bits in hexadecimal.
    pub fn hash(&self) -> String {
        let mut hash = Context::new(&SHA256);
        for (file, seal) in &self.0 {
            let name = file.as_os_str().as_encoded_bytes();
            hash.update(&name.len().to_le_bytes());
            hash.update(name);
            hash.update(seal.as_ref().map_or(&[][..], |seal| seal));
        }
        hex(hash.finish().as_ref().get(..8).unwrap_or_default())
    }
}

/// The hash of a content.
pub fn seal(bytes: &[u8]) -> Seal {
    let mut seal = Seal::default();
    seal.copy_from_slice(digest(&SHA256, bytes).as_ref());
    seal
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_changes_with_a_content_and_not_with_the_order() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "a").unwrap();
        let of = |files: &[PathBuf]| Seals::of(files, &Texts::default()).hash();
        let first = of(&[a.clone(), b.clone()]);
        assert_eq!((first.len(), of(&[b.clone(), a.clone()])), (16, first.clone()));
        std::fs::write(&b, "").unwrap();
        assert_ne!(of(&[a, b]), first, "a file that came is a change");
    }
}
