//! Which coding a client gets: by its `Accept-Encoding` (RFC 9110 section 12.5.3), then by what the document prefers.

use http::{HeaderMap, header};

use super::Coding;

/// What a client takes of what is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// What it likes best; nothing where that is no coding at all.
    pub coding: Option<Coding>,
    /// Whether it takes answers without any coding.
    pub takes_plain: bool,
}

impl Wanted {
    /// `offered` in the order in which it is preferred where the client has no preference of its own.
    pub fn by(headers: &HeaderMap, offered: &[Coding]) -> Self {
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        let said: Vec<(&str, u16)> = lines.flat_map(|line| line.split(',')).filter_map(weighed).collect();
        let of = |fits: &dyn Fn(&str) -> bool| said.iter().find(|(name, _)| fits(name)).map(|(_, weight)| *weight);
        let any = of(&|name| name == "*");
        let plain = of(&|name| name.eq_ignore_ascii_case("identity"));
        let takes_plain = plain.or(any).is_none_or(|weight| weight > 0);
        let weight = |coding: Coding| of(&|name| coding.is_called(name)).or(any).unwrap_or(0);
        let mut best: Option<(Coding, u16)> = None;
        for coding in offered {
            let weight = weight(*coding);
            if weight > best.map_or(0, |(_, best)| best) {
                best = Some((*coding, weight));
            }
        }
        let liked = best.filter(|(_, weight)| plain.is_none_or(|plain| *weight >= plain));
        Self { coding: liked.map(|(coding, _)| coding), takes_plain }
    }
}

/// `gzip;q=0.5` as its name and 500; nothing where it is none.
pub(in crate::policy) fn weighed(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let mut weight = 1000;
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        if key.trim().eq_ignore_ascii_case("q") {
            weight = thousandths(value.trim())?;
        }
    }
    Some((name, weight))
}

/// `0.25` is 250 (RFC 9110 section 12.4.2).
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let weight = format!("{whole}{fraction:0<3}").parse().ok()?;
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    fn wanted(said: &str) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, said.parse().unwrap());
        Wanted::by(&headers, &ALL)
    }

    #[test]
    fn the_client_decides_and_then_the_document() {
        let table = [
            ("", None, true),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd), true),
            ("gzip, deflate, br", Some(Coding::Br), true),
            ("gzip", Some(Coding::Gzip), true),
            ("x-gzip", Some(Coding::Gzip), true),
            ("GZIP", Some(Coding::Gzip), true),
            ("gzip;q=0", None, true),
            ("gzip;q=0.0, br;q=0.000", None, true),
            ("gzip;q=1.0, br;q=0.9, zstd;q=0.8", Some(Coding::Gzip), true),
            ("gzip ; q=0.5 , br;q=0.5", Some(Coding::Br), true),
            ("*", Some(Coding::Zstd), true),
            ("*;q=0", None, false),
            ("*;q=0, gzip", Some(Coding::Gzip), false),
            ("zstd;q=0, *", Some(Coding::Br), true),
            ("identity", None, true),
            ("identity;q=0", None, false),
            ("identity;q=0, gzip", Some(Coding::Gzip), false),
            ("identity;q=1, gzip;q=0.5", None, true),
            ("identity;q=0.5, gzip;q=0.5", Some(Coding::Gzip), true),
            ("identity;q=0.5, *;q=0.1", None, true),
            ("deflate, compress", None, true),
            ("gzip;q=2, br;q=x, zstd;q=0.5555", None, true),
            (",, ,gzip,", Some(Coding::Gzip), true),
            (";q=1", None, true),
        ];
        for (said, coding, takes_plain) in table {
            assert_eq!(wanted(said), Wanted { coding, takes_plain }, "{said:?}");
        }
        assert_eq!(Wanted::by(&HeaderMap::new(), &ALL), Wanted { coding: None, takes_plain: true });
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_said_nothing_is_sent_that_was_refused(
            said in proptest::collection::vec((prop_oneof!["gzip", "x-gzip", "br", "zstd", "identity", r"\*", "[a-z;=., ]{0,8}"], 0_u16..=1000), 0..6),
        ) {
            let line: Vec<_> = said.iter().map(|(name, weight)| {
                format!("{name};q={}.{:03}", weight / 1000, weight % 1000)
            }).collect();
            let wanted = wanted(&line.join(", "));
            if let Some(coding) = wanted.coding {
                let first = said.iter().find(|(name, _)| coding.is_called(name) || name.trim() == "*");
                let odd = said.iter().any(|(name, _)| name.contains(['=', ';', ',', '.']));
                prop_assert!(odd || first.is_some());
                let zero = said.iter().find(|(name, _)| coding.is_called(name)).is_some_and(|(_, weight)| *weight == 0);
                prop_assert!(odd || !zero, "{line:?} {wanted:?}");
            }
        }

        #[test]
        fn no_line_is_too_odd(line in "[ -~]{0,64}") {
            wanted(&line);
        }
    }
}
