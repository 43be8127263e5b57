//! Frames of a WebSocket (RFC 6455 section 5): where each begins, whether it may come now, and what it asks for.
//!
//! Nothing is copied and nothing unmasked but control frames: what is said between them passes as it lies.

/// Most bytes of a head and of a control frame behind it.
pub(super) const LONGEST: usize = 2 + 4 + 125;

/// Why a tunnel is closed (RFC 6455 section 7.4.1).
pub(super) mod code {
    pub(in super::super) const GOING_AWAY: u16 = 1001;
    pub(in super::super) const PROTOCOL: u16 = 1002;
    pub(in super::super) const POLICY: u16 = 1008;
    pub(in super::super) const TOO_BIG: u16 = 1009;
    pub(in super::super) const INTERNAL: u16 = 1011;
    /// RFC 6455 leaves it to the registry of IANA: the client may come back at once.
    pub(in super::super) const SERVICE_RESTART: u16 = 1012;
}

/// The bits of the first byte that only an extension may set.
const RESERVED: u8 = 0x70;
/// The one of them that `permessage-deflate` sets in the first frame of a message (RFC 7692 section 6).
pub(super) const COMPRESSED: u8 = 0x40;

/// What is wrong with what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) what: &'static str,
}

const fn wrong(what: &'static str) -> Violation {
    Violation { code: code::PROTOCOL, what }
}

/// What control frames ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Ping,
    /// With what it says, where that is as long as what we say in ours.
    Pong(Option<[u8; 8]>),
    /// With its code, if it gives one.
    Close(Option<u16>),
}

/// What lies behind the bytes that go on as they are: a control frame of so many bytes, or what is not yet whole.
pub(super) type Behind = Result<Option<(Control, usize)>, Violation>;

/// What one side sends.
#[derive(Debug)]
pub(super) struct Frames {
    /// The client masks what it sends, the target does not.
    masked: bool,
    /// Which of the reserved bits the agreed extensions may set.
    reserved: u8,
    /// Bytes of a message at most.
    most: u64,
    /// Bytes of the present frame that are still to come.
    left: u64,
    /// Bytes of a message whose last frame has not begun.
    open: Option<u64>,
    /// Nothing goes on behind the present frame.
    pub(super) halt: bool,
    /// Messages whose last frame has begun.
    pub(super) messages: u64,
}

/// What comes next: the head of data, or something else.
enum Ahead {
    Data(usize),
    Behind(Option<(Control, usize)>),
}

/// A frame's first bytes.
struct Head {
    first: u8,
    masked: bool,
    size: usize,
    length: u64,
}

impl Head {
    fn is_last(&self) -> bool {
        self.first & 0x80 != 0
    }
    fn opcode(&self) -> u8 {
        self.first & 0x0f
    }
    fn is_control(&self) -> bool {
        self.first & 0x08 != 0
    }

    /// Nothing while it is not whole.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let masked = second & 0x80 != 0;
        let (wide, length) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(long) => (2, u16::from_be_bytes(*long).into()),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(long) => (8, u64::from_be_bytes(*long)),
                None => return Ok(None),
            },
            short => (0, short.into()),
        };
        let shortest = match wide {
            2 => 126,
            8 => 1 << 16,
            _ => 0,
        };
        if length < shortest || length >> 63 != 0 {
            return Err(wrong("a length that is not written in the shortest way"));
        }
        let size = 2 + wide + if masked { 4 } else { 0 };
        Ok((bytes.len() >= size).then_some(Self { first: *first, masked, size, length }))
    }
}

impl Frames {
    pub(super) fn new(masked: bool, reserved: u8, most: Option<u64>) -> Self {
        Self { masked, reserved, most: most.unwrap_or(u64::MAX), left: 0, open: None, halt: false, messages: 0 }
    }

