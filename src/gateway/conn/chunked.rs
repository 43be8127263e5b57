//! Chunked bodies, read strictly: sizes and data pass, extensions and trailers are checked and left out (RFC 9112 section 7.1).

use crate::fault::Fault;
use crate::listener::rules::is_token;

/// How far a chunked body has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunked {
    at: At,
    /// Digits of the size read so far, then bytes of data left.
    size: u64,
    /// Bytes of framing that may still come before data or the end: extensions and trailers are bounded.
    overhead: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the size, after this many digits.
    Size(u8),
    /// After `;`, before the name of the extension.
    Extension,
    /// In the name or value of an extension.
    ExtensionText,
    /// In the quoted value of an extension; `true` after a back-slash.
    Quoted(bool),
    /// After the CR of the size line.
    SizeEnd,
    Data,
    /// After the data, before its CR and its LF.
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    Trailer,
    /// Within the name of a trailer field.
    TrailerName,
    TrailerValue,
    TrailerLf,
    /// After the CR of the last, empty line.
    LastLf,
    End,
}

/// Framing bytes allowed per chunk and for the trailers; a chunk of one byte needs six.
const OVERHEAD: u32 = 8 << 10;
/// 15 hexadecimal digits cannot overflow anything that counts in 64 bits.
const DIGITS: u8 = 15;

impl Default for Chunked {
    fn default() -> Self {
        Self { at: At::Size(0), size: 0, overhead: OVERHEAD }
    }
}

impl Chunked {
    pub(super) fn is_end(self) -> bool {
        self.at == At::End
    }

    /// Reads `bytes`, moves what passes to their front and returns how many pass and how many belong to this body.
    pub(super) fn pass(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), Fault> {
        let (mut kept, mut read) = (0, 0);
        while let Some(&byte) = bytes.get(read) {
            match self.at {
                At::End => break,
                At::Data => {
                    let left = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - read);
                    if kept != read {
                        bytes.copy_within(read..read + left, kept);
                    }
                    (kept, read) = (kept + left, read + left);
                    self.size -= left as u64;
                    if self.size == 0 {
                        self.at = At::DataCr;
                    }
                }
                _ => {
                    read += 1;
                    if self.step(byte)?
                        && let Some(slot) = bytes.get_mut(kept)
                    {
                        *slot = byte;
                        kept += 1;
                    }
                }
            }
        }
        Ok((kept, read))
    }

    /// Takes one byte of framing; whether it passes.
    fn step(&mut self, byte: u8) -> Result<bool, Fault> {
        self.overhead = self.overhead.checked_sub(1).ok_or(Fault::RequestFraming)?;
        let (next, pass) = match (self.at, byte) {
            (At::Size(digits @ 0..DIGITS), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = (self.size << 4) | u64::from(digit);
                (At::Size(digits + 1), true)
            }
            (At::Size(1..) | At::ExtensionText, b'\r') => (At::SizeEnd, true),
            (At::Size(1..) | At::ExtensionText, b';') => (At::Extension, false),
            (At::Extension | At::ExtensionText, _) if is_token(byte) => (At::ExtensionText, false),
            (At::ExtensionText, b'=') | (At::Quoted(false), b'"') => (At::ExtensionText, false),
            (At::Quoted(false), b'\\') => (At::Quoted(true), false),
            (At::ExtensionText, b'"') | (At::Quoted(_), b'\t' | b' '..=0x7e | 0x80..) => (At::Quoted(false), false),
            (At::SizeEnd, b'\n') => (self.after_size(), true),
            (At::DataCr, b'\r') => (At::DataLf, true),
            (At::DataLf, b'\n') => (At::Size(0), true),
            (At::Trailer, b'\r') => (At::LastLf, true),
            (At::Trailer | At::TrailerName, _) if is_token(byte) => (At::TrailerName, false),
            (At::TrailerName, b':') | (At::TrailerValue, b'\t' | b' '..=0x7e | 0x80..) => (At::TrailerValue, false),
            (At::TrailerValue, b'\r') => (At::TrailerLf, false),
            (At::TrailerLf, b'\n') => (At::Trailer, false),
            (At::LastLf, b'\n') => (At::End, true),
            _ => return Err(Fault::RequestFraming),
        };
        if next == At::Size(0) {
            self.overhead = OVERHEAD;
        }
        self.at = next;
        Ok(pass)
    }

    fn after_size(&self) -> At {
        if self.size == 0 { At::Trailer } else { At::Data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes, what is left for the next request, and whether the body ended.
    fn pass(text: &str) -> Result<(String, String, bool), Fault> {
        let mut whole = text.as_bytes().to_vec();
        let mut body = Chunked::default();
        let (kept, read) = body.pass(&mut whole)?;
        let passed = String::from_utf8(whole[..kept].to_vec()).unwrap();

        let (mut bytewise, mut again) = (Chunked::default(), String::new());
        for byte in &text.as_bytes()[..read] {
            let mut one = [*byte];
            let (kept, _) = bytewise.pass(&mut one)?;
            again.push_str(std::str::from_utf8(&one[..kept]).unwrap());
        }
        assert_eq!((&again, bytewise), (&passed, body), "in one piece and byte by byte");
        Ok((passed, text[read..].to_owned(), body.is_end()))
    }

    #[test]
    fn data_passes_and_the_rest_belongs_to_the_next_request() {
        for (text, passed, left) in [
            ("3\r\nabc\r\n0\r\n\r\nGET", "3\r\nabc\r\n0\r\n\r\n", "GET"),
            ("0A;x=\"y;\\\"\r\n", "0A\r\n", ""),
            ("3;a;b=c\r\nabc\r\n1\r\nd\r\n00\r\n\r\n", "3\r\nabc\r\n1\r\nd\r\n00\r\n\r\n", ""),
            ("0\r\nHost: evil\r\nContent-Length: 3\r\n\r\nx", "0\r\n\r\n", "x"),
        ] {
            let text = text.replace("\\\"\r", "\\\"\"\r");
            let (got, rest, _) = pass(&text).unwrap();
            assert_eq!((got.as_str(), rest.as_str()), (passed, left));
        }
        assert!(pass("0\r\n\r\n").unwrap().2);
        assert!(!pass("0\r\n").unwrap().2);
    }

    #[test]
    fn a_chunk_that_others_might_read_otherwise_is_refused() {
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            "1\ra",
            "1;\r\n",
            "1; a\r\n",
            "1;;a\r\n",
            "1;a\nb\r\n",
            "1;a=\"\n\"\r\n",
            "1;=a\r\n",
            "1;a b\r\n",
            "ffffffffffffffff\r\n",
            "0000000000000000\r\n",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rb",
            "0\r\nX\r\n",
            "0\r\n: x\r\n",
            "0\r\nX : y\r\n",
            "0\r\nX: y\n",
            "0\r\n x\r\n",
            "0\r\nX: \0\r\n",
            "0\r\n\n",
            "0\r\n\rx",
        ] {
            assert_eq!(pass(text), Err(Fault::RequestFraming), "{}", text.escape_debug());
        }
        let endless = format!("1;{}", "a".repeat(9000));
        assert_eq!(pass(&endless), Err(Fault::RequestFraming));
        let endless = format!("0\r\n{}", "X: y\r\n".repeat(2000));
        assert_eq!(pass(&endless), Err(Fault::RequestFraming));
    }
}
