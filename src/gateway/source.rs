//! Where the document comes from: a file that is watched, or a text of our own.

use std::path::PathBuf;

use crate::config::{self, Instead, Loaded};

/// A document to read, as often as wanted.
#[derive(Debug, Clone)]
pub enum Source {
    File(PathBuf),
    /// A name for messages, and the text.
    Text(&'static str, String),
}

impl Source {
    /// Reads it, with everything that is wrong with it.
    pub fn load(&self) -> Loaded {
        self.load_with(&Instead::new())
    }

    /// The same, but some files as they once were.
    pub fn load_with(&self, instead: &Instead) -> Loaded {
        match self {
            Self::File(path) => config::load_with(path, instead),
            Self::Text(name, text) => Loaded::from_text(name, text),
        }
    }
}
