//! What the workers have learned of the targets' connections, for a successor.

use std::collections::HashMap;
use std::sync::Arc;

use pingora::protocols::l4::socket::SocketAddr;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::habit::Habit;
use super::{Connections, Place};
use crate::state::parcel::Said;

impl Place {
    fn text(&self) -> Option<String> {
        match &self.0 {
            SocketAddr::Inet(ip) => Some(ip.to_string()),
            SocketAddr::Unix(unix) => Some(format!("unix:{}", unix.as_pathname()?.to_str()?)),
        }
    }

    fn of(text: &str) -> Option<Self> {
        let unix = text.strip_prefix("unix:").map(std::os::unix::net::SocketAddr::from_pathname);
        match unix {
            Some(unix) => unix.ok().map(SocketAddr::Unix).map(Self),
            None => text.parse().ok().map(SocketAddr::Inet).map(Self),
        }
    }
}

impl Connections {
    /// What all of these know, as of this moment.
    pub fn pack(all: &[Arc<Self>], now: std::time::Instant) -> Value {
        let mut habits: HashMap<String, Habit> = HashMap::new();
        for one in all {
            for (place, habit) in &one.kept().habits {
                if let Some(place) = place.text() {
                    habits.entry(place).or_default().and(habit);
                }
            }
        }
        let row = |(place, habit): (String, Habit)| (place, habit.pack(Instant::from_std(now)));
        Value::Object(habits.into_iter().map(row).collect::<Map<_, _>>())
    }

    /// All of these know it from now on; false where something of it cannot be read.
    pub fn unpack(all: &[Arc<Self>], said: Said<'_>) -> bool {
        let Some(rows) = said.value.as_object() else { return false };
        rows.iter().fold(true, |good, (place, value)| {
            let read = Place::of(place).zip(Habit::unpack(Said { value, ..said }));
            let Some((place, habit)) = read else { return false };
            for one in all {
                one.kept().habits.entry(place.clone()).or_default().and(&habit);
            }
            good
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_worker_of_the_successor_knows_what_one_of_the_predecessor_has_learned() {
        let workers = || [(); 2].map(|()| Arc::new(Connections::new(8)));
        let (old, new, now) = (workers(), workers(), Instant::now());
        let places = ["10.0.0.7:80", "[::1]:80", "unix:/run/app.sock"].map(|text| Place::of(text).unwrap());
        for (place, worker) in places.iter().zip([0, 1, 0]) {
            for after in [1, 2] {
                let seen = now + Duration::from_secs(after);
                old[worker].kept().habits.entry(place.clone()).or_default().closed(Duration::from_secs(5), seen);
            }
        }
        let later = now + Duration::from_mins(1);
        let packed = Connections::pack(&old, later.into_std());
        assert!(Connections::unpack(&new, Said { value: &packed, now: later.into_std() }));
        for (place, worker) in places.iter().zip([0, 1, 0]) {
            let limit = |one: &Connections, at| one.kept().habits.get(place).and_then(|habit| habit.limit(at));
            for after in [60, 601, 603] {
                let at = now + Duration::from_secs(after);
                let known = limit(&old[worker], at);
                assert_eq!(known.is_some(), after < 602);
                assert_eq!([limit(&new[0], at), limit(&new[1], at)], [known; 2]);
            }
        }
        let strange = serde_json::json!({ "nowhere": {}, "10.0.0.7:80": { "last": null, "known": { "age": "x" } } });
        assert!(!Connections::unpack(&new, Said { value: &strange, now: later.into_std() }));
    }
}
