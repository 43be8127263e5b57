//! Frames as the standard has them, cut at every place, and each way to break it.

use proptest::prelude::*;

use super::*;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One frame as it travels.
fn frame(first: u8, body: &[u8], masked: bool) -> Vec<u8> {
    let mut bytes = vec![first];
    let bit = if masked { 0x80 } else { 0 };
    match body.len() {
        short @ 0..126 => bytes.push(bit | u8::try_from(short).unwrap()),
        long @ 126..65536 => {
            bytes.push(bit | 0x7e);
            bytes.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
        huge => {
            bytes.push(bit | 0x7f);
            bytes.extend((huge as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(KEY);
        bytes.extend(body.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(body);
    }
    bytes
}

/// Everything that passes, in pieces of so many bytes, and the control frames between; or what is wrong.
fn read(frames: &mut Frames, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<Control>), Violation> {
    let (mut passed, mut controls, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for came in bytes.chunks(piece) {
        held.extend_from_slice(came);
        loop {
            let (pass, behind) = frames.next(&held);
            passed.extend(held.drain(..pass));
            let Some((control, size)) = behind? else { break };
            controls.push(control);
            passed.extend(held.drain(..size));
        }
        assert!(held.len() < LONGEST, "more is held back than a control frame needs");
    }
    assert!(held.is_empty());
    Ok((passed, controls))
}

fn server() -> Frames {
    Frames::new(false, 0, None)
}

fn fault(frames: &mut Frames, bytes: &[u8]) -> Option<u16> {
    let whole = read(frames, bytes, bytes.len().max(1)).err();
    whole.map(|wrong| wrong.code)
}

#[test]
fn the_examples_of_the_standard_are_read() {
    // RFC 6455 section 5.7.
    let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let parts = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    let asks = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let mut target = server();
    for (bytes, controls, messages) in
        [(&hello[..], vec![], 1), (&parts[..], vec![], 2), (&asks[..], vec![Control::Ping], 2)]
    {
        assert_eq!(read(&mut target, bytes, 100), Ok((bytes.to_vec(), controls)));
        assert_eq!(target.messages, messages);
    }
    let mut client = Frames::new(true, 0, None);
    assert_eq!(read(&mut client, &masked, 100), Ok((masked.to_vec(), vec![])));
    assert_eq!(read(&mut client, &pong, 100), Ok((pong.to_vec(), vec![Control::Pong(None)])));
}

#[test]
fn each_way_to_break_it_has_its_code() {
    let story: Vec<(&str, Vec<u8>, u16)> = vec![
        ("reserved 1", frame(0xc1, b"x", false), code::PROTOCOL),
        ("reserved 2", frame(0xa1, b"x", false), code::PROTOCOL),
        ("reserved 3", frame(0x91, b"x", false), code::PROTOCOL),
        ("masked", frame(0x81, b"x", true), code::PROTOCOL),
        ("continuation of nothing", frame(0x80, b"x", false), code::PROTOCOL),
        ("message in message", [frame(0x01, b"x", false), frame(0x81, b"y", false)].concat(), code::PROTOCOL),
        ("ping in parts", frame(0x09, b"", false), code::PROTOCOL),
        ("long ping", frame(0x89, &[0; 126], false), code::PROTOCOL),
        ("length not shortest", vec![0x81, 126, 0, 125], code::PROTOCOL),
        ("length not shortest", [&[0x82, 127][..], &65_535_u64.to_be_bytes()].concat(), code::PROTOCOL),
        ("length with a sign", [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat(), code::PROTOCOL),
        ("half a code", frame(0x88, &[3], false), code::PROTOCOL),
        ("too large", frame(0x82, &[0; 11], false), code::TOO_BIG),
        ("too large in parts", [frame(0x02, &[0; 6], false), frame(0x80, &[0; 5], false)].concat(), code::TOO_BIG),
    ];
    for (what, bytes, code) in story {
        assert_eq!(fault(&mut Frames::new(false, 0, Some(10)), &bytes), Some(code), "{what}");
    }
    for opcode in (3..=7).chain(11..=15) {
        assert_eq!(fault(&mut server(), &frame(0x80 | opcode, b"", false)), Some(code::PROTOCOL), "{opcode}");
    }
    assert_eq!(fault(&mut Frames::new(true, 0, None), &frame(0x81, b"x", false)), Some(code::PROTOCOL));
    assert_eq!(fault(&mut Frames::new(false, 0, Some(10)), &frame(0x82, &[0; 10], false)), None);
}

#[test]
fn codes_are_those_that_may_be_sent() {
    let sent = |code: u16| fault(&mut server(), &frame(0x88, &code.to_be_bytes(), false));
    let may: Vec<u16> = (0..=u16::MAX).filter(|code| sent(*code).is_none()).collect();
    let wanted: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
    assert_eq!(may, wanted);
}

#[test]
fn compression_is_said_in_the_first_frame_only() {
    let mut frames = Frames::new(false, COMPRESSED, None);
    let good = [frame(0x41, b"x", false), frame(0x89, b"", false), frame(0x80, b"y", false)].concat();
    assert_eq!(fault(&mut frames, &good), None);
    assert_eq!(fault(&mut frames, &[frame(0x41, b"x", false), frame(0xc0, b"y", false)].concat()), Some(1002));
    assert_eq!(fault(&mut Frames::new(false, COMPRESSED, None), &frame(0xc9, b"", false)), Some(1002));
    assert_eq!(fault(&mut Frames::new(false, RESERVED, None), &frame(0xf1, b"x", false)), None);
}

#[test]
fn what_we_say_is_read_back() {
    let mut bytes = Vec::new();
    close(1001, Some(KEY), &mut bytes);
    let read_back = read(&mut Frames::new(true, 0, None), &bytes, 3).unwrap();
    assert_eq!(read_back, (bytes, vec![Control::Close(Some(1001))]));
    let mut bytes = Vec::new();
    ping(*b"12345678", &mut bytes);
    assert_eq!(read(&mut server(), &bytes, 1).unwrap(), (bytes, vec![Control::Ping]));
    let pong = frame(0x8a, b"12345678", true);
    let answer = Control::Pong(Some(*b"12345678"));
    assert_eq!(read(&mut Frames::new(true, 0, None), &pong, 2).unwrap(), (pong, vec![answer]));
}

#[test]
fn a_halt_is_at_the_end_of_a_frame() {
    let mut frames = server();
    let (first, second) = (frame(0x81, b"hello", false), frame(0x81, b"world", false));
    assert_eq!(frames.next(&first[..4]), (4, Ok(None)));
    frames.halt = true;
    let rest = [&first[4..], &second].concat();
    assert_eq!(frames.next(&rest), (3, Ok(None)));
    assert!(frames.is_between());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_it_is_cut_the_same_passes(
        bodies in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
        piece in 1_usize..50,
        masked: bool,
    ) {
        let mut bytes = Vec::new();
        for (ping, body) in &bodies {
            let body = if *ping { body.get(..body.len().min(125)).unwrap() } else { body };
            bytes.extend(frame(if *ping { 0x89 } else { 0x82 }, body, masked));
        }
        let mut frames = Frames::new(masked, 0, None);
        let (passed, controls) = read(&mut frames, &bytes, piece).unwrap();
        prop_assert_eq!(passed, bytes);
        prop_assert_eq!(controls.len(), bodies.iter().filter(|(ping, _)| *ping).count());
        prop_assert_eq!(frames.messages, bodies.iter().filter(|(ping, _)| !*ping).count() as u64);
    }

    #[test]
    fn whatever_comes_is_read_or_refused(bytes: Vec<u8>, masked: bool, reserved: u8) {
        let mut frames = Frames::new(masked, reserved & RESERVED, Some(1000));
        let (pass, _) = frames.next(&bytes);
        prop_assert!(pass <= bytes.len());
    }
}
