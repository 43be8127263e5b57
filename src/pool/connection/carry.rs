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
