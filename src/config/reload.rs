//! When a changed value takes effect: in place, or when the process hands over to a successor.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a change is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reload {
    /// Swapped in place.
    Hot,
    /// Only a new process can: the gateway hands over to one.
    Handover,
}

/// What only a new process can take up; everything else is swapped in place. `Process` of the snapshot holds the same.
pub(super) const HANDOVER: [&[&str]; 2] = [&["runtime", "workers"], &["runtime", "upstream_connections"]];

impl Reload {
    /// The class of the value at these keys, from the top of the document.
    pub fn of<'a>(keys: impl Iterator<Item = &'a str>) -> Self {
        let keys: Vec<&str> = keys.collect();
        if HANDOVER.iter().any(|first| keys.starts_with(first)) { Self::Handover } else { Self::Hot }
    }
}

impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hot => "hot",
            Self::Handover => "hand-over",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_new_process_can_take_up_is_told_from_the_rest() {
        let of = |path: &str| Reload::of(path.split('.'));
        assert_eq!(of("runtime.workers"), Reload::Handover);
        assert_eq!(of("runtime.drain.requests"), Reload::Hot);
        assert_eq!(of("runtime"), Reload::Hot);
        assert_eq!(of("routes.runtime.workers"), Reload::Hot);
    }
}
