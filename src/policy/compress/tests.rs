//! What becomes of heads, and that what comes out is what went in.

use std::io::Read;

use super::*;
use crate::policy::auth::Schemes;

fn compiled(yaml: &str) -> Result<Option<Box<Compress>>, String> {
    let config: Config = serde_yaml::from_str(yaml).map_err(|e| e.to_string())?;
    let (mut problems, place, schemes) = (Problems::default(), |_: &Path| String::new(), Schemes::new());
    let at = Path::of(["compress"]);
    let made = Compress::compile(&config, "r", &at, &Tools::alone(&place, &schemes), &mut problems);
    let said: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.at, p.sentence)).collect();
    if said.is_empty() { Ok(made) } else { Err(said.join("; ")) }
}

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| (http::HeaderName::from_static(name), value.parse().unwrap());
    fields.iter().map(pair).collect()
}

/// What is said of the coding and the fields after it.
fn begun(rules: &str, status: u16, asked: &[(&'static str, &str)], head: &[(&'static str, &str)]) -> (bool, HeaderMap) {
    let compress = compiled(rules).unwrap().unwrap();
    let (headers, mut head) = (map(asked), map(head));
    let asked = Asked { method: &Method::GET, headers: &headers, shown: false };
    let encoder = compress.begin(&asked, StatusCode::from_u16(status).unwrap(), &mut head);
    assert!(encoder.is_none() || head.contains_key(header::CONTENT_ENCODING));
    (encoder.is_some(), head)
}

const GZIP: (&str, &str) = ("accept-encoding", "gzip");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

#[test]
fn short_and_long_forms_are_the_same() {
    let read = |text: &str| serde_yaml::from_str::<Config>(text).unwrap();
    assert_eq!(read("'on'"), Config::default());
    assert_eq!(read("[zstd, br, gzip]"), Config::default());
    assert_eq!(read("{ min: 1KiB, level: normal, secrets: plain }"), Config::default());
    assert!(compiled("'off'").unwrap().is_none());
    for text in ["'on'", "'off'", "[br]", "{ level: small, types: [text/css] }"] {
        let config = read(text);
        assert_eq!(read(&serde_yaml::to_string(&config).unwrap()), config, "{text}");
    }
    assert!(compiled("'yes'").unwrap_err().contains("is not `on`, `off`"));
    assert!(compiled("{ with: [gzip, gzip] }").unwrap_err().contains("twice"));
    assert!(compiled("{ types: [json] }").unwrap_err().contains("not a media type"));
    assert!(compiled("[deflate]").is_err());
}

#[test]
fn an_answer_is_compressed_where_that_is_worth_something_and_changes_nothing() {
    let yes: [&[(&str, &str)]; 6] = [
        &[JSON],
        &[JSON, ("content-length", "1024")],
        &[("content-type", "text/event-stream")],
        &[("content-type", "application/problem+json")],
        &[("content-type", "image/svg+xml"), ("content-encoding", "identity")],
        &[JSON, ("cache-control", "public, max-age=1")],
    ];
    for head in yes {
        assert!(begun("'on'", 200, &[GZIP], head).0, "{head:?}");
    }
    let no: [&[(&str, &str)]; 10] = [
        &[],
        &[("content-type", "image/png")],
        &[("content-type", "application/grpc")],
        &[JSON, ("content-length", "1023")],
        &[JSON, ("content-length", "0")],
        &[JSON, ("content-encoding", "br")],
        &[JSON, ("cache-control", "public, No-Transform")],
        &[JSON, ("content-range", "bytes 0-1/2")],
        &[JSON, ("trailer", "x-sum")],
        &[JSON, ("set-cookie", "a=b")],
    ];
    for head in no {
        assert!(!begun("'on'", 200, &[GZIP], head).0, "{head:?}");
    }
    for status in [204, 205, 206, 304] {
        assert!(!begun("'on'", status, &[GZIP], &[JSON]).0, "{status}");
    }
    assert!(begun("'on'", 404, &[GZIP], &[JSON]).0);
    assert!(begun("'on'", 200, &[("accept-encoding", "gzip, identity;q=0")], &[JSON, ("content-length", "9")]).0);
    assert!(!begun("{ types: [text/css] }", 200, &[GZIP], &[JSON]).0);
}

#[test]
fn what_told_of_the_bytes_goes_and_caches_are_told_who_decides() {
    let head = [
        JSON,
        ("content-length", "5000"),
        ("etag", "\"a\""),
        ("accept-ranges", "bytes"),
        ("content-md5", "x"),
        ("digest", "x"),
        ("content-digest", "x"),
        ("repr-digest", "x"),
        ("vary", "origin"),
    ];
    let (_, after) = begun("'on'", 200, &[("accept-encoding", "br")], &head);
    let said: Vec<_> = after.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    let mut said: Vec<&str> = said.iter().map(String::as_str).collect();
    said.sort_unstable();
    let wanted = [
        "content-encoding: br",
        "content-type: application/json; charset=utf-8",
        "etag: W/\"a\"",
        "vary: accept-encoding",
        "vary: origin",
    ];
    assert_eq!(said, wanted);
    let (coded, after) = begun("'on'", 200, &[], &head);
    assert!(!coded && after.get_all("vary").iter().any(|value| value == "accept-encoding"));
    assert_eq!((&after["etag"], &after["content-length"]), (&"\"a\"".parse().unwrap(), &"5000".parse().unwrap()));
    let (_, after) = begun("'on'", 200, &[GZIP], &[JSON, ("vary", "Accept-Encoding, origin"), ("etag", "W/\"b\"")]);
    assert_eq!((after.get_all("vary").iter().count(), &after["etag"]), (1, &"W/\"b\"".parse().unwrap()));
    let (_, after) = begun("'on'", 200, &[GZIP], &[JSON, ("content-length", "9")]);
    assert!(!after.contains_key("vary"), "nobody gets it otherwise");
}

