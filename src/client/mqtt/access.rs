//! How a broker is entered: where it is, who we are to it, and how both sides know that the other is there.

use std::time::{Duration, Instant};

use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Login, Packet};

use super::line::{Line, Said};
use crate::client::store::line::reach;
use crate::client::store::tls::Tls;
use crate::telemetry::random;
use crate::units::Address;

/// How long entering may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pauses between attempts to enter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Where a broker is and who we are to it.
#[derive(Clone)]
pub struct Access {
    pub(super) address: Address,
    pub(super) tls: Option<Tls>,
    pub(super) login: Option<(String, String)>,
    pub(super) keep_alive: Duration,
}

impl Access {
    /// Connects under this name; whether the broker still knows what was subscribed. The error is one sentence.
    pub async fn enter(&self, id: &str, clean: bool) -> Result<(Line, bool), String> {
        match tokio::time::timeout(PATIENCE, self.knock(id, clean)).await {
            Ok(entered) => entered,
            Err(_) => Err(format!("{} did not answer within {PATIENCE:?}", self.address)),
        }
    }

    async fn knock(&self, id: &str, clean: bool) -> Result<(Line, bool), String> {
        let at = &self.address;
        let wrong = |why: std::io::Error| format!("cannot connect to {at}: {why}");
        let mut stream = reach(at).await.map_err(wrong)?;
        if let Some(tls) = &self.tls {
            let name = tls.name(at).ok_or_else(|| format!("{at} has no name that a certificate could carry"))?;
            stream = Box::new(tls.connector().connect(name, stream).await.map_err(wrong)?);
        }
        let mut line = Line::new(stream);
        let mut connect = Connect::new(id);
        connect.clean_session = clean;
        connect.keep_alive = u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX);
        connect.login = self.login.clone().map(|(username, password)| Login { username, password });
        line.say(&Packet::Connect(connect))?;
        loop {
            match line.next().await.map_err(|why| format!("{at} {why}"))? {
                Said::Written => {}
                Said::Packet(Packet::ConnAck(said)) if said.code == ConnectReturnCode::Success => {
                    return Ok((line, said.session_present));
                }
                Said::Packet(Packet::ConnAck(said)) => {
                    return Err(format!("{at} does not let us in: {}", refusal(said.code)));
                }
                _ => return Err(format!("{at} says what is no MQTT 3.1.1")),
            }
        }
    }

    /// The beat of one connection.
    pub fn pulse(&self) -> Pulse {
        Pulse { half: self.keep_alive / 2, last: Instant::now(), asked: None }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::BadUserNamePassword => "wrong user or password",
        ConnectReturnCode::NotAuthorized => "not authorized",
        ConnectReturnCode::BadClientId => "it does not take this client_id",
        ConnectReturnCode::ServiceUnavailable => "it is not available",
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::Success => "",
    }
}

/// When to ask whether the broker is there, and when it is not.
#[derive(Debug)]
pub struct Pulse {
    half: Duration,
    last: Instant,
    asked: Option<Instant>,
}

/// What a pulse wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Beat {
    Ask,
    Gone,
}

impl Pulse {
    /// The broker said something.
    pub fn heard(&mut self) {
        self.asked = None;
    }

    /// When the next beat is due.
    pub fn next(&self) -> Instant {
        self.asked.unwrap_or(self.last) + self.half
    }

    /// What is due now, if anything is.
    pub fn beat(&mut self, now: Instant) -> Option<Beat> {
        if now < self.next() {
            return None;
        }
        if self.asked.is_some() {
            return Some(Beat::Gone);
        }
        (self.last, self.asked) = (now, Some(now));
        Some(Beat::Ask)
    }

    /// Nobody reads at the moment, so that no answer means nothing.
    pub fn deaf(&mut self) {
        self.asked = None;
    }
}

/// Pauses that grow, not quite alike, so that a fleet does not come at once.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
    last: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self::up_to(LAST_PAUSE)
    }
}

impl Pauses {
    pub fn up_to(last: Duration) -> Self {
        Self { next: FIRST_PAUSE, last }
    }

    pub fn again(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.last);
        let share = f64::from(u32::try_from(random::next() >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        pause.mul_f64(0.8 + 0.4 * share)
    }

    pub fn reset(&mut self) {
        self.next = FIRST_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_asked_twice_in_its_time_and_gone_if_it_does_not_answer() {
        let start = Instant::now();
        let mut pulse = Pulse { half: Duration::from_secs(15), last: start, asked: None };
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pulse.beat(at(14)), None);
        assert_eq!(pulse.beat(at(15)), Some(Beat::Ask));
        pulse.heard();
        assert_eq!((pulse.beat(at(29)), pulse.beat(at(30))), (None, Some(Beat::Ask)));
        assert_eq!((pulse.beat(at(44)), pulse.beat(at(45))), (None, Some(Beat::Gone)));
    }

    #[test]
    fn pauses_grow_up_to_a_longest_one() {
        let mut pauses = Pauses::default();
        let all: Vec<_> = (0..9).map(|_| pauses.again()).collect();
        assert!(all[0] <= Duration::from_millis(120) && all[0] >= Duration::from_millis(80), "{all:?}");
        assert!(all[8] <= Duration::from_secs(12) && all[8] >= Duration::from_secs(8), "{all:?}");
        pauses.reset();
        assert!(pauses.again() <= Duration::from_millis(120));
    }
}
