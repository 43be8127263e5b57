//! The texts of our own answers, in the client's language; codes and logs are never translated.

mod choose;
mod read;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unic_langid::LanguageIdentifier;

use crate::fault::Fault;
use crate::problem::{self, Problems};

/// The language of the answers that the gateway gives itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Languages offered to `Accept-Language`; the first serves everyone who asks for none of them.
    pub languages: Vec<String>,
    /// A directory of message files, `<language>.ftl`: each replaces or adds texts of its language.
    pub messages: Option<PathBuf>,
    /// How much of the cause a client is told.
    pub detail: Detail,
}

/// How much of the cause a client is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// What it can act on. Why a token is invalid, and which rule refuses, is for the log.
    #[default]
    Brief,
    /// Also the exact code as `reason`, and `why`: for development, not for the edge.
    Full,
}

impl Default for Config {
    fn default() -> Self {
        Self { languages: vec!["en".into(), "zh-CN".into()], messages: None, detail: Detail::default() }
    }
}

/// What a person reads of a fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    pub title: Box<str>,
    pub detail: Box<str>,
}

/// Every text in one language, in the order of `Fault::ALL`.
#[derive(Debug)]
pub struct Language {
    /// As `Content-Language` has it.
    pub tag: Box<str>,
    texts: Box<[Text]>,
}

impl Language {
    pub fn texts(&self) -> impl Iterator<Item = (Fault, &Text)> {
        Fault::ALL.iter().copied().zip(&self.texts)
    }
}

/// Every text in every language, read once; nothing is formatted while requests wait.
#[derive(Debug)]
pub struct Messages {
    /// Never empty; the first one is for everyone else.
    languages: Vec<Language>,
    tags: Vec<LanguageIdentifier>,
    files: Vec<PathBuf>,
}

impl Messages {
    /// Reads the message files; relative paths start at `base`, the directory of the document.
    pub fn compile(config: &Config, base: &Path, at: &problem::Path, problems: &mut Problems) -> Self {
        read::compile(config, base, at, problems)
    }

    /// Which languages there are; `choose` gives a place in this list.
    pub fn languages(&self) -> &[Language] {
        &self.languages
    }

    /// The place of the language that suits an `Accept-Language` best.
    pub fn choose(&self, accept_language: Option<&str>) -> usize {
        accept_language.and_then(|accepted| choose::best(accepted, &self.tags)).unwrap_or(0)
    }

    /// What to say of a fault to a client, and in which language that is.
    pub fn text(&self, fault: Fault, accept_language: Option<&str>) -> Option<(&Text, &str)> {
        let language = self.languages.get(self.choose(accept_language))?;
        Some((language.texts.get(fault as usize)?, &language.tag))
    }

    /// What to watch: the directory of message files and each file that was read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}
