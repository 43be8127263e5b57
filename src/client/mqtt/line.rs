//! One connection to a broker: packets of MQTT 3.1.1 over a socket of ours, read and written at the same time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::{Packet, Publish};
use tokio::io::ReadBuf;

use crate::client::store::line::Stream;

/// A message that is longer is read and thrown away, so that it stops no others.
pub const MOST: usize = 4 << 20;
/// What one look at the socket takes from it.
const PIECE: usize = 64 << 10;
/// What is written is no longer than this, whatever the document lets through.
const MOST_OUT: usize = 256 << 20;

/// A connection and what is under way on it.
pub struct Line {
    stream: Box<dyn Stream>,
    read: BytesMut,
    write: BytesMut,
    /// It has more to flush than was written.
    unflushed: bool,
    /// So much of a message that is too long has still to come.
    skip: usize,
}

/// What a broker said.
#[derive(Debug)]
pub enum Said {
    Packet(Packet),
    /// A message of so many bytes, too long to be taken; its payload is empty here.
    TooLong(Publish, usize),
    /// All that was to be said is on its way.
    Written,
}

impl Line {
    pub(in crate::client) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, read: BytesMut::new(), write: BytesMut::new(), unflushed: false, skip: 0 }
    }

    /// Will be said as soon as the connection is driven.
    pub fn say(&mut self, packet: &Packet) -> Result<(), String> {
        packet.write(&mut self.write, MOST_OUT).map(drop).map_err(|why| why.to_string())
    }

    /// How much waits to be written.
    pub fn unwritten(&self) -> usize {
        self.write.len()
    }

    /// What the broker says next; what is to be said is said meanwhile. Nothing is lost where nobody waits any more.
    pub async fn next(&mut self) -> Result<Said, String> {
        self.drive(true).await
    }

    /// The same; unless it `reads`, the broker is only told what is to be said.
    pub async fn drive(&mut self, reads: bool) -> Result<Said, String> {
        poll_fn(|cx| {
            let behind = !self.write.is_empty() || self.unflushed;
            match self.poll_write(cx) {
                Poll::Ready(Err(why)) => Poll::Ready(Err(why)),
                Poll::Ready(Ok(())) if behind => Poll::Ready(Ok(Said::Written)),
                _ if reads => self.poll_next(cx),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// What has been read already.
    pub fn ready(&mut self) -> Result<Option<Said>, String> {
        self.skip_what_came();
        if self.skip > 0 {
            return Ok(None);
        }
        match Packet::read(&mut self.read, MOST) {
            Ok(packet) => Ok(Some(Said::Packet(packet))),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(Error::PayloadSizeLimitExceeded(length)) => self.too_long(length),
            Err(why) => Err(format!("says what is no MQTT: {why}")),
        }
    }

    /// Until all is written.
    pub async fn flush(&mut self) -> Result<(), String> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Said, String>> {
        loop {
            if let Some(said) = self.ready()? {
                return Poll::Ready(Ok(said));
            }
            let mut piece = [0; PIECE / 4];
            let mut room = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut room)).map_err(|why| why.to_string())?;
            if room.filled().is_empty() {
                return Poll::Ready(Err("has hung up".to_owned()));
            }
            self.read.extend_from_slice(room.filled());
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        while !self.write.is_empty() {
            let wrote =
                ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.write)).map_err(|why| why.to_string())?;
            if wrote == 0 {
                return Poll::Ready(Err("takes nothing more".to_owned()));
            }
            self.write.advance(wrote);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut *self.stream).poll_flush(cx)).map_err(|why| why.to_string())?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn skip_what_came(&mut self) {
        let gone = self.skip.min(self.read.len());
        self.read.advance(gone);
        self.skip -= gone;
    }

    /// The head of a message whose payload is too long; the payload is skipped as it comes.
    fn too_long(&mut self, length: usize) -> Result<Option<Said>, String> {
        let fixed = 1 + self.read.iter().skip(1).take(4).take_while(|byte| **byte >= 0x80).count() + 1;
        let Some(first) = self.read.first().copied().filter(|first| first >> 4 == 3) else {
            return Err("says what is too long and no message".to_owned());
        };
        let qos = first >> 1 & 3;
        let Some(named) =
            self.read.get(fixed..fixed + 2).and_then(|two| Some(usize::from(u16::from_be_bytes(two.try_into().ok()?))))
        else {
            return Ok(None);
        };
        let head = 2 + named + if qos > 0 { 2 } else { 0 };
        if head > length {
            return Err("says a message without its head".to_owned());
        }
        if self.read.len() < fixed + head {
            return Ok(None);
        }
        // The same with a length of its head alone.
        let mut short = BytesMut::from(&[first][..]);
        let mut rest = head;
        while rest >= 0x80 {
            short.extend_from_slice(&[u8::try_from(rest % 0x80).unwrap_or(0) | 0x80]);
            rest /= 0x80;
        }
        short.extend_from_slice(&[u8::try_from(rest).unwrap_or(0)]);
        self.read.advance(fixed);
        short.extend_from_slice(&self.read.split_to(head));
        self.skip = length - head;
        match Packet::read(&mut short, MOST) {
            Ok(Packet::Publish(publish)) => Ok(Some(Said::TooLong(publish, length))),
            other => Err(format!("says what is no MQTT: {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::mqttbytes::QoS;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn message(length: usize, id: u16) -> BytesMut {
        let mut publish = Publish::new("devices/7/data", QoS::AtLeastOnce, vec![7; length]);
        publish.pkid = id;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn packets_come_whole_however_the_bytes_do() {
        let (ours, mut theirs) = duplex(16);
        let mut line = Line::new(Box::new(ours));
        let bytes = message(100, 1);
        let say = async { theirs.write_all(&bytes).await.unwrap() };
        let (said, ()) = tokio::join!(line.next(), say);
        assert!(matches!(said, Ok(Said::Packet(Packet::Publish(publish))) if publish.payload.len() == 100));
        drop(theirs);
        assert_eq!(line.next().await.unwrap_err(), "has hung up");
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_told_and_the_next_one_is_read() {
        let (ours, mut theirs) = duplex(1 << 20);
        let mut line = Line::new(Box::new(ours));
        let mut bytes = message(MOST + 1, 7);
        bytes.unsplit(message(3, 8));
        let say = async { theirs.write_all(&bytes).await.unwrap() };
        let hear = async {
            let Said::TooLong(publish, length) = line.next().await.unwrap() else { panic!("not too long") };
            assert_eq!((publish.pkid, &*publish.topic, publish.payload.len()), (7, "devices/7/data", 0));
            assert!(length > MOST);
            let Said::Packet(Packet::Publish(publish)) = line.next().await.unwrap() else { panic!("no message") };
            assert_eq!((publish.pkid, publish.payload.len()), (8, 3));
        };
        tokio::join!(say, hear);
    }

    #[tokio::test]
    async fn both_sides_may_talk_at_once_without_waiting_for_each_other() {
        let (ours, mut theirs) = duplex(64);
        let mut line = Line::new(Box::new(ours));
        let publish = Publish { pkid: 1, ..Publish::new("a", QoS::AtLeastOnce, vec![1; 10_000]) };
        line.say(&Packet::Publish(publish)).unwrap();
        let bytes = message(10_000, 1);
        let (mut back, mut forth) = tokio::io::split(&mut theirs);
        let mut got = vec![0; 5000];
        let hear = async {
            loop {
                match line.next().await.unwrap() {
                    Said::Written => {}
                    said => break said,
                }
            }
        };
        let (said, _, ()) =
            tokio::join!(hear, back.read_exact(&mut got), async { forth.write_all(&bytes).await.unwrap() });
        assert!(matches!(said, Said::Packet(Packet::Publish(_))));
    }
}
