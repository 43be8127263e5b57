//! The live state of a process, packed for its successor: each room packs its own part.
//!
//! What was counted, who is down, ejected or broken and until when, what was said by hand, which targets were found, the
//! keys of issuers and of TLS sessions, how long targets keep connections. Not what belongs to a request or a connection:
//! in-flight counts, retry budgets, answers that can be asked for again.
//!
//! Moments travel as times before or after the packing, and both processes know from the kernel's monotonic clock how long
//! ago that was: nothing depends on the wall clock but what is of the calendar. Each part has a name; what a process does
//! not know, or cannot read, is left cold, and it says so.
//!
//! What only one process may have (slices of a shared count, what is owed to a store) is no longer here once it is packed,
//! and quotas are written to disk by the successor. Should that not come to serve, [`take_back`] puts all that right.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::Live;
use crate::listener::tickets;
use crate::policy::auth::remote::Remote;
use crate::policy::limit::{Limit, carry as counts};
use crate::pool::connection::Connections;
use crate::state::parcel::{Parcel, Part, Said, parts};

/// The time by a clock that nobody sets and that all processes of this machine share.
fn clock() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), nanos)
}

/// What nobody hands over for longer was packed on another machine, or before its start.
const LONGEST: Duration = Duration::from_mins(10);

/// Live state of the process, for a successor.
pub fn pack(live: &Live) -> Vec<u8> {
    pack_at(live, Instant::now(), clock())
}

fn pack_at(live: &Live, now: Instant, clock: Duration) -> Vec<u8> {
    let snapshot = live.load_full();
    let limits = snapshot.limits();
    let room: usize = limits.iter().map(|limit| limit.packed_size()).sum();
    let mut parcel = Parcel::new(now, room + (64 << 10));
    let clock = u64::try_from(clock.as_nanos()).unwrap_or(u64::MAX);
    parcel.put_json("moment", &json!({ "clock": clock, "version": env!("CARGO_PKG_VERSION") }));
    for limit in &limits {
        limit.pack(&mut parcel);
    }
    for (name, pool) in &snapshot.pools {
        parcel.put_json(&format!("pool/{name}"), &pool.pack(now));
    }
    parcel.put_json("keys", &Remote::pack());
    parcel.put_json("tickets", &tickets::pack(now));
    parcel.put_json("habits", &Connections::pack(&live.connections(), now));
    parcel.bytes()
}

/// Of what was packed that which is here no longer, for the case that nobody takes it up.
pub fn keep(parcel: &[u8]) -> Vec<u8> {
    let mut kept = Parcel::new(Instant::now(), 0);
    parts(parcel)
        .0
        .into_iter()
        .filter(|part| part.name == "moment" || counts::moves(part.name))
        .for_each(|part| kept.add(part));
    kept.bytes()
}

/// Nobody has taken up what was packed: this process goes on with what it [kept](keep).
pub fn take_back(live: &Live, kept: &[u8]) {
    // Nothing was packed yet where nothing was kept.
    let cold = if kept.is_empty() { Vec::new() } else { unpack(live, kept) };
    for cold in cold {
        log::warn!("going on: {cold}");
    }
    for ledger in live.load().ledgers() {
        ledger.open();
    }
}

/// Takes up what a predecessor packed; what this program cannot read or no longer has is left cold, and the returned list
/// says so.
pub fn unpack(live: &Live, parcel: &[u8]) -> Vec<String> {
    unpack_at(live, parcel, Instant::now(), clock())
}

fn unpack_at(live: &Live, parcel: &[u8], here: Instant, clock: Duration) -> Vec<String> {
    let (parts, whole) = parts(parcel);
    let mut cold = Vec::new();
    if !whole {
        cold.push("what was handed over is not whole".to_owned());
    }
    let now = parts.iter().find(|part| part.name == "moment").and_then(|part| moment(*part, here, clock));
    if now.is_none() && !parts.is_empty() {
        cold.push("nobody knows when it was packed; it counts as packed just now".to_owned());
    }
    let (now, snapshot) = (now.unwrap_or(here), live.load_full());
    let limits = snapshot.limits();
    for part in parts.into_iter().filter(|part| part.name != "moment") {
        let is_count = part.name.starts_with("limit/");
        cold.extend(if is_count { take_up_counts(&limits, part, now) } else { take_up(live, part, now) });
    }
    cold
}

/// The moment at which it was packed.
fn moment(part: Part<'_>, here: Instant, clock: Duration) -> Option<Instant> {
    let packed = Duration::from_nanos(part.json().ok()?.get("clock")?.as_u64()?);
    here.checked_sub(clock.checked_sub(packed).filter(|age| *age < LONGEST)?)
}

fn take_up_counts(limits: &[Arc<Limit>], part: Part<'_>, now: Instant) -> Vec<String> {
    let name = part.name;
    match limits.iter().find_map(|limit| limit.unpack(part, now)) {
        Some(Ok(())) => Vec::new(),
        Some(Err(why)) => vec![format!("{name} {why}")],
        None => vec![format!("{name} is gone")],
    }
}

fn take_up(live: &Live, part: Part<'_>, now: Instant) -> Vec<String> {
    let name = part.name;
    let value = match part.json() {
        Ok(value) => value,
        Err(why) => return vec![format!("{name} {why}")],
    };
    let said = Said { value: &value, now };
    if let Some(pool) = name.strip_prefix("pool/") {
        let snapshot = live.load();
        let pool = snapshot.pools.iter().find(|(known, _)| known.as_str() == pool);
        return pool.map_or_else(|| vec![format!("{name} is gone")], |(_, pool)| pool.unpack(said));
    }
    let known = match name {
        "keys" => Remote::unpack(&value),
        "tickets" => tickets::unpack(said),
        "habits" => Connections::unpack(&live.connections(), said),
        _ => return vec![format!("{name}: this program knows no such thing")],
    };
    if known { Vec::new() } else { vec![format!("{name}: something of it cannot be read")] }
}

#[cfg(test)]
mod tests;
