//! What a source is known to have said, and for how long, as tables.

use super::super::allow::{Allow, Rule};
use super::super::{Config, Resolver};
use super::*;

fn terms(config: &Config) -> Terms {
    let config = crate::pool::Config { discover: config.clone(), ..crate::pool::Config::default() };
    Terms::new(&config, &[], Arc::new(Resolver::default()))
}

fn plain() -> Terms {
    terms(&Config::default())
}

fn instance(address: &str) -> Instance {
    Instance { priority: 0, host: "app".into(), address: address.parse().unwrap(), weight: 1 }
}

#[allow(clippy::unnecessary_wraps)]
fn good(addresses: &[&str], ttl: u64) -> Answer {
    let instances = addresses.iter().map(|address| instance(address)).collect();
    Ok(Fresh { instances, holds: Duration::from_secs(ttl), index: 7 })
}

#[test]
fn the_last_good_set_is_kept() {
    let (now, terms) = (Instant::now(), plain());
    let mut known = Known::default();
    let both = vec![instance("10.0.0.1:80"), instance("10.0.0.2:80")];
    let change = known.learn(good(&["10.0.0.2:80", "10.0.0.1:80"], 30), "", &terms, now, 0.0);
    assert_eq!(change, Change { instances: Some(both.clone()), ..Change::default() });
    let same = known.learn(good(&["10.0.0.1:80", "10.0.0.2:80"], 30), "", &terms, now, 0.0);
    assert_eq!(same, Change::default());
    let failed = known.learn(good(&[], 30), "", &terms, now, 0.5);
    assert_eq!(failed, Change { failed: Some("it names nobody".into()), ..Change::default() });
    assert_eq!(known.learn(Err("refused".into()), "", &terms, now, 0.5), Change::default(), "told once");
    assert_eq!((&known.instances, known.reason.as_deref()), (&both, Some("refused")));
    let back = known.learn(good(&["10.0.0.1:80", "10.0.0.2:80"], 30), "", &terms, now, 0.0);
    assert_eq!(back, Change { back: true, ..Change::default() });
    assert_eq!(known.reason, None);
}

#[test]
fn the_last_good_set_is_not_kept_for_ever() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let terms = terms(&Config { keep_if_down: crate::units::Duration::from_secs(60), ..Config::default() });
    let mut known = Known::default();
    known.learn(good(&["10.0.0.1:80"], 30), "", &terms, start, 0.0);
    assert!(known.learn(Err("refused".into()), "", &terms, at(59), 0.0).instances.is_none());
    let gone = known.learn(Err("refused".into()), "", &terms, at(60), 0.0);
    assert_eq!(gone, Change { instances: Some(Vec::new()), given_up: true, ..Change::default() });
    assert_eq!(known.learn(Err("refused".into()), "", &terms, at(61), 0.0), Change::default());
    assert!(known.learn(good(&["10.0.0.1:80"], 30), "", &terms, at(62), 0.0).instances.is_some());
}

#[test]
fn the_time_to_live_is_bounded_and_failures_wait_longer_each_time() {
    let (now, terms) = (Instant::now(), plain());
    let after = |known: &Known| known.due(terms.settings).map(|next| next - now);
    let mut known = Known::default();
    for (ttl, wait) in [(0, 1), (30, 30), (86_400, 300)] {
        known.learn(good(&["10.0.0.1:80"], ttl), "", &terms, now, 0.0);
        assert_eq!(after(&known), Some(Duration::from_secs(wait)));
    }
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        known.learn(Err("refused".into()), "", &terms, now, 0.5);
        assert_eq!(after(&known), Some(Duration::from_secs(wait)));
    }
}

#[test]
fn what_leads_back_here_is_left_out_and_told() {
    let (now, terms) = (Instant::now(), plain());
    let mut known = Known::default();
    let change = known.learn(good(&["10.0.0.1:80", "127.0.0.1:80"], 30), "", &terms, now, 0.0);
    let refused = vec![Refused { address: "127.0.0.1:80".parse().unwrap(), why: Why::Loopback }];
    assert_eq!(change.instances, Some(vec![instance("10.0.0.1:80")]));
    assert_eq!(change.refused, Some(refused.clone()));
    let all = known.learn(good(&["127.0.0.1:80"], 30), "", &terms, now, 0.0);
    assert_eq!(all, Change { failed: Some("every address found is refused".into()), ..Change::default() });
    assert_eq!(known.instances, [instance("10.0.0.1:80")], "the last good ones stay");
    let well = known.learn(good(&["10.0.0.1:80"], 30), "", &terms, now, 0.0);
    assert_eq!(well, Change { refused: Some(Vec::new()), back: true, ..Change::default() });
}

#[test]
fn other_settings_ask_at_once_and_judge_anew() {
    let now = Instant::now();
    let open = terms(&Config { allow: vec![Allow::Loopback], ..Config::default() });
    let mut known = Known::default();
    known.learn(good(&["127.0.0.1:80"], 30), "", &open, now, 0.0);
    assert_eq!((known.due(open.settings).is_some(), known.asked(open.settings).index), (true, 7));
    let strict = plain();
    assert_eq!((known.due(strict.settings), known.asked(strict.settings).index), (None, 0));
    let change = known.learn(Err("refused".into()), "", &strict, now, 0.0);
    assert_eq!(change.instances, Some(Vec::new()), "what may no longer be used is not kept");
}

#[test]
fn every_group_is_known_and_nobody_twice() {
    let one = |priority, address: &str| Instance { priority, ..instance(address) };
    let refuses = |one: &Instance| Rule::default().refuses("", one.address);
    let all = vec![one(20, "10.0.0.3:80"), one(10, "10.0.0.1:80"), one(10, "10.0.0.2:80"), one(10, "10.0.0.2:80")];
    let groups = [one(10, "10.0.0.1:80"), one(10, "10.0.0.2:80"), one(20, "10.0.0.3:80")];
    assert_eq!(sift(all, refuses).0, groups);
    let first_refused = vec![one(20, "10.0.0.3:80"), one(10, "127.0.0.1:80")];
    assert_eq!(sift(first_refused, refuses).0, [one(20, "10.0.0.3:80")]);
}

#[tokio::test]
async fn localhost_is_found_without_a_server() {
    let (lookup, terms) = (Lookup::default(), plain());
    assert!(!lookup.is_tried());
    let source = Arc::new(Source::Host { name: "localhost".into(), port: 80, written: true });
    assert!(lookup.ask(&source, &terms).await.instances.is_some());
    lookup.tried().await;
    assert!(lookup.instances().iter().all(|one| one.address.ip().is_loopback()));
    assert_eq!(lookup.state().found, lookup.instances().len());
}