#[test]
fn who_has_the_weak_tag_hears_that_it_holds() {
    let not_modified = |asked: &str| begun("'on'", 304, &[GZIP, ("if-none-match", asked)], &[("etag", "\"a\"")]).1;
    assert_eq!(not_modified("\"x\", W/\"a\"")["etag"], "W/\"a\"");
    assert_eq!(not_modified("\"a\"")["etag"], "\"a\"");
}

#[test]
fn what_a_browser_shows_to_whoever_makes_it_ask_is_not_measured() {
    let coded = |rules: &str, more: &[(&'static str, &str)]| {
        let asked: Vec<_> = [GZIP].iter().chain(more).copied().collect();
        begun(rules, 200, &asked, &[JSON]).0
    };
    for secret in [("cookie", "a=b"), ("authorization", "Basic eDp5"), ("authorization", "Negotiate x")] {
        assert!(!coded("'on'", &[secret]), "{secret:?}");
        assert!(!coded("'on'", &[secret, ("sec-fetch-site", "cross-site")]), "{secret:?}");
        assert!(!coded("'on'", &[secret, ("sec-fetch-site", "same-site")]), "{secret:?}");
        assert!(coded("'on'", &[secret, ("sec-fetch-site", "same-origin")]), "{secret:?}");
        assert!(coded("'on'", &[secret, ("sec-fetch-site", "none")]), "{secret:?}");
        assert!(coded("{ secrets: compress }", &[secret]), "{secret:?}");
    }
    assert!(coded("'on'", &[("authorization", "Bearer abc")]) && coded("'on'", &[("x-api-key", "abc")]));
    let (compress, headers) = (compiled("'on'").unwrap().unwrap(), map(&[GZIP]));
    let shown = Asked { method: &Method::GET, headers: &headers, shown: true };
    assert!(compress.begin(&shown, StatusCode::OK, &mut map(&[JSON])).is_none());
}

#[test]
fn a_head_says_what_its_get_would() {
    let (compress, headers, mut head) = (compiled("'on'").unwrap().unwrap(), map(&[GZIP]), map(&[JSON]));
    let asked = Asked { method: &Method::HEAD, headers: &headers, shown: false };
    assert!(compress.begin(&asked, StatusCode::OK, &mut head).is_none());
    assert_eq!(head["content-encoding"], "gzip");
}

fn decoder(coding: Coding, bytes: &[u8]) -> Box<dyn Read + '_> {
    match coding {
        Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
        Coding::Br => Box::new(brotli::Decompressor::new(bytes, 4096)),
        Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
    }
}

fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    decoder(coding, bytes).read_to_end(&mut out).unwrap_or_else(|e| panic!("{coding:?} {e}"));
    out
}

/// What can be read of bytes that more will follow.
fn begun_to_decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut from, mut room) = (Vec::new(), decoder(coding, bytes), [0; 4096]);
    while let Ok(got @ 1..) = from.read(&mut room) {
        out.extend_from_slice(&room[..got]);
    }
    out
}

#[test]
fn every_piece_can_be_read_when_it_was_made() {
    for coding in Coding::ALL {
        for level in [Level::Fast, Level::Normal, Level::Small] {
            for length in [None, Some(0), Some(1), Some(100_000), Some(u64::MAX)] {
                let mut encoder = Encoder::new(coding, level, length, None).unwrap();
                let mut plain = Vec::new();
                let mut coded = Vec::new();
                for round in 0..20_usize {
                    let piece = format!("data: {}\n\n", round * 7919).repeat(round * 40 + 1);
                    plain.extend_from_slice(piece.as_bytes());
                    let made = encoder.piece(piece.as_bytes(), false).unwrap();
                    coded.extend_from_slice(&made);
                    let so_far = begun_to_decode(coding, &coded);
                    assert!(so_far == plain, "{coding:?} {level:?} {round}: {} of {}", so_far.len(), plain.len());
                }
                coded.extend_from_slice(&encoder.piece(b"end", true).unwrap());
                plain.extend_from_slice(b"end");
                assert!(encoder.piece(b"more", true).unwrap().is_empty());
                assert_eq!(decoded(coding, &coded), plain);
                assert!(coded.len() * 3 < plain.len(), "{coding:?} {level:?} {} {}", coded.len(), plain.len());
            }
        }
    }
}
