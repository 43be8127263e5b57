//! One direction, between ends that are memory.

use std::future::poll_fn;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::unconstrained;

use super::super::frame;
use super::*;

struct Street {
    lane: Lane,
    speaker: DuplexStream,
    from: DuplexStream,
    to: DuplexStream,
    listener: DuplexStream,
}

/// From a target to a client, who takes so much at once.
fn street(strict: bool, room: usize) -> Street {
    let (speaker, from) = duplex(1 << 16);
    let (to, listener) = duplex(room);
    Street { lane: Lane::new(frame::Frames::new(false, 0, None), strict, Vec::new()), speaker, from, to, listener }
}

impl Street {
    /// The events until nothing happens any more.
    fn walk(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) =
            unconstrained(poll_fn(|cx| self.lane.poll(cx, &mut self.from, &mut self.to, Some(*b"12345678"))))
                .now_or_never()
        {
            events.push(event);
        }
        events
    }
    fn say(&mut self, bytes: &[u8]) {
        unconstrained(self.speaker.write_all(bytes)).now_or_never().unwrap().unwrap();
    }
    fn heard(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut room = [0; 4096];
        while let Some(Ok(some @ 1..)) = unconstrained(self.listener.read(&mut room)).now_or_never() {
            all.extend_from_slice(&room[..some]);
        }
        all
    }
}

const HELLO: &[u8] = b"\x81\x05hello";

#[tokio::test]
async fn frames_pass_as_they_are_and_half_a_head_waits() {
    let mut street = street(true, 4096);
    street.say(&[HELLO, b"\x81"].concat());
    assert_eq!(street.walk(), [Event::Came { said: true }]);
    assert_eq!(street.heard(), HELLO);
    street.say(b"\x02ok");
    street.walk();
    assert_eq!(street.heard(), b"\x81\x02ok");
    assert_eq!((street.lane.messages(), street.lane.bytes), (2, 11));
}

#[tokio::test]
async fn only_the_answer_to_our_ping_is_kept_back() {
    let mut street = street(true, 4096);
    street.say(b"\x8a\x0812345678");
    assert_eq!(street.walk(), [Event::Came { said: false }]);
    street.say(&[HELLO, b"\x8a\x0812345678", b"\x8a\x0812345679", HELLO].concat());
    assert_eq!(street.walk(), [Event::Came { said: true }]);
    assert_eq!(street.heard(), [HELLO, b"\x8a\x0812345679", HELLO].concat());
}

#[tokio::test]
async fn who_breaks_the_rules_is_told_of_or_left_alone() {
    let mut strict = street(true, 4096);
    strict.say(&[HELLO, b"one two"].concat());
    assert!(matches!(strict.walk()[..], [Event::Wrong(Violation { code: 1002, .. }), ..]));
    assert_eq!(strict.heard(), HELLO, "what was right has passed");
    let mut lenient = street(false, 4096);
    lenient.say(&[HELLO, b"one two"].concat());
    assert_eq!(lenient.walk(), [Event::Came { said: true }]);
    lenient.say(HELLO);
    lenient.walk();
    assert_eq!(lenient.heard(), [HELLO, b"one two", HELLO].concat());
    assert_eq!(lenient.lane.messages(), 1, "what was counted stays counted");
    assert!(!lenient.lane.insert(|_| {}), "nobody knows where a frame could stand");
}

#[tokio::test]
async fn a_goodbye_stands_between_frames_and_is_the_last_word() {
    let mut street = street(true, 4096);
    street.say(&HELLO[..4]);
    street.walk();
    assert!(street.lane.say_goodbye(|to| frame::close(1001, None, to)));
    street.walk();
    assert_eq!(street.heard(), &HELLO[..4], "not into a frame");
    street.say(&[&HELLO[4..], HELLO, b"\x88\x02\x03\xe9", HELLO].concat());
    street.walk();
    assert_eq!(street.heard(), [&HELLO[4..], b"\x88\x02\x03\xe9"].concat());
    assert_eq!(street.lane.closed, Some(Goodbye { code: Some(1001) }), "the other goodbye is heard all the same");
}

#[tokio::test]
async fn nothing_passes_behind_a_goodbye() {
    let mut street = street(true, 4096);
    street.say(&[b"\x88\x00", HELLO].concat());
    street.walk();
    assert_eq!((street.heard(), street.lane.closed), (b"\x88\x00".to_vec(), Some(Goodbye { code: None })));
    street.say(HELLO);
    drop(std::mem::replace(&mut street.speaker, duplex(1).0));
    assert_eq!(street.walk().last(), Some(&Event::Ended));
    assert!(street.heard().is_empty() && street.lane.is_silent());
}

#[tokio::test]
async fn a_slow_listener_holds_up_the_speaker_and_loses_nothing() {
    let mut street = street(true, 100);
    let large = [&[0x82, 0x7e][..], &60_000_u16.to_be_bytes(), &vec![7; 60_000]].concat();
    street.say(&large);
    let mut heard = Vec::new();
    while heard.len() < large.len() {
        street.walk();
        assert!(street.lane.waits.len() <= PIECE, "no more is held than was read at once");
        let (sent, held) = (heard.len(), street.lane.waits.len());
        assert!(sent + 100 >= large.len() || street.lane.stuck().is_some(), "{sent} sent, {held} held back");
        heard.extend(street.heard());
    }
    street.walk();
    assert!(heard == large && street.lane.is_empty() && street.lane.stuck().is_none());
    assert_eq!(street.lane.waits.capacity(), 0, "a lane that rests holds nothing");
}

#[tokio::test]
async fn a_listener_that_is_gone_is_noticed() {
    let mut street = street(true, 100);
    drop(std::mem::replace(&mut street.listener, duplex(1).0));
    street.say(HELLO);
    assert!(street.walk().contains(&Event::Deaf));
}
