use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::*;
use crate::pool::breaker::{Pass, Stage, machine::Machine as Breaker};
use crate::pool::eject::Machine as Ejection;
use crate::pool::health::{self, Check, Record, State};
use crate::pool::rest::LONGEST;
use crate::problem::{Path, Problems};

const OPEN_FOR: Duration = Duration::from_secs(30);
const OUT_FOR: Duration = Duration::from_secs(50);

/// Everything that can happen to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A request wants to go there.
    Ask,
    /// The last of those under way ends: well, badly, or it says nothing.
    Pass,
    Fail,
    Gone,
    /// One that was free ends badly, and that is one too many for the breaker, for the ejection, for both.
    Break,
    Eject,
    Both,
    /// It stands out against the others.
    Outlier,
    /// A probe's answer.
    Good,
    Bad,
    /// The other target of the pool fails or comes back.
    Other,
    /// Until the next time is over; the chore has its turn; an hour goes by.
    Wait,
    Tend,
    Hour,
}

const EVENTS: [Event; 14] = [
    Event::Ask,
    Event::Pass,
    Event::Fail,
    Event::Gone,
    Event::Break,
    Event::Eject,
    Event::Both,
    Event::Outlier,
    Event::Good,
    Event::Bad,
    Event::Other,
    Event::Wait,
    Event::Tend,
    Event::Hour,
];

/// One target of a pool of two, with the machines of the real thing.
#[derive(Clone)]
struct World {
    breaker: Breaker,
    ejection: Ejection,
    /// It has answered nothing since it was ejected.
    mute: bool,
    /// The place of the request that tries it since.
    tried: Option<usize>,
    record: Record,
    other_is_well: bool,
    panic_below: Option<Share>,
    probes: u32,
    under_way: Vec<Pass>,
    passed: u32,
    insisting: u8,
    now: Instant,
}

fn check() -> Check {
    let config: health::Config = serde_yaml::from_str("{ tcp: true, down_after: 2, up_after: 2 }").unwrap();
    Check::compile(&config, 0, &Path::default(), &mut Problems::default())
}

impl World {
    fn new(now: Instant, probes: u32, panic_below: Option<Share>, check: &Check) -> Self {
        let mut record = Record::new(now);
        record.learn(Ok(()), check, now);
        Self {
            breaker: Breaker::new(now),
            ejection: Ejection::new(now),
            mute: false,
            tried: None,
            record,
            other_is_well: true,
            panic_below,
            probes,
            under_way: Vec::new(),
            passed: 0,
            insisting: 0,
            now,
        }
    }

    fn is_up(&self) -> bool {
        self.record.state() == State::Up
    }
    fn is_ejected(&self) -> bool {
        self.ejection.is_out(self.now)
    }
    fn admits(&self) -> bool {
        self.breaker.admits(self.probes, self.now)
    }
    /// Whether it has its first request since it was ejected.
    fn is_tried(&self) -> bool {
        self.mute && self.tried.is_some()
    }
    fn out(&self, trust: Trust) -> Option<Out> {
        out(trust, || self.is_up(), || self.is_ejected() || self.is_tried(), || self.admits())
    }
    /// As a pick has it: where nobody else takes requests, who is only ejected does.
    fn takes(&self) -> bool {
        let alone = self.trust() == Trust::Usual && !self.other_is_well;
        self.out(self.trust()).is_none() || (alone && self.out(Trust::Ejected).is_none())
    }
    fn trust(&self) -> Trust {
        let well = usize::from(self.is_up() && !self.is_ejected()) + usize::from(self.other_is_well);
        trust(&[Strength { well, of: 2 }], self.panic_below)
    }

    fn eject(&mut self) {
        if counts(self.is_ejected(), self.breaker.stage() == Stage::Closed) {
            // As the chore would have: who is let in again late is let in first.
            self.ejection.let_in(false, self.now);
            assert!(self.ejection.eject("why".into(), OUT_FOR, self.now));
            self.mute = true;
        }
    }

    fn pop(&mut self) -> Option<Pass> {
        self.tried = self.tried.filter(|place| *place < self.under_way.len());
        self.under_way.pop()
    }

    fn leave(&mut self, failed: Option<bool>) {
        let Some(pass) = self.pop() else { return };
        self.mute &= failed != Some(false);
        if failed == Some(true) && pass == Pass::Free && self.mute {
            // Whoever fails at once after its rest is out again.
            self.eject();
        }
        if let Pass::Probe(round) = pass {
            self.passed += u32::from(failed == Some(false) && self.breaker.stage() == Stage::HalfOpen);
            self.breaker.leave(round, failed, self.probes, OPEN_FOR, self.now);
        }
    }

    fn fail(&mut self, breaks: bool, ejects: bool) {
        if self.under_way.last() != Some(&Pass::Free) {
            return;
        }
        self.pop();
        if breaks {
            self.breaker.trip("why".into(), OPEN_FOR, self.now);
        }
        if ejects || self.mute {
            self.eject();
        }
    }

    fn step(&mut self, event: Event, check: &Check) {
        let before = (self.is_ejected(), self.breaker.stage());
        match event {
            Event::Ask if self.under_way.len() < 2 && self.takes() => {
                let pass = self.breaker.enter(self.probes, self.now).expect("who takes requests gives a pass");
                self.under_way.push(pass);
                if self.mute && self.tried.is_none() {
                    self.tried = Some(self.under_way.len());
                }
            }
            Event::Ask => {}
            Event::Pass => self.leave(Some(false)),
            Event::Fail => self.leave(Some(true)),
            Event::Gone => self.leave(None),
            Event::Break => self.fail(true, false),
            Event::Eject => self.fail(false, true),
            Event::Both => self.fail(true, true),
            Event::Outlier => self.eject(),
            Event::Good | Event::Bad => {
                let verdict = if event == Event::Good { Ok(()) } else { Err(String::new()) };
                let contradicts = (event == Event::Good) != self.is_up();
                let changed = self.record.learn(verdict, check, self.now).is_some();
                self.insisting = u8::from(contradicts && !changed);
            }
            Event::Other => self.other_is_well = !self.other_is_well,
            Event::Wait => self.now += self.next(),
            Event::Tend => drop(self.ejection.let_in(false, self.now)),
            Event::Hour => self.now += Duration::from_hours(1),
        }
        if before.1 != self.breaker.stage() {
            self.passed = 0;
        }
        self.always(before);
    }

