//! Topics of the document: as MQTT has them, with levels that have a name.
//!
//! `devices/:id/data` names its second level. Where messages are taken from a topic, a name stands for any one level, as
//! `+` does, and `#` at the end for all below; where a topic is made for a request, a name or `$jwt.sub` is filled in.

use std::fmt;
use std::str::FromStr;

/// One level of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Level {
    Literal(Box<str>),
    /// `:id`
    Named(Box<str>),
    /// `$jwt.sub`, or a word of the broker's own such as `$SYS`.
    Dollar(Box<str>),
    /// `+`
    Any,
    /// `#`, at the end.
    Below,
}

/// A topic as the document writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic(Box<[Level]>);

/// The longest topic of the protocol.
const LONGEST: usize = 65_535;

impl Topic {
    pub fn levels(&self) -> &[Level] {
        &self.0
    }

    /// The names of its levels, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|level| match level {
            Level::Named(name) => Some(&**name),
            _ => None,
        })
    }

    /// What a broker is asked for to get all of it.
    pub fn filter(&self) -> String {
        let spelled = self.0.iter().map(|level| match level {
            Level::Named(_) => "+".to_owned(),
            other => other.to_string(),
        });
        spelled.collect::<Vec<_>>().join("/")
    }

    /// Each name with what stands there in this topic; nothing where the topic is another one.
    pub fn read<'t>(&self, topic: &'t str) -> Option<Vec<(&str, &'t str)>> {
        if !matches(&self.filter(), topic) {
            return None;
        }
        // A shared subscription says its group first, and the topics of its messages do not.
        let group = matches!(self.0.first(), Some(Level::Dollar(word)) if **word == *"share");
        let levels = self.0.iter().skip(if group { 2 } else { 0 });
        let named = levels.zip(topic.split('/')).filter_map(|(level, said)| match level {
            Level::Named(name) => Some((&**name, said)),
            _ => None,
        });
        Some(named.collect())
    }
}

/// Whether a topic is one of those that a filter asks for (MQTT 3.1.1, section 4.7).
pub fn matches(filter: &str, topic: &str) -> bool {
    let filter = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')).map_or(filter, |(_, rest)| rest);
    // Topics of the broker's own are only meant by name.
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let (mut wanted, mut said) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), said.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// Whether a text that is filled in is one level of a topic, and means what it says.
pub fn is_level(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 512
        && !text.starts_with('$')
        && !text.contains(['+', '#', '/'])
        && !text.chars().any(char::is_control)
}

fn level(text: &str, part: &str, last: bool) -> Result<Level, String> {
    if let Some(name) = part.strip_prefix(':') {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let whole = !name.is_empty() && name.bytes().all(fits);
        return whole
            .then(|| Level::Named(name.into()))
            .ok_or_else(|| format!("`{text}`: `{part}` is not a name, e.g. :id"));
    }
    if let Some(word) = part.strip_prefix('$') {
        return if word.is_empty() {
            Err(format!("`{text}`: `$` needs a word, e.g. $jwt.sub"))
        } else {
            Ok(Level::Dollar(word.into()))
        };
    }
    match part {
        "+" => Ok(Level::Any),
        "#" if last => Ok(Level::Below),
        _ if part.contains('#') => Err(format!("`{text}`: `#` stands alone and at the end, as devices/#")),
        _ if part.contains('+') => Err(format!("`{text}`: `+` stands for a whole level, as devices/+/data")),
        _ => Ok(Level::Literal(part.into())),
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(format!("`{text}` is not a topic, e.g. devices/:id/data"));
        }
        let parts: Vec<&str> = text.split('/').collect();
        let last = parts.len() - 1;
        let levels =
            parts.iter().enumerate().map(|(at, part)| level(text, part, at == last)).collect::<Result<_, _>>()?;
        let topic = Self(levels);
        let mut names: Vec<&str> = topic.names().collect();
        names.sort_unstable();
        match names.windows(2).find_map(|pair| pair.first().filter(|name| Some(*name) == pair.last())) {
            Some(twice) => Err(format!("`{text}` has `:{twice}` twice")),
            None => Ok(topic),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Named(name) => write!(f, ":{name}"),
            Self::Dollar(word) => write!(f, "${word}"),
            Self::Any => f.write_str("+"),
            Self::Below => f.write_str("#"),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, level) in self.0.iter().enumerate() {
            write!(f, "{}{level}", if at > 0 { "/" } else { "" })?;
        }
        Ok(())
    }
}

crate::units::scalar!(Topic, "a topic", example "devices/:id/data",
    bare number |n| n.to_string().parse(),
    "A topic of MQTT; a level may have a name (`:id`), or be filled in by what is known of the client (`$jwt.sub`).");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_means_what_the_protocol_says() {
        let table = [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("+/b", "/b", true),
            ("#", "$SYS/uptime", false),
            ("+/uptime", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("$share/g/a/+", "a/b", true),
        ];
        for (filter, topic, fits) in table {
            assert_eq!(matches(filter, topic), fits, "{filter} {topic}");
        }
    }

    #[test]
    fn a_topic_of_the_document_is_read_and_printed_back() {
        let topic: Topic = "devices/:id/+/:kind/#".parse().unwrap();
        assert_eq!((topic.to_string(), topic.filter()), ("devices/:id/+/:kind/#".into(), "devices/+/+/+/#".into()));
        assert_eq!(topic.read("devices/7/x/hot/a/b").unwrap(), [("id", "7"), ("kind", "hot")]);
        assert_eq!(topic.read("devices/7"), None);
        let shared: Topic = "$share/gateways/devices/:id".parse().unwrap();
        assert_eq!(shared.filter(), "$share/gateways/devices/+");
        assert_eq!(shared.read("devices/7").unwrap(), [("id", "7")]);
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        for text in ["", "a/#/b", "a#", "a/b+", "a/:", "a/:x y", "a/$", ":a/:a", "a\nb"] {
            assert!(text.parse::<Topic>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_filled_in_is_one_level() {
        for text in ["", "+", "a+b", "#", "a/b", "a\0b", "a\nb", "$SYS"] {
            assert!(!is_level(text), "{text:?}");
        }
        assert!(is_level("sensor 7") && is_level("héizung"));
    }
}
