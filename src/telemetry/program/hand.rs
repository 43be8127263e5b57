//! How much the log says, by the document, and for a while by hand: of everything, or of one part of the program.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use log::LevelFilter;

use super::Level;

/// What the document says, and what a hand does.
struct Said {
    document: LevelFilter,
    hand: Option<Hand>,
}

struct Hand {
    level: Level,
    /// The part of the program, e.g. `yumen::gateway::listen`; all of it where nothing is said.
    module: Option<Box<str>>,
    until: Instant,
}

/// What a hand has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub level: Level,
    pub module: Option<Box<str>>,
    pub left: Duration,
}

static SAID: RwLock<Said> = RwLock::new(Said { document: LevelFilter::Info, hand: None });

fn read() -> RwLockReadGuard<'static, Said> {
    SAID.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Said> {
    SAID.write().unwrap_or_else(PoisonError::into_inner)
}

impl Said {
    /// The most that anything says.
    fn most(&self) -> LevelFilter {
        match &self.hand {
            None => self.document,
            Some(Hand { level, module: None, .. }) => (*level).into(),
            Some(Hand { level, .. }) => self.document.max((*level).into()),
        }
    }

    fn of(&self, target: &str) -> LevelFilter {
        let is_meant = |hand: &&Hand| hand.module.as_ref().is_none_or(|module| target.starts_with(&**module));
        self.hand.as_ref().filter(is_meant).map_or(self.document, |hand| hand.level.into())
    }

    fn settle(&mut self, now: Instant) {
        self.hand = self.hand.take().filter(|hand| hand.until > now);
        log::set_max_level(self.most());
    }
}

/// What the document says.
pub(super) fn say(level: LevelFilter) {
    let mut said = write();
    said.document = level;
    said.settle(Instant::now());
}

/// What is written of a target's messages.
pub(super) fn level_of(target: &str) -> LevelFilter {
    read().of(target)
}

/// Another level for a while; when the time is over, [`settle`] has to be called. The error says who has decided already.
pub fn hold(level: Level, module: Option<&str>, length: Duration) -> Result<(), &'static str> {
    if super::is_fixed() {
        return Err("`RUST_LOG` has decided how much the log says");
    }
    let mut said = write();
    said.hand = Some(Hand { level, module: module.map(Into::into), until: Instant::now() + length });
    said.settle(Instant::now());
    Ok(())
}

/// The document decides again.
pub fn let_go() {
    let mut said = write();
    said.hand = None;
    said.settle(Instant::now());
}

/// The document decides again, if the time of the hand is over.
pub fn settle() {
    write().settle(Instant::now());
}

/// What a hand has said, while it holds.
pub fn held() -> Option<Held> {
    let said = read();
    let hand = said.hand.as_ref()?;
    let left = hand.until.checked_duration_since(Instant::now())?;
    Some(Held { level: hand.level, module: hand.module.clone(), left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_holds_for_a_while_and_for_a_part() {
        let start = Instant::now();
        let hand = |module: Option<&str>| Hand {
            level: Level::Debug,
            module: module.map(Into::into),
            until: start + Duration::from_secs(10),
        };
        let mut said = Said { document: LevelFilter::Warn, hand: Some(hand(Some("yumen::pool"))) };
        assert_eq!((said.of("yumen::pool::live"), said.of("yumen::proxy")), (LevelFilter::Debug, LevelFilter::Warn));
        assert_eq!(said.most(), LevelFilter::Debug);
        said.hand = Some(hand(None));
        assert_eq!(said.of("yumen::proxy"), LevelFilter::Debug);
        said.settle(start + Duration::from_secs(10));
        assert_eq!((said.of("yumen::proxy"), said.most()), (LevelFilter::Warn, LevelFilter::Warn));
    }
}
