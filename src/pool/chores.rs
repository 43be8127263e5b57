//! What a pool does beside the requests: it asks how its targets are, and where they are.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use super::discover::{Change, Lookup, Refused, Source};
use super::endpoint::Endpoint;
use super::health::{Check, State};
use super::target::Target;
use super::{Pool, chance, eject, endpoint};
use crate::chore::Chore;

/// Targets of one pool that are asked at the same time.
const AT_ONCE: usize = 64;
/// Addresses that one line of the log names.
const SHOWN: usize = 16;

/// The chores of a pool whose generation has begun to serve.
pub(super) fn of(pool: &Arc<Pool>) -> Vec<Chore> {
    let mut chores = Vec::new();
    if let Some(check) = &pool.check {
        let work = watch_all(Arc::clone(pool), Arc::clone(check));
        chores.push(Chore::new(format!("health/{}", pool.name), work));
    }
    if let Some(rule) = &pool.rules.eject {
        chores.push(Chore::new(format!("eject/{}", pool.name), eject(Arc::clone(pool), Arc::clone(rule))));
    }
    for (source, label, lookup) in pool.endpoints.iter().filter_map(Endpoint::asks) {
        let work = follow(Arc::clone(pool), Arc::clone(source), label.to_owned(), Arc::clone(lookup));
        chores.push(Chore::new(format!("discover/{}/{label}", pool.name), work));
    }
    for refused in pool.endpoints.iter().filter_map(|endpoint| endpoint.refused(&pool.terms)) {
        let file = pool.terms.file.as_deref().unwrap_or(std::path::Path::new(""));
        say_refused(pool, &file.display(), &[refused]);
    }
    chores
}

/// Watches every target, and begins anew when the set of targets changes.
async fn watch_all(pool: Arc<Pool>, check: Arc<Check>) {
    let permits = Semaphore::new(AT_ONCE);
    let mut renewed = pool.renewed.subscribe();
    loop {
        renewed.mark_unchanged();
        let live = pool.live.load_full();
        let mut watches: FuturesUnordered<_> =
            live.all().iter().map(|target| watch(&pool, &check, target, &permits)).collect();
        tokio::select! {
            changed = renewed.changed() => if changed.is_err() { return },
            // A watch never ends; without targets there is nothing to wait for here.
            Some(()) = watches.next() => {}
        }
    }
}

/// Asks one target, for ever.
async fn watch(pool: &Arc<Pool>, check: &Arc<Check>, target: &Arc<Target>, permits: &Semaphore) {
    let cell = target.cell();
    loop {
        let now = Instant::now();
        if !cell.probe.waits(check.settings(), now, check.timeout()) {
            let asked = cell.record(|record| record.asked());
            tokio::time::sleep(check.wait(asked, now, chance::share())).await;
        }
        let Ok(_permit) = permits.acquire().await else { return };
        let begin = || {
            cell.record(|record| record.ask(Instant::now()));
            let peer = target.peer().clone();
            let authority = endpoint::authority(&pool.settings, target.asked(), &peer._address);
            Box::pin(Arc::clone(check).ask(Arc::clone(&pool.shelves.prober), peer, authority)) as _
        };
        let verdict = cell.probe.run(check.settings(), check.timeout(), begin).await;
        learn(pool, check, target, verdict);
    }
}

/// Ejects who stands out and lets those in again whose time is over, for ever.
async fn eject(pool: Arc<Pool>, rule: Arc<eject::Rule>) {
    loop {
        let wait = rule.tend(Instant::now());
        pool.settle();
        rule.stirred(wait).await;
    }
}

/// Takes in an answer, and tells everyone if it changed something.
pub(super) fn learn(pool: &Pool, check: &Check, target: &Target, verdict: Result<(), String>) {
    let served = target.cell().serves();
    let change = target.cell().record(|record| {
        let change = record.learn(verdict, check, Instant::now());
        change.map(|state| (state, record.reason().unwrap_or_default().to_owned()))
    });
    if let Some((state, reason)) = change {
        match state {
            State::Down => log::warn!("pool {}: target {} is down: {reason}", pool.name, target.name()),
            _ => log::info!("pool {}: target {} is {}", pool.name, target.name(), state.word()),
        }
        pool.observer.target_up(pool.name.as_str(), target.name(), state == State::Up);
        if state == State::Up && !served && pool.live.load().well() > 0 {
            target.begin();
        }
        // Who served before its first probe and passes it changes nothing for the others.
        if state == State::Down || !served {
            pool.standing.change();
        }
    }
    // Here and not above: a chore of the generation before may have changed something meanwhile.
    pool.settle();
}

/// Asks a source, for ever.
async fn follow(pool: Arc<Pool>, source: Arc<Source>, label: String, lookup: Arc<Lookup>) {
    let counted = pool.counted.as_ref().map(|counted| counted.discover(&label));
    let count = || {
        if let Some(counted) = &counted {
            let state = lookup.state();
            counted.set(state.reason.is_none() && lookup.is_tried(), state.refused.len());
        }
    };
    // What a question of the generation before found after this one was compiled.
    pool.renew();
    count();
    loop {
        let change = lookup.ask(&source, &pool.terms).await;
        count();
        tell(&pool, &label, &lookup, &change);
        if change.instances.is_some() {
            pool.renew();
        }
    }
}

/// What an operator wants to know of an answer.
fn tell(pool: &Pool, label: &str, lookup: &Lookup, change: &Change) {
    let name = &pool.name;
    if let Some(reason) = &change.failed {
        let kept = lookup.state().found;
        log::warn!("pool {name}: {label} does not say where its targets are, {kept} kept: {reason}");
    }
    if change.given_up {
        log::warn!("pool {name}: {label} has not said for too long where its targets are: none is kept");
    } else if let Some(instances) = &change.instances {
        let shown: Vec<_> = instances.iter().take(SHOWN).map(|one| one.address.to_string()).collect();
        let more =
            if instances.len() > SHOWN { format!(" and {} more", instances.len() - SHOWN) } else { String::new() };
        log::info!("pool {name}: {label} is now {}{more}", shown.join(", "));
    }
    if change.back {
        log::info!("pool {name}: {label} says again where its targets are");
    }
    say_refused(pool, &label, change.refused.as_deref().unwrap_or_default());
}

fn say_refused(pool: &Pool, label: &dyn std::fmt::Display, refused: &[Refused]) {
    for one in refused.iter().take(SHOWN) {
        let (address, why) = (one.address, one.why);
        log::warn!("pool {}: {label} names {address}, which {why}: refused{}", pool.name, why.remedy());
    }
}
