//! Where the document comes from: a file that is watched, or a text of our own.

use std::path::PathBuf;

use crate::config::{self, Loaded};

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
        match self {
            Self::File(path) => config::load(path),
            Self::Text(name, text) => Loaded::from_text(name, text),
        }
    }
}
