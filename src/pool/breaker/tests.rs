use std::collections::{HashSet, VecDeque};

use super::machine::Machine;
use super::*;

const OPEN_FOR: Duration = Duration::from_secs(30);

/// What can happen to a machine, and what is known of it from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    Enter,
    Pass,
    Fail,
    Gone,
    Late,
    Trip,
    Wait,
}

const EVENTS: [Event; 7] = [Event::Enter, Event::Pass, Event::Fail, Event::Gone, Event::Late, Event::Trip, Event::Wait];

/// A machine with the requests that try its target just now.
struct World {
    machine: Machine,
    under_way: Vec<u64>,
    late: Vec<u64>,
    now: Instant,
    probes: u32,
    /// Good tries of this round, and how long it was open last.
    passed: u32,
    length: Duration,
}

impl World {
    fn new(probes: u32, start: Instant) -> Self {
        Self {
            machine: Machine::new(start),
            under_way: Vec::new(),
            late: Vec::new(),
            now: start,
            probes,
            passed: 0,
            length: Duration::ZERO,
        }
    }

    fn leave(&mut self, round: u64, failed: Option<bool>) {
        self.machine.leave(round, failed, self.probes, OPEN_FOR, self.now);
    }

    fn step(&mut self, event: Event) {
        self.now += Duration::from_millis(1);
        let before = self.machine.stage();
        match event {
            Event::Enter => {
                if let Some(Pass::Probe(round)) = self.machine.enter(self.probes, self.now) {
                    self.under_way.push(round);
                }
            }
            Event::Pass | Event::Fail | Event::Gone => {
                let Some(round) = self.under_way.pop() else { return };
                self.passed += u32::from(event == Event::Pass);
                self.leave(round, [Some(false), Some(true), None][event as usize - 1]);
            }
            Event::Late => {
                let Some(round) = self.late.pop() else { return };
                self.leave(round, Some(true));
                assert_eq!(self.machine.stage(), before, "an outcome of an earlier round changes nothing");
            }
            Event::Trip => drop(self.machine.trip("5 failures in a row".to_owned(), OPEN_FOR, self.now)),
            Event::Wait => self.now += self.machine.wait(self.now),
        }
        if before != Stage::Open && self.machine.stage() == Stage::Open {
            // Those under way come too late to matter.
            self.late.append(&mut self.under_way);
            self.length = self.machine.wait(self.now);
        }
        if before != self.machine.stage() {
            self.passed = 0;
        }
        let in_round = u32::try_from(self.under_way.len()).unwrap();
        assert!(in_round <= self.probes, "{in_round} requests at once");
        assert!(self.machine.wait(self.now) <= OPEN_FOR * 10);
    }

    /// All that decides what happens next.
    fn key(&self) -> (Stage, usize, usize, u32, Duration, bool) {
        let due = self.machine.wait(self.now).is_zero();
        (self.machine.stage(), self.under_way.len(), self.late.len().min(1), self.passed, self.length, due)
    }

    /// From here, a healthy target is back in rotation within its open time and one round of requests.
    fn recovers(mut self) {
        self.now += self.machine.wait(self.now);
        let missing = self.under_way.len();
        for _ in 0..missing {
            self.step(Event::Pass);
        }
        for _ in 0..self.probes {
            self.step(Event::Enter);
            self.step(Event::Pass);
        }
        assert_eq!(self.machine.stage(), Stage::Closed);
    }
}

#[test]
fn from_every_state_a_healthy_target_comes_back() {
    let start = Instant::now();
    for probes in 1..=3 {
        let (mut seen, mut open) = (HashSet::new(), VecDeque::from([Vec::new()]));
        let walk = |path: &[Event]| {
            let mut world = World::new(probes, start);
            for event in path {
                world.step(*event);
            }
            world
        };
        while let Some(path) = open.pop_front() {
            if !seen.insert(walk(&path).key()) {
                continue;
            }
            walk(&path).recovers();
            open.extend(EVENTS.map(|event| path.iter().copied().chain([event]).collect()));
        }
        assert!(seen.len() > 20, "{} states", seen.len());
    }
}

