//! The connection of a broker for requests: it publishes what they bring and hears what they listen to.
//!
//! Nothing of it is kept by the broker while we are away: who publishes is told so, and who listens is told of the gap.
//! Its name is another one in each process, so that a successor and the process before it do not push each other out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Packet, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, Subscribe, SubscribeReasonCode, Unsubscribe,
};
use tokio::sync::{mpsc, oneshot};

use super::access::{Beat, Pauses, Pulse};
use super::hub::Standing;
use super::line::{Line, Said};
use super::{AT_ONCE, Broker};

/// Bytes that wait for the broker; no more is taken then.
const UNWRITTEN: usize = 4 << 20;

/// A message of a request.
pub(super) struct Order {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// Told once the broker has it; dropped where it may not have it.
    pub(super) done: oneshot::Sender<()>,
}

/// What belongs to whoever keeps the connection.
pub(super) struct Link {
    open: Option<Open>,
    ordered: mpsc::Receiver<Order>,
}

/// A connection and what is under way on it.
struct Open {
    line: Line,
    pulse: Pulse,
    last: u16,
    /// Messages that the broker has not acknowledged.
    waiting: HashMap<u16, oneshot::Sender<()>>,
    /// Those that ask for no acknowledgement, until they are on their way.
    unwritten: Vec<oneshot::Sender<()>>,
    /// What was subscribed, and how.
    subscribed: HashMap<Box<str>, u8>,
    asked: HashMap<u16, Box<str>>,
    /// Messages of the broker that it may send a second time.
    received: HashSet<u16>,
    /// What is listened to may have changed.
    changed: bool,
}

impl Link {
    pub(super) fn new(ordered: mpsc::Receiver<Order>) -> Self {
        Self { open: None, ordered }
    }
}

impl Broker {
    pub(super) async fn keep(self: Arc<Self>) {
        let _kept = self.kept();
        let mut turn = self.link.lock().await;
        let Link { open, ordered } = &mut *turn;
        let (mut pauses, mut said) = (Pauses::default(), String::new());
        loop {
            let Some(opened) = open.as_mut() else {
                match self.access.enter(&self.id, true).await {
                    Ok((line, _)) => {
                        *open = Some(Open::new(line, self.access.pulse()));
                        pauses.reset();
                        said.clear();
                        self.went_up();
                    }
                    Err(why) => {
                        self.tried.send_replace(true);
                        // Again and again the same is said once.
                        if said != why {
                            log::warn!("store {}: {why}", self.name);
                            said = why;
                        }
                        tokio::time::sleep(pauses.again()).await;
                    }
                }
                continue;
            };
            let why = opened.run(&self, ordered).await;
            *open = None;
            self.went_down(&why);
        }
    }
}

impl Open {
    fn new(line: Line, pulse: Pulse) -> Self {
        Self {
            line,
            pulse,
            last: 0,
            waiting: HashMap::new(),
            unwritten: Vec::new(),
            subscribed: HashMap::new(),
            asked: HashMap::new(),
            received: HashSet::new(),
            changed: true,
        }
    }

    /// Talks until the connection is of no use any more; why that is.
    async fn run(&mut self, broker: &Broker, ordered: &mut mpsc::Receiver<Order>) -> String {
        loop {
            if std::mem::take(&mut self.changed)
                && let Err(why) = self.agree(broker)
            {
                return why;
            }
            let room = self.waiting.len() < AT_ONCE && self.line.unwritten() < UNWRITTEN;
            let done = tokio::select! {
                said = self.line.next() => said.and_then(|said| self.hear(broker, said)),
                order = ordered.recv(), if room => match order {
                    Some(order) => self.publish(order),
                    None => return "nobody wants it any more".to_owned(),
                },
                () = broker.changed.notified() => {
                    self.changed = true;
                    Ok(())
                }
                () = tokio::time::sleep_until(self.pulse.next().into()) => self.beat(),
            };
            if let Err(why) = done {
                return why;
            }
        }
    }

