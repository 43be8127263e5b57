//! What a plain scalar means: the core schema of YAML 1.2, and the words on which YAML 1.1 disagrees with it.

use super::node::Value;

/// The meaning of a scalar without quotes (YAML 1.2.2, section 10.3.2).
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_doubtful(text) => Value::Doubtful(text.into()),
        _ if is_number(text) => Value::Number(text.into()),
        _ => Value::Text(text.into()),
    }
}

/// A boolean of YAML 1.1 that is a text in YAML 1.2: readers disagree on it.
fn is_doubtful(text: &str) -> bool {
    text.len() <= 3 && ["no", "on", "yes", "off", "y", "n"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// What a doubtful word would be as a boolean.
pub(super) fn meant(word: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "yes" | "on" | "y")
}

fn is_number(text: &str) -> bool {
    let hex = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_hexdigit());
    let octal = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if text.strip_prefix("0x").is_some_and(hex) || text.strip_prefix("0o").is_some_and(octal) {
        return true;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)));
    let mantissa_fits = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
    };
    mantissa_fits && exponent_fits
}

/// A number as it will be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Positive(u64),
    Negative(i64),
    Fraction(f64),
}

/// The number, or a sentence on why its spelling is refused: what looks octal to one reader is decimal to another.
pub(super) fn number(text: &str) -> Result<Number, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let odd = text.starts_with('+') || (digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0."));
    if odd {
        let other_base = |prefix, base| text.strip_prefix(prefix).and_then(|rest| u64::from_str_radix(rest, base).ok());
        let decimal = other_base("0x", 16).or_else(|| other_base("0o", 8)).or_else(|| digits.parse().ok());
        let plain = decimal.map(|number| format!("{number} or ")).unwrap_or_default();
        return Err(format!("`{text}` could be a number or a text; write {plain}\"{text}\""));
    }
    if let Ok(positive) = text.parse() {
        return Ok(Number::Positive(positive));
    }
    if let Ok(negative) = text.parse() {
        return Ok(Number::Negative(negative));
    }
    match text.parse::<f64>() {
        Ok(fraction) if fraction.is_finite() => Ok(Number::Fraction(fraction)),
        _ => Err(format!("`{text}` is not a number that fits; write it as text in quotes, \"{text}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_mean_what_yaml_1_2_says() {
        for text in ["1", "-1", "0x1F", "0o17", "1.5", ".5", "1e3", "-1.5E-3", ".inf", "007"] {
            assert!(matches!(plain(text), Value::Number(_)), "{text}");
        }
        for text in ["", "~", "null"] {
            assert!(matches!(plain(text), Value::Null), "{text}");
        }
        for text in ["10.0.0.1", "1_000", "12:30", "0x", "e3", ".", "-", "1.2.3", "30s", "nope", "one"] {
            assert!(matches!(plain(text), Value::Text(_)), "{text}");
        }
        for text in ["no", "On", "YES", "off", "y"] {
            assert!(matches!(plain(text), Value::Doubtful(_)), "{text}");
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(number("8080"), Ok(Number::Positive(8080)));
        assert_eq!(number("-5"), Ok(Number::Negative(-5)));
        assert_eq!(number("0.5"), Ok(Number::Fraction(0.5)));
        assert_eq!(number("007").unwrap_err(), "`007` could be a number or a text; write 7 or \"007\"");
        assert_eq!(number("0x10").unwrap_err(), "`0x10` could be a number or a text; write 16 or \"0x10\"");
        for odd in ["0x1F", "+1", "0o17", ".inf", "1e999"] {
            assert!(number(odd).is_err(), "{odd}");
        }
    }
}