    /// Whether a frame of our own may stand here.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0
    }

    /// How much of what came goes on as it is, up to the next control frame, and what lies there.
    pub(super) fn next(&mut self, bytes: &[u8]) -> (usize, Behind) {
        let mut pass = 0;
        loop {
            let here = bytes.get(pass..).unwrap_or_default();
            let some = usize::try_from(self.left).map_or(here.len(), |left| left.min(here.len()));
            self.left -= some as u64;
            pass += some;
            if self.halt && self.left == 0 {
                return (pass, Ok(None));
            }
            match self.head(here.get(some..).unwrap_or_default()) {
                Ok(Ahead::Data(size)) => pass += size,
                Ok(Ahead::Behind(behind)) => return (pass, Ok(behind)),
                Err(wrong) => return (pass, Err(wrong)),
            }
        }
    }

    fn head(&mut self, here: &[u8]) -> Result<Ahead, Violation> {
        if let Some(first) = here.first() {
            self.check_first(*first)?;
        }
        let Some(head) = Head::read(here)? else { return Ok(Ahead::Behind(None)) };
        if head.masked != self.masked {
            return Err(wrong("a mask where none belongs, or none where one does"));
        }
        if head.is_control() {
            return control(&head, here).map(Ahead::Behind);
        }
        self.begin(&head)?;
        Ok(Ahead::Data(head.size))
    }

    fn check_first(&self, first: u8) -> Result<(), Violation> {
        let (last, reserved, opcode) = (first & 0x80 != 0, first & RESERVED, first & 0x0f);
        match opcode {
            0 if self.open.is_none() => Err(wrong("a continuation of nothing")),
            1 | 2 if self.open.is_some() => Err(wrong("a message within a message")),
            3..=7 | 11.. => Err(wrong("an unknown kind of frame")),
            8..=10 if !last => Err(wrong("a control frame in parts")),
            // Compression is said once, in front.
            0 | 8..=10 if self.reserved == COMPRESSED && reserved != 0 => Err(wrong("a reserved bit")),
            _ if reserved & !self.reserved != 0 => Err(wrong("a reserved bit")),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, head: &Head) -> Result<(), Violation> {
        let whole = self.open.unwrap_or(0).saturating_add(head.length);
        if whole > self.most {
            return Err(Violation { code: code::TOO_BIG, what: "a message that is too large" });
        }
        self.left = head.length;
        self.open = (!head.is_last()).then_some(whole);
        self.messages += u64::from(head.is_last());
        Ok(())
    }
}

/// The control frame at the start of `bytes` and its length, once it is whole.
fn control(head: &Head, bytes: &[u8]) -> Result<Option<(Control, usize)>, Violation> {
    let length = usize::try_from(head.length).unwrap_or(usize::MAX);
    if length > 125 {
        return Err(wrong("a control frame of more than 125 bytes"));
    }
    let Some(body) = bytes.get(head.size..head.size + length) else { return Ok(None) };
    let key = bytes.get(head.size.saturating_sub(4)..head.size).filter(|_| head.masked).unwrap_or(&[0; 4]);
    let mut clear = body.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
    let mut byte = || clear.next().unwrap_or(0);
    let control = match (head.opcode(), length) {
        (9, _) => Control::Ping,
        (10, 8) => Control::Pong(Some(std::array::from_fn(|_| byte()))),
        (10, _) => Control::Pong(None),
        (_, 0) => Control::Close(None),
        (_, 1) => return Err(wrong("half a code")),
        _ => {
            let code = u16::from_be_bytes([byte(), byte()]);
            if !is_code(code) {
                return Err(wrong("a code that may not be sent"));
            }
            Control::Close(Some(code))
        }
    };
    Ok(Some((control, head.size + length)))
}

/// Codes that may stand in a frame (RFC 6455 section 7.4, and what IANA has added).
fn is_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A control frame of our own; `mask` is drawn anew for each.
fn write(opcode: u8, body: &[u8], mask: Option<[u8; 4]>, to: &mut Vec<u8>) {
    let length = u8::try_from(body.len()).unwrap_or(125).min(125);
    to.push(0x80 | opcode);
    match mask {
        None => {
            to.push(length);
            to.extend_from_slice(body);
        }
        Some(key) => {
            to.push(0x80 | length);
            to.extend_from_slice(&key);
            to.extend(body.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
}

/// Says goodbye.
pub(super) fn close(code: u16, mask: Option<[u8; 4]>, to: &mut Vec<u8>) {
    write(8, &code.to_be_bytes(), mask, to);
}

/// Asks a client whether it is there.
pub(super) fn ping(word: [u8; 8], to: &mut Vec<u8>) {
    write(9, &word, None, to);
}

#[cfg(test)]
mod tests;
