//! What the document says of limits that several hosts count together.

use std::num::NonZeroU32;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::{Path, Problems};
use crate::units::{Name, or_short, short_form};

/// In which store hosts count together; the bare name of a store is short for `store`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "Share", transform = or_short)]
pub struct Share {
    /// An object of the section `stores`.
    pub store: Name,
    /// Whether each request asks the store.
    #[serde(default, skip_serializing_if = "Sharing::is_default")]
    pub mode: Sharing,
    /// Of `leased`: how many requests of a key a host borrows at a time; a twentieth of the number when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<NonZeroU32>,
}

short_form!(Share, "the name of a store, or { store: shared, .. }");

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { store: text.parse()?, mode: Sharing::Exact, lease: None })
    }
}

/// How exactly hosts count together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Each request asks the store: never one too many.
    #[default]
    Exact,
    /// Each host borrows a slice and spends it without asking: at most a slice too many for each host.
    Leased,
}

impl Sharing {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Share {
    /// How many are borrowed at a time; none where each request asks.
    pub(super) fn slice(&self, number: u64, at: &Path, problems: &mut Problems) -> Option<u32> {
        let most = u32::try_from(number).unwrap_or(u32::MAX);
        match (self.mode, self.lease.map(NonZeroU32::get)) {
            (Sharing::Exact, None) => None,
            (Sharing::Exact, Some(_)) => {
                problems.error(at.key("lease"), "belongs to mode: leased");
                None
            }
            (Sharing::Leased, Some(lease)) if lease > most => {
                problems.error(at.key("lease"), format!("is more than there is: {number}"));
                None
            }
            (Sharing::Leased, lease) => {
                let slice = lease.unwrap_or(most / 20).max(1);
                let sentence = format!("admits at most {slice} more than it says for each host that shares it");
                problems.note(at.clone(), sentence);
                Some(slice)
            }
        }
    }
}

/// What holds while the store is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfStoreDown {
    /// Each host counts for itself, to its part of the number.
    #[default]
    Local,
    /// Nothing is counted, everyone is admitted.
    Open,
    /// Nobody is admitted.
    Closed,
}

impl IfStoreDown {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