#[test]
fn it_stays_open_longer_each_time_that_it_opens_again_soon() {
    let mut world = World::new(1, Instant::now());
    let mut waits = Vec::new();
    for _ in 0..6 {
        world.step(Event::Trip);
        waits.push(world.machine.wait(world.now).as_secs());
        for event in [Event::Wait, Event::Enter, Event::Fail] {
            world.step(event);
        }
        waits.push(world.machine.wait(world.now).as_secs());
        for event in [Event::Wait, Event::Enter, Event::Pass] {
            world.step(event);
        }
    }
    assert_eq!(waits, [30, 60, 120, 240, 300, 300, 300, 300, 300, 300, 300, 300]);
    world.now += Duration::from_mins(11);
    world.step(Event::Trip);
    assert_eq!(world.machine.wait(world.now), OPEN_FOR, "long ago is not soon");
}

fn rule(yaml: &str) -> Rule {
    let config: Config = serde_yaml::from_str(yaml).unwrap();
    let (name, at) = ("orders".parse().unwrap(), Path::of(["breaker"]));
    let mut problems = Problems::default();
    let rule = Rule::compile(&config, &name, &(Arc::new(()) as _), &at, &mut problems);
    assert_eq!(problems.errors(), 0);
    rule
}

fn after(rule: &Rule, outcomes: &str) -> Stage {
    let breaker = Breaker::new(Instant::now());
    for outcome in outcomes.chars() {
        let Some(pass) = breaker.enter(rule, "a") else { continue };
        let failed = match outcome {
            '.' => Some(false),
            'x' => Some(true),
            _ => None,
        };
        breaker.leave(rule, "a", pass, failed);
    }
    breaker.stage()
}

#[test]
fn failures_in_a_row_or_a_share_of_enough_requests_open_it() {
    let in_row = rule("{ open_after: 3 }");
    for (outcomes, stage) in
        [("xx", Stage::Closed), ("xxx", Stage::Open), ("xx.xx.xx", Stage::Closed), ("xx-x", Stage::Open)]
    {
        assert_eq!(after(&in_row, outcomes), stage, "{outcomes}");
    }
    let share = rule("{ open_after: 50% of 6 in 10s }");
    for (outcomes, stage) in [
        ("xxxxx", Stage::Closed),
        ("xxxxxx", Stage::Open),
        ("...xxx", Stage::Open),
        ("....xxx", Stage::Closed),
        ("xxx...", Stage::Closed),
        ("....xxxx", Stage::Open),
        ("xxxxx-", Stage::Closed),
    ] {
        assert_eq!(after(&share, outcomes), stage, "{outcomes}");
    }
}

#[test]
fn what_a_failure_is_can_be_said() {
    let usual = rule("{}");
    let own = rule("{ on: [timeout, 429, '502..503'] }");
    for (fault, status, of_usual, of_own) in [
        (None, 200, Some(false), Some(false)),
        (None, 500, Some(true), Some(false)),
        (None, 503, Some(true), Some(true)),
        (None, 429, Some(false), Some(true)),
        (Some(Fault::UpstreamRefused), 502, Some(true), Some(false)),
        (Some(Fault::UpstreamTimeoutFirstByte), 504, Some(true), Some(true)),
        (Some(Fault::UpstreamReset), 502, Some(true), Some(false)),
        (Some(Fault::UpstreamResetReused), 502, None, None),
        (Some(Fault::ClientGone), 499, None, None),
        (Some(Fault::BodyTooLarge), 413, None, None),
    ] {
        assert_eq!((usual.judge(fault, status), own.judge(fault, status)), (of_usual, of_own), "{fault:?} {status}");
    }
}

#[test]
fn exactly_as_many_requests_as_allowed_try_a_half_open_one() {
    let rule = rule("{ open_after: 1, open_for: 100ms, probes: 3 }");
    let breaker = Breaker::new(Instant::now());
    breaker.leave(&rule, "a", Pass::Free, Some(true));
    assert!(breaker.enter(&rule, "a").is_none() && breaker.wait() > Duration::ZERO);
    while !breaker.admits(&rule) {
        std::thread::yield_now();
    }
    let let_through = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    if breaker.enter(&rule, "a").is_some() {
                        let_through.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(let_through.load(Relaxed), 3);
}