    fn beat(&mut self) -> Result<(), String> {
        // Now and then it is looked what nobody listens to any more.
        self.changed = true;
        match self.pulse.beat(Instant::now()) {
            Some(Beat::Ask) => self.line.say(&Packet::PingReq),
            Some(Beat::Gone) => Err("does not answer".to_owned()),
            None => Ok(()),
        }
    }

    /// A number that no packet under way has.
    fn number(&mut self) -> u16 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.waiting.contains_key(&self.last) && !self.asked.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    fn publish(&mut self, order: Order) -> Result<(), String> {
        let mut publish = Publish::from_bytes(order.topic, order.qos, order.payload);
        publish.retain = order.retain;
        if order.qos == QoS::AtMostOnce {
            self.unwritten.push(order.done);
        } else {
            publish.pkid = self.number();
            self.waiting.insert(publish.pkid, order.done);
        }
        self.line.say(&Packet::Publish(publish))
    }

    /// Asks for what somebody listens to, and no longer for what nobody does.
    fn agree(&mut self, broker: &Broker) -> Result<(), String> {
        let wanted = broker.wanted(Instant::now());
        let gone: Vec<_> = self.subscribed.keys().filter(|filter| !wanted.contains_key(*filter)).cloned().collect();
        for filter in gone {
            self.subscribed.remove(&filter);
            let pkid = self.number();
            self.line.say(&Packet::Unsubscribe(Unsubscribe { pkid, topics: vec![filter.into()] }))?;
        }
        for (filter, qos) in wanted {
            if self.subscribed.get(&filter) == Some(&qos) {
                continue;
            }
            let mut subscribe = Subscribe::new(&*filter, service(qos));
            subscribe.pkid = self.number();
            self.asked.insert(subscribe.pkid, filter.clone());
            self.subscribed.insert(filter, qos);
            self.line.say(&Packet::Subscribe(subscribe))?;
        }
        Ok(())
    }

    fn hear(&mut self, broker: &Broker, said: Said) -> Result<(), String> {
        if !matches!(said, Said::Written) {
            self.pulse.heard();
        }
        match said {
            Said::Written => self.unwritten.drain(..).for_each(|done| {
                // Who has given up is not told.
                let _ = done.send(());
            }),
            Said::TooLong(publish, length) => {
                log::warn!("store {}: a message of {length} bytes in {} is too long", broker.name, publish.topic);
                return self.acknowledge(&publish);
            }
            Said::Packet(packet) => return self.take(broker, packet),
        }
        Ok(())
    }

    fn take(&mut self, broker: &Broker, packet: Packet) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => {
                if publish.qos != QoS::ExactlyOnce || !self.received.contains(&publish.pkid) {
                    broker.spread(&publish);
                }
                self.acknowledge(&publish)?;
            }
            Packet::PubAck(PubAck { pkid }) | Packet::PubComp(PubComp { pkid }) => {
                if let Some(done) = self.waiting.remove(&pkid) {
                    let _ = done.send(());
                }
            }
            Packet::PubRec(PubRec { pkid }) => self.line.say(&Packet::PubRel(PubRel { pkid }))?,
            Packet::PubRel(PubRel { pkid }) => {
                self.received.remove(&pkid);
                self.line.say(&Packet::PubComp(PubComp { pkid }))?;
            }
            Packet::SubAck(SubAck { pkid, return_codes }) => {
                let granted = matches!(return_codes.first(), Some(SubscribeReasonCode::Success(_)));
                if let Some(filter) = self.asked.remove(&pkid) {
                    broker.stands(&filter, if granted { Standing::Granted } else { Standing::Refused });
                }
            }
            Packet::UnsubAck(_) | Packet::PingResp => {}
            other => return Err(format!("says what only clients say: {other:?}")),
        }
        Ok(())
    }

    fn acknowledge(&mut self, publish: &Publish) -> Result<(), String> {
        match publish.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => self.line.say(&Packet::PubAck(PubAck { pkid: publish.pkid })),
            QoS::ExactlyOnce => {
                self.received.insert(publish.pkid);
                self.line.say(&Packet::PubRec(PubRec { pkid: publish.pkid }))
            }
        }
    }
}

/// How sure a message has to come, as the protocol has it.
pub fn service(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}
