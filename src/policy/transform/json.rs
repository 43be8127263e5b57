//! JSON taken apart as far as rules look into it: what they do not name keeps its order and its spelling.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::de::IgnoredAny;

/// A value; texts, numbers and words as they were written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Plain(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// Names as they were meant.
    Map(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// The error is a sentence without what was sent.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        let wrong = |why: serde_json::Error| format!("is not JSON: line {}, column {}", why.line(), why.column());
        // Depth is bounded here, and from now on it is known to be well formed.
        serde_json::from_str::<IgnoredAny>(text).map_err(wrong)?;
        Cursor { text, at: 0 }.value(0)
    }

    pub(super) fn write(&self, to: &mut String) {
        match self {
            Self::Plain(text) => to.push_str(text),
            Self::List(items) => {
                to.push('[');
                for (at, item) in items.iter().enumerate() {
                    to.push_str(if at > 0 { "," } else { "" });
                    item.write(to);
                }
                to.push(']');
            }
            Self::Map(entries) => {
                to.push('{');
                for (at, (name, value)) in entries.iter().enumerate() {
                    to.push_str(if at > 0 { "," } else { "" });
                    to.push_str(&serde_json::Value::from(&**name).to_string());
                    to.push(':');
                    value.write(to);
                }
                to.push('}');
            }
        }
    }
}

/// Deeper than this nothing is looked at.
const DEEPEST: usize = 128;

/// Where it is in a text that is well formed; what would not be is a sentence all the same.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, String> {
        if depth > DEEPEST {
            return Err("is nested too deeply".to_owned());
        }
        match self.peek() {
            b'{' => self.map(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(|text| Json::Plain(text.into())),
            _ => Ok(Json::Plain(self.word().into())),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Json<'a>, String> {
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        self.at += 1;
        while self.peek() == b'"' {
            let raw = self.string()?;
            let name = match raw.get(1..raw.len().saturating_sub(1)) {
                Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
                _ => Cow::Owned(serde_json::from_str::<String>(raw).map_err(|_| "is not JSON".to_owned())?),
            };
            if !seen.insert(name.clone()) {
                return Err("has the same name twice in one object".to_owned());
            }
            self.skip(b':');
            entries.push((name, self.value(depth + 1)?));
            self.skip(b',');
        }
        self.skip(b'}');
        Ok(Json::Map(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Json<'a>, String> {
        let mut items = Vec::new();
        self.at += 1;
        while !matches!(self.peek(), b']' | 0) {
            items.push(self.value(depth + 1)?);
            self.skip(b',');
        }
        self.skip(b']');
        Ok(Json::List(items))
    }

    fn skip(&mut self, byte: u8) {
        if self.peek() == byte {
            self.at += 1;
        }
    }

    /// From quote to quote.
    fn string(&mut self) -> Result<&'a str, String> {
        let start = self.at;
        let mut escaped = false;
        for (offset, byte) in self.text.bytes().enumerate().skip(start + 1) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    self.at = offset + 1;
                    return self.text.get(start..self.at).ok_or_else(|| "is not JSON".to_owned());
                }
                _ => {}
            }
        }
        Err("is not JSON".to_owned())
    }

    /// A number, or one of the three words.
    fn word(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}' | b':');
        let length = rest.bytes().position(end).unwrap_or(rest.len()).max(usize::from(!rest.is_empty()));
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn again(text: &str) -> Result<String, String> {
        let mut out = String::new();
        Json::parse(text.as_bytes())?.write(&mut out);
        Ok(out)
    }

    #[test]
    fn what_nobody_touches_is_written_as_it_was() {
        let table = [
            (r#" { "b" : 1.10 , "a" : [ ] , "c": { } } "#, r#"{"b":1.10,"a":[],"c":{}}"#),
            ("[12345678901234567890123, -0, 1e400, true, null]", "[12345678901234567890123,-0,1e400,true,null]"),
            (r#"{"\u0061\"":"\u00e9\n\\"}"#, r#"{"a\"":"\u00e9\n\\"}"#),
            ("\"x\"", "\"x\""),
            ("7", "7"),
        ];
        for (text, wanted) in table {
            // serde_json refuses numbers that are too large to be one; nothing is lost on the way.
            match again(text) {
                Ok(out) => assert_eq!(out, wanted),
                Err(why) => assert!(text.contains("1e400"), "{why}"),
            }
        }
    }

    #[test]
    fn what_is_no_json_or_means_two_things_is_said() {
        for (text, why) in [
            ("", "is not JSON: line 1, column 0"),
            ("{\"a\":1,}", "is not JSON: line 1, column 8"),
            ("{\"a\":1,\"\\u0061\":2}", "has the same name twice in one object"),
            ("1 2", "is not JSON: line 1, column 3"),
        ] {
            assert_eq!(again(text).unwrap_err(), why, "{text}");
        }
        assert_eq!(Json::parse(b"\"\xff\"").unwrap_err(), "is not UTF-8");
        assert!(again(&"[".repeat(100_000)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_means_the_same_afterwards(text in r#"[\[\]{}":,0-9a-e\\u ntrlfs.-]{0,40}"#) {
            let value: Result<Value, _> = serde_json::from_str(&text);
            if let Ok(out) = again(&text) {
                prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), value.unwrap(), "{}", text);
            }
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Json::parse(&bytes);
        }
    }
}
