//! Which of our languages suits an `Accept-Language` best (RFC 9110 section 12.5.4).

use fluent_langneg::{NegotiationStrategy, negotiate_languages};
use unic_langid::LanguageIdentifier;

/// A header longer than that, or with more languages, is not a person's.
const LONGEST: usize = 512;
const MOST: usize = 16;

/// The place of the best of `ours`; none when the client asks for nothing that is among them.
pub(super) fn best(accepted: &str, ours: &[LanguageIdentifier]) -> Option<usize> {
    let accepted = accepted.get(..accepted.floor_char_boundary(LONGEST)).unwrap_or_default();
    let mut wanted: Vec<(u16, &str)> = accepted.split(',').filter_map(weighed).take(MOST).collect();
    wanted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let refused = |ours: &LanguageIdentifier| {
        let mut refused = wanted.iter().filter(|(weight, _)| *weight == 0);
        refused.any(|(_, tag)| tag.parse::<LanguageIdentifier>().is_ok_and(|tag| tag.matches(ours, true, false)))
    };
    for (_, tag) in wanted.iter().filter(|(weight, _)| *weight > 0) {
        if *tag == "*" {
            return ours.iter().position(|ours| !refused(ours));
        }
        let Ok(tag) = tag.parse::<LanguageIdentifier>() else { continue };
        let found = negotiate_languages(&[tag], ours, None, NegotiationStrategy::Lookup);
        let place = found.first().and_then(|found| ours.iter().position(|ours| ours == *found));
        if let Some(place) = place {
            return Some(place);
        }
    }
    None
}

/// A language and its weight in thousandths; nothing where the grammar is broken.
fn weighed(entry: &str) -> Option<(u16, &str)> {
    let mut parts = entry.split(';').map(str::trim);
    let tag = parts.next().filter(|tag| !tag.is_empty())?;
    let weight = match parts.next() {
        None => 1000,
        Some(parameter) => weight(parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?)?,
    };
    Some((weight, tag))
}

/// `0.8` is 800.
fn weight(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let thousandths = format!("{rest:0<3}");
    let valid = rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit());
    let number = valid.then(|| thousandths.parse::<u16>().ok()).flatten()?;
    match whole {
        "0" => Some(number),
        "1" if number == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accepted: &str) -> Option<usize> {
        let ours = ["en", "zh-CN", "ja"].map(|tag| tag.parse().unwrap());
        best(accepted, &ours)
    }

    #[test]
    fn the_best_weight_wins() {
        for (accepted, place) in [
            ("en", Some(0)),
            ("zh-CN", Some(1)),
            ("zh", Some(1)),
            ("ZH-cn", Some(1)),
            ("zh-Hans-CN", Some(1)),
            ("en-GB,en;q=0.9", Some(0)),
            ("en;q=0.5, zh-CN;q=0.9", Some(1)),
            ("de, fr;q=0.9, ja;q=0.1", Some(2)),
            ("zh-CN;q=0, en;q=0.1", Some(0)),
            ("ja;q=0.001, en;q=1.000", Some(0)),
            ("*", Some(0)),
            ("en;q=0, *", Some(1)),
            ("de", None),
            ("en;q=0", None),
        ] {
            assert_eq!(chosen(accepted), place, "{accepted}");
        }
    }

    #[test]
    fn garbage_is_nothing() {
        for accepted in [
            "",
            ",",
            ";;;",
            ",,,;q=1",
            "en;q=2",
            "en;q=1.5",
            "en;q=0.1234",
            "en;q=x",
            "e\u{301}",
            "1",
            "-",
            "en;level=1",
        ] {
            assert_eq!(chosen(accepted), None, "{accepted}");
        }
        assert_eq!(chosen(&"de,".repeat(100_000)), None);
        assert_eq!(chosen(&format!("{}ja", "x,".repeat(100))), None, "only so many are looked at");
        assert_eq!(chosen(&"\u{4f60}".repeat(1000)), None);
    }
}
