//! Single targets weighed by hand: another weight for a while, 0 to drain one, whatever the document and the sources say.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::Pool;
use super::breaker::LONGEST;
use super::target::MAX_WEIGHT;
use crate::state::parcel::{Said, ahead};

/// What was said of the targets of one pool, through all reloads.
#[derive(Debug, Default)]
pub(super) struct ByHand(Mutex<HashMap<Box<str>, (u16, Instant)>>);

/// A target's weight by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Weighed {
    pub weight: u16,
    pub ends_in_seconds: u64,
}

impl ByHand {
    fn said(&self) -> MutexGuard<'_, HashMap<Box<str>, (u16, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said of a target now.
    pub(super) fn of(&self, target: &str, now: Instant) -> Option<(u16, Duration)> {
        let said = self.said();
        let (weight, until) = said.get(target)?;
        Some((*weight, until.checked_duration_since(now).filter(|left| !left.is_zero())?))
    }

    fn say(&self, target: &str, weighed: Option<(u16, Duration)>, now: Instant) {
        let mut said = self.said();
        said.retain(|_, (_, until)| *until > now);
        match weighed {
            Some((weight, length)) => said.insert(target.into(), (weight, now + length.min(LONGEST))),
            None => said.remove(target),
        };
    }

    /// For a successor, as of this moment.
    pub(super) fn pack(&self, now: Instant) -> Value {
        let said = self.said();
        let held = said.iter().filter(|(_, (_, until))| *until > now);
        held.map(|(target, (weight, until))| {
            (target.to_string(), json!({ "weight": weight, "left": ahead(now, *until) }))
        })
        .collect()
    }

    /// As a predecessor had it.
    pub(super) fn unpack(&self, said: Said<'_>) -> Option<()> {
        for (target, value) in said.value.as_object()? {
            let one = Said { value, ..said };
            self.say(
                target,
                Some((one.number("weight").filter(|weight| *weight <= MAX_WEIGHT)?, one.time("left")?)),
                said.now,
            );
        }
        Some(())
    }

    /// When the first of those comes back who are drained; nothing where nobody is.
    pub(super) fn first_back(&self, now: Instant) -> Option<Duration> {
        let said = self.said();
        let drained = said.values().filter(|(weight, until)| *weight == 0 && *until > now);
        drained.map(|(_, until)| until.saturating_duration_since(now)).min()
    }
}

impl From<(u16, Duration)> for Weighed {
    fn from((weight, left): (u16, Duration)) -> Self {
        Self { weight, ends_in_seconds: left.as_secs() + u64::from(left.subsec_nanos() > 0) }
    }
}

impl Pool {
    /// Gives a target another weight for a while, or lets go of it; its whole name, or why not. When the time is over,
    /// [`Pool::look_again`] has to be called.
    pub fn weigh(&self, target: &str, weighed: Option<(u16, Duration)>) -> Result<String, String> {
        if let Some((weight, _)) = weighed.filter(|(weight, _)| *weight > MAX_WEIGHT) {
            return Err(format!("`{weight}` is more than the largest weight, {MAX_WEIGHT}"));
        }
        let live = self.live.load();
        let is_meant =
            |name: &str| name == target || name.rsplit_once('/').is_some_and(|(_, address)| address == target);
        let Some(meant) = live.all().iter().map(|one| one.name()).find(|name| is_meant(name)) else {
            let few: Vec<_> = live.all().iter().take(12).map(|one| one.name()).collect();
            return Err(format!("pool {} has no target `{target}`. Targets: {}", self.name, few.join(", ")));
        };
        self.standing.by_hand.say(meant, weighed, Instant::now());
        self.renew();
        Ok(meant.to_owned())
    }

    /// Some time is over: the weights are what they were.
    pub fn look_again(&self) {
        self.renew();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_always_ends() {
        let (start, hand) = (Instant::now(), ByHand::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        hand.say("a", Some((0, Duration::from_secs(10))), start);
        hand.say("b", Some((7, Duration::MAX)), start);
        assert_eq!(hand.of("a", after(4)), Some((0, Duration::from_secs(6))));
        assert_eq!((hand.of("a", after(10)), hand.of("c", start)), (None, None));
        assert_eq!(hand.of("b", after(1)).map(|(weight, _)| weight), Some(7));
        assert_eq!(hand.of("b", after(86_400)), None, "after a day at the latest");
        assert_eq!(hand.first_back(after(4)), Some(Duration::from_secs(6)));
        let heir = ByHand::default();
        let parcel = hand.pack(after(4));
        heir.unpack(Said { value: &parcel, now: after(4) }).unwrap();
        assert_eq!(heir.of("a", after(5)), hand.of("a", after(5)), "a successor holds it as long");
        assert!(heir.unpack(Said { value: &json!({ "a": { "weight": 7 } }), now: start }).is_none());
        hand.say("a", None, start);
        assert_eq!((hand.of("a", after(1)), hand.first_back(after(1))), (None, None));
    }
}
