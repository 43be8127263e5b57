//! Reads a body that was coded (RFC 9110 section 8.4), and no more of it than it may become.

use std::io::{self, Read};

use http::{HeaderMap, header};

/// What a body becomes at most, as a multiple of what came; more is a bomb.
const MOST_RATIO: usize = 100;
/// Under this much it may be any multiple.
const SMALL: usize = 64 << 10;
/// How far back a zstd frame may look, as a power of two (RFC 8878 section 3.1.1.1.2 asks for this much).
const WINDOW: u32 = 23;

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coded {
    Plain,
    Gzip,
    Br,
    Zstd,
}

/// Why it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// In a way that nobody here knows, or in several.
    Unknown,
    /// It is not what it says, or not all of it.
    Broken,
    /// It becomes more than it may.
    TooLarge,
}

impl Coded {
    pub fn of(head: &HeaderMap) -> Result<Self, Unreadable> {
        let mut coded = Self::Plain;
        for line in head.get_all(header::CONTENT_ENCODING) {
            for word in line.to_str().map_err(|_| Unreadable::Unknown)?.split(',').map(str::trim) {
                let this = match word.to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "br" => Self::Br,
                    "zstd" => Self::Zstd,
                    _ => return Err(Unreadable::Unknown),
                };
                if coded != Self::Plain {
                    return Err(Unreadable::Unknown);
                }
                coded = this;
            }
        }
        Ok(coded)
    }

    /// What was meant, `most` bytes of it at most.
    pub fn decode(self, body: &[u8], most: usize) -> Result<Vec<u8>, Unreadable> {
        let most = most.min(body.len().saturating_mul(MOST_RATIO).max(SMALL));
        match self {
            Self::Plain if body.len() > most => Err(Unreadable::TooLarge),
            Self::Plain => Ok(body.to_vec()),
            Self::Gzip => drain(flate2::read::MultiGzDecoder::new(body), most),
            Self::Br => drain(brotli::Decompressor::new(body, 4096), most),
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::new(body).and_then(|mut decoder| {
                    decoder.window_log_max(WINDOW)?;
                    Ok(decoder)
                });
                drain(decoder.map_err(|_| Unreadable::Broken)?, most)
            }
        }
    }
}

fn drain(from: impl Read, most: usize) -> Result<Vec<u8>, Unreadable> {
    let (mut out, limit) = (Vec::new(), u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1));
    let read: io::Result<usize> = from.take(limit).read_to_end(&mut out);
    match read {
        Ok(_) if out.len() > most => Err(Unreadable::TooLarge),
        Ok(_) => Ok(out),
        Err(_) => Err(Unreadable::Broken),
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "it is coded in a way that cannot be read",
            Self::Broken => "its coding is broken",
            Self::TooLarge => "decoded it is too large",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn coded(coded: Coded, body: &[u8]) -> Vec<u8> {
        match coded {
            Coded::Plain => body.to_vec(),
            Coded::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Coded::Br => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
                encoder.write_all(body).unwrap();
                encoder.into_inner()
            }
            Coded::Zstd => zstd::stream::encode_all(body, 3).unwrap(),
        }
    }

    const ALL: [Coded; 4] = [Coded::Plain, Coded::Gzip, Coded::Br, Coded::Zstd];

    #[test]
    fn what_was_coded_is_read_as_far_as_it_may() {
        let text = "{\"a\": 1}".repeat(100);
        for coding in ALL {
            let bytes = coded(coding, text.as_bytes());
            assert_eq!(coding.decode(&bytes, text.len()).unwrap(), text.as_bytes(), "{coding:?}");
            assert_eq!(coding.decode(&bytes, text.len() - 1), Err(Unreadable::TooLarge), "{coding:?}");
            if coding != Coded::Plain {
                let cut = &bytes[..bytes.len() - 1];
                assert_eq!(coding.decode(cut, 1 << 20), Err(Unreadable::Broken), "{coding:?}");
            }
        }
    }

    #[test]
    fn a_bomb_goes_off_elsewhere() {
        let zeros = vec![0; 32 << 20];
        for coding in [Coded::Gzip, Coded::Br, Coded::Zstd] {
            let bomb = coded(coding, &zeros);
            assert!(bomb.len() < 64 << 10);
            assert_eq!(coding.decode(&bomb, 1 << 30), Err(Unreadable::TooLarge), "{coding:?}");
        }
    }

    #[test]
    fn one_coding_is_read_and_another_one_is_not() {
        let of = |said: &str| {
            let mut head = HeaderMap::new();
            head.insert(header::CONTENT_ENCODING, said.parse().unwrap());
            Coded::of(&head)
        };
        assert_eq!(of("X-GZIP"), Ok(Coded::Gzip));
        assert_eq!(of("identity, br"), Ok(Coded::Br));
        for unknown in ["deflate", "gzip, br", "gzip, gzip", "none"] {
            assert_eq!(of(unknown), Err(Unreadable::Unknown), "{unknown}");
        }
        assert_eq!(Coded::of(&HeaderMap::new()), Ok(Coded::Plain));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            for coding in ALL {
                let _ = coding.decode(&bytes, 1 << 16);
            }
        }
    }
}