    fn next(&self) -> Duration {
        let waits = [self.breaker.wait(self.now), self.ejection.left(self.now).unwrap_or_default()];
        waits.into_iter().filter(|wait| !wait.is_zero()).min().unwrap_or_default()
    }

    /// What holds in every state, and of every step.
    fn always(&self, (was_ejected, stage): (bool, Stage)) {
        if self.is_ejected() && !was_ejected {
            assert_eq!(stage, Stage::Closed, "who rests for its breaker is not ejected as well");
            assert_eq!(self.breaker.stage(), Stage::Closed, "one failure, one consequence");
        }
        assert!(self.breaker.wait(self.now) <= OPEN_FOR * LONGEST);
        assert!(self.ejection.left(self.now).unwrap_or_default() <= OUT_FOR * LONGEST);
        let takes = self.takes();
        if !self.breaker.wait(self.now).is_zero() {
            assert!(!takes, "nothing goes through an open breaker, not in panic either");
        }
        if !self.other_is_well && self.is_up() && self.admits() {
            assert!(takes, "ejection leaves no pool without targets");
        }
        if self.trust() == Trust::All {
            assert_eq!(takes, self.admits(), "in panic only breakers count");
        }
        if takes && self.trust() == Trust::Usual {
            assert!(self.is_up() && !self.is_ejected());
        }
    }

    /// All that decides what happens next.
    fn key(&self) -> impl std::hash::Hash + Eq + use<> {
        let long_ago = |since: Instant, length: Duration| self.now.saturating_duration_since(since) > length * 2;
        let probes = self.under_way.iter().map(|pass| *pass == Pass::Free).collect::<Vec<_>>();
        (
            (self.breaker.stage(), self.breaker.wait(self.now).is_zero(), self.breaker.length(), self.passed),
            long_ago(self.breaker.since(), self.breaker.length()),
            (self.ejection.left(self.now).map(|left| left.is_zero()), self.ejection.length()),
            long_ago(self.ejection.since(), self.ejection.length()),
            (self.is_up(), self.insisting, self.other_is_well, self.mute, self.tried, probes),
            self.breaker.wait(self.now) > self.ejection.left(self.now).unwrap_or_default(),
        )
    }

    /// From here, a healthy target is back in rotation within the longer of both times and one round of probes.
    fn recovers(mut self, check: &Check) {
        for _ in 0..2 {
            self.step(Event::Good, check);
        }
        self.now += self.breaker.wait(self.now).max(self.ejection.left(self.now).unwrap_or_default());
        while !self.under_way.is_empty() {
            self.step(Event::Pass, check);
        }
        for _ in 0..self.probes {
            self.step(Event::Ask, check);
            self.step(Event::Pass, check);
        }
        assert_eq!((self.out(Trust::Usual), self.breaker.stage()), (None, Stage::Closed));
    }
}

/// How many states there are.
fn explore(probes: u32, panic_below: Option<Share>) -> usize {
    let check = check();
    let first = World::new(Instant::now(), probes, panic_below, &check);
    let (mut seen, mut open) = (HashSet::from([first.key()]), VecDeque::from([first]));
    while let Some(world) = open.pop_front() {
        world.clone().recovers(&check);
        for event in EVENTS {
            let mut next = world.clone();
            next.step(event, &check);
            if seen.insert(next.key()) {
                open.push_back(next);
            }
        }
    }
    seen.len()
}

#[test]
fn from_every_state_a_healthy_target_is_back_and_no_two_mechanisms_fight() {
    for (probes, panic_below) in [(1, None), (2, Some(Share::from_percent(60)))] {
        let states = explore(probes, panic_below);
        assert!(states > 10_000, "{states} states");
    }
}

#[test]
fn some_may_be_ejected_and_never_all() {
    let half = Share::from_percent(50);
    let most = |targets, percent| most_ejected(targets, Share::from_percent(percent));
    assert_eq!([0, 1, 2, 3, 4, 5].map(|targets| most_ejected(targets, half)), [0, 0, 1, 1, 2, 2]);
    assert_eq!((most(10, 0), most(10, 1), most(10, 100), most(2, 100)), (0, 1, 9, 1));
}

#[test]
fn panic_begins_below_its_share() {
    let half = Some(Share::from_percent(50));
    let of = |groups: &[(usize, usize)], below| {
        let groups: Vec<_> = groups.iter().map(|&(well, of)| Strength { well, of }).collect();
        trust(&groups, below)
    };
    assert_eq!(of(&[(2, 4)], half), Trust::Usual);
    assert_eq!(of(&[(1, 4)], half), Trust::All);
    assert_eq!((of(&[(0, 4)], None), of(&[(0, 4)], Some(Share::from_percent(0)))), (Trust::Ejected, Trust::Ejected));
    assert_eq!((of(&[], half), of(&[(0, 0)], half)), (Trust::Ejected, Trust::Ejected));
    assert_eq!(of(&[(1, 4), (1, 1)], half), Trust::Usual, "the next group stands in");
    assert_eq!(of(&[(1, 4), (0, 1)], half), Trust::All);
}
