//! What a target's answers add up to: pure, given the time.

use std::time::Instant;

use serde_json::{Value, json};

use super::Check;
use crate::state::parcel::{Said, ago};

/// A good answer, or why it was a bad one.
pub(in crate::pool) type Verdict = Result<(), String>;

/// What is known of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum State {
    /// Not asked yet.
    Unknown,
    Up,
    Down,
}

impl State {
    pub(in crate::pool) const ALL: [Self; 3] = [Self::Unknown, Self::Up, Self::Down];

    pub(in crate::pool) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The first answer decides at once; later ones must contradict the state several times in a row to change it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(in crate::pool) struct Record {
    state: State,
    since: Instant,
    contradictions: u32,
    /// Why the last answer was bad.
    reason: Option<String>,
    asked: Option<Instant>,
}

impl Record {
    pub(in crate::pool) fn new(now: Instant) -> Self {
        Self { state: State::Unknown, since: now, contradictions: 0, reason: None, asked: None }
    }

    /// For a successor, as of this moment.
    pub(in crate::pool) fn pack(&self, now: Instant) -> Value {
        json!({
            "state": self.state.word(),
            "since": ago(now, self.since),
            "contradictions": self.contradictions,
            "reason": self.reason,
            "asked": self.asked.map(|asked| ago(now, asked)),
        })
    }

    /// As a predecessor had it.
    pub(in crate::pool) fn unpack(said: Said<'_>) -> Option<Self> {
        Some(Self {
            state: State::ALL.into_iter().find(|state| said.text("state") == Some(state.word()))?,
            since: said.ago("since")?,
            contradictions: said.number("contradictions")?,
            reason: said.text("reason").map(str::to_owned),
            asked: said.ago("asked"),
        })
    }

    /// A question goes out.
    pub(in crate::pool) fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// Takes in an answer; gives the new state if it changed.
    pub(in crate::pool) fn learn(&mut self, verdict: Verdict, check: &Check, now: Instant) -> Option<State> {
        let (seen, needed) = match verdict {
            Ok(()) => (State::Up, check.up_after),
            Err(_) => (State::Down, check.down_after),
        };
        self.reason = verdict.err();
        self.contradictions = if seen == self.state { 0 } else { self.contradictions.saturating_add(1) };
        let changes = seen != self.state && (self.state == State::Unknown || self.contradictions >= needed);
        changes.then(|| {
            (self.state, self.since, self.contradictions) = (seen, now, 0);
            seen
        })
    }

    pub(in crate::pool) fn state(&self) -> State {
        self.state
    }
    pub(in crate::pool) fn since(&self) -> Instant {
        self.since
    }
    pub(in crate::pool) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
    pub(in crate::pool) fn asked(&self) -> Option<Instant> {
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::health::Config;
    use crate::problem::{Path, Problems};
    use std::time::Duration;

    fn check(config: &str) -> Check {
        let config: Config = serde_yaml::from_str(config).unwrap();
        let mut problems = Problems::default();
        let check = Check::compile(&config, 0, &Path::default(), &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        check
    }

    /// Answers (`+` good, `-` bad) and the states after each (`?`, `u`, `d`).
    fn story(start: Option<char>, answers: &str, states: &str) {
        let check = check("{ tcp: true, down_after: 3, up_after: 2 }");
        let now = Instant::now();
        let mut record = Record::new(now);
        let answers = start.into_iter().chain(answers.chars());
        let told: String = answers
            .map(|answer| {
                let before = record.state();
                let verdict = if answer == '+' { Ok(()) } else { Err("status 500".into()) };
                let change = record.learn(verdict, &check, now);
                assert_eq!(change.is_some(), record.state() != before);
                record.state().word().chars().next().unwrap_or(' ')
            })
            .collect();
        assert_eq!(told, states);
    }

    #[test]
    fn the_first_answer_decides_and_the_next_must_insist() {
        story(None, "+--+---", "uuuuuud");
        story(None, "-++", "ddu");
        story(None, "-+-+-++", "ddddddu");
        story(None, "+-+-+--", "uuuuuuu");
    }

    #[test]
    fn a_state_knows_since_when_and_why() {
        let check = check("{ http: /healthz, down_after: 1 }");
        let start = Instant::now();
        let mut record = Record::new(start);
        record.learn(Ok(()), &check, start);
        let later = start + Duration::from_secs(9);
        assert_eq!(record.learn(Err("status 503".into()), &check, later), Some(State::Down));
        assert_eq!((record.since(), record.reason()), (later, Some("status 503")));
    }

    #[test]
    fn the_next_question_comes_from_the_last_one() {
        let check = check("{ tcp: true, every: 10s }");
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds));
        assert_eq!(check.wait(None, now, 0.5), Duration::ZERO, "the first at once");
        assert_eq!(check.wait(ago(4), now, 0.5), Duration::from_secs(6));
        assert_eq!(check.wait(ago(60), now, 0.5), Duration::ZERO);
        assert_eq!(check.wait(Some(now), now, 0.0), Duration::from_secs(9));
    }
}
