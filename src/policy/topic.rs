//! A topic of MQTT as a request means it: its levels filled in by the match and by what is known of the client.

use http::HeaderMap;

use super::guard::Tools;
use super::key::Part;
use super::template::Offer;
use crate::canonical::unescape;
use crate::client::mqtt::topic::{Level, is_level};
use crate::client::mqtt::{Broker, Topic};
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::problem::{Path, Problems};
use crate::units::Name;

/// Words of a broker's own with which a topic may begin.
const OF_BROKERS: [&str; 4] = ["SYS", "share", "queue", "aws"];

/// A topic, decided once.
#[derive(Debug, Clone)]
pub struct Made(Box<[Piece]>);

#[derive(Debug, Clone)]
enum Piece {
    Text(Box<str>),
    Param(Box<str>),
    Known(Part),
}

/// Whether a topic may ask for many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    Publishing,
    Listening,
}

impl Made {
    /// Every name in it has to be one that each match gives; who publishes means one topic.
    pub fn compile(topic: &Topic, what: For, offers: &[Offer]) -> Result<Self, String> {
        for name in topic.names() {
            if offers.iter().any(|offer| !offer.names.iter().any(|known| **known == *name)) {
                return Err(format!("`:{name}` is not in the route's match"));
            }
        }
        let piece = |(at, level): (usize, &Level)| match level {
            Level::Literal(text) => Ok(Piece::Text(text.clone())),
            Level::Named(name) => Ok(Piece::Param(name.clone())),
            Level::Any | Level::Below if what == For::Publishing => {
                Err(format!("a message has one topic, and `{level}` means many"))
            }
            Level::Any | Level::Below => Ok(Piece::Text(level.to_string().into())),
            Level::Dollar(word) => match word.parse::<Part>() {
                Ok(part) => Ok(Piece::Known(part)),
                Err(_) if at == 0 && what == For::Listening && OF_BROKERS.contains(&&**word) => {
                    Ok(Piece::Text(format!("${word}").into()))
                }
                Err(why) => Err(why),
            },
        };
        topic.levels().iter().enumerate().map(piece).collect::<Result<_, _>>().map(Self)
    }

    /// The names of what only `auth` can tell.
    pub fn asks_who(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Known(Part::Consumer | Part::Claim(_))))
    }

    /// The topic of this request; what would mean another topic, or many, is refused.
    pub fn fill(&self, exchange: &Exchange<'_>, route: &str) -> Result<String, (Fault, String)> {
        let mut topic = String::new();
        for (at, piece) in self.0.iter().enumerate() {
            if at > 0 {
                topic.push('/');
            }
            match piece {
                Piece::Text(text) => topic.push_str(text),
                Piece::Param(name) => {
                    let said = exchange.request.param(name).and_then(unescape);
                    let said = said.filter(|said| is_level(said));
                    topic.push_str(
                        &said.ok_or_else(|| (Fault::RequestTarget, format!("`:{name}` is no level of a topic")))?,
                    );
                }
                Piece::Known(part) => {
                    let said = part.text(exchange, route).filter(|said| is_level(said));
                    topic.push_str(
                        &said.ok_or_else(|| (Fault::RequireRefused, format!("{part} is no level of a topic")))?,
                    );
                }
            }
        }
        Ok(topic)
    }
}

/// The broker of this name; what only the whole document shows was said by its reader.
pub fn broker(name: &Name, tools: &Tools<'_>) -> Option<std::sync::Arc<Broker>> {
    tools.brokers?.get(name).cloned().flatten()
}

/// How sure a message has to come.
pub fn complain_of_service(qos: u8, at: &Path, problems: &mut Problems) {
    if qos > 2 {
        problems.error(at.key("qos"), format!("`{qos}` is not 0, 1 or 2"));
    }
}

/// The id of what a listener saw last, as browsers say it when they come back.
pub fn last_event(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Found;
    use crate::exchange::asked::Asked;
    use serde_json::json;
    use std::sync::Arc;

    fn made(topic: &str, what: For) -> Result<Made, String> {
        let offers = [Offer { names: vec!["id".into()], rest: false, literal: None }];
        Made::compile(&topic.parse().unwrap(), what, &offers)
    }

    #[test]
    fn a_topic_that_cannot_be_is_refused() {
        assert_eq!(made("a/:name", For::Publishing).unwrap_err(), "`:name` is not in the route's match");
        assert_eq!(made("a/+", For::Publishing).unwrap_err(), "a message has one topic, and `+` means many");
        assert_eq!(made("a/$jwt", For::Listening).unwrap_err(), "`jwt` is no key. Did you mean `jwt.`?");
        assert!(made("$SYS/a", For::Publishing).is_err() && made("$SYS/a", For::Listening).is_ok());
        assert!(made("devices/+/$jwt.sub/#", For::Listening).unwrap().asks_who());
    }

    #[test]
    fn what_is_filled_in_stays_one_level() {
        let mut found = Found::default();
        found.identity.claims = json!({ "sub": "u1", "bad": "a/#" }).as_object().cloned().map(Arc::new);
        // `:id` of this request is what its path says.
        let request = Asked::from_client("10.0.0.1");
        let id = crate::exchange::Request::param(&request, "id").unwrap().to_owned();
        let exchange = Exchange { request: &request, found: &mut found };
        let fill = |topic: &str| made(topic, For::Publishing).unwrap().fill(&exchange, "r").map_err(|(fault, _)| fault);
        assert_eq!(fill("devices/:id/$jwt.sub"), Ok(format!("devices/{id}/u1")));
        assert_eq!(fill("devices/$jwt.bad"), Err(Fault::RequireRefused));
        assert_eq!(fill("devices/$jwt.none"), Err(Fault::RequireRefused));
    }
}
