//! How differences are said: short, on one line, without secrets.

use super::effective::{Leaf, Object};

/// Characters of one value.
const VALUE: usize = 80;
/// Values of something that came.
const MOST: usize = 4;
/// What says best what an object is.
const GISTS: [&str; 7] = ["match", "bind", "targets", "discover", "rate", "quota", "redis"];

/// A value, unless nobody may see it.
pub(super) fn value(leaf: &Leaf) -> Option<String> {
    match leaf {
        Leaf::Text(text) => Some(cut(text, VALUE)),
        Leaf::List(items) => Some(cut(&format!("[{}]", items.join(", ")), VALUE)),
        Leaf::File(name, _) => Some(cut(name, VALUE)),
        Leaf::Secret(_) => None,
    }
}

/// What a value was and is.
pub(super) fn both(old: &Leaf, new: &Leaf) -> String {
    match (old, new) {
        (Leaf::File(was, content), Leaf::File(is, now)) if was == is => {
            let unknown = content.is_empty() || now.is_empty();
            let what = if unknown { "cannot be read, so it may have changed" } else { "its content changed" };
            format!("{}: {what}", cut(is, VALUE))
        }
        (Leaf::List(was), Leaf::List(is)) => lists(was, is),
        _ => match (value(old), value(new)) {
            (Some(was), Some(is)) if was != is => format!("{was} -> {is}"),
            (None, Some(is)) => format!("(hidden) -> {is}"),
            (Some(was), None) => format!("{was} -> (hidden)"),
            // A secret, or a text that is longer than what is shown of it.
            _ => "changed".to_owned(),
        },
    }
}

/// What came to a list and what went.
fn lists(was: &[String], is: &[String]) -> String {
    let new = is.iter().filter(|item| !was.contains(item)).map(|item| format!("+{item}"));
    let old = was.iter().filter(|item| !is.contains(item)).map(|item| format!("-{item}"));
    let both: Vec<String> = new.chain(old).collect();
    match both.as_slice() {
        [] => cut(&format!("[{}] -> [{}]", was.join(", "), is.join(", ")), 2 * VALUE),
        _ => cut(&both.join(" "), 2 * VALUE),
    }
}

/// Keys as a diff names them: `timeout.connect`, `target 10.0.0.1:80 weight`.
pub(super) fn path(keys: &[String]) -> String {
    match keys {
        [targets, name, rest @ ..] if targets == "targets" && rest.is_empty() => format!("target {name}"),
        [targets, name, rest @ ..] if targets == "targets" => format!("target {name} {}", rest.join(".")),
        _ => keys.join("."),
    }
}

/// What an object is, e.g. its match or its targets.
pub(super) fn gist(object: &Object) -> String {
    for key in GISTS {
        let own = object.iter().filter(|(path, _)| path.first().is_some_and(|first| first == key));
        let names = own.filter_map(|(path, leaf)| match path.as_slice() {
            [_] => value(leaf),
            [_, _, last] if key == "targets" && last == "at" => value(leaf),
            [_, _] if key == "discover" => value(leaf),
            _ => None,
        });
        let names: Vec<String> = names.collect();
        if !names.is_empty() {
            let more = if names.len() > MOST { ", ..." } else { "" };
            return format!("{}{more}", names.get(..MOST).unwrap_or(&names).join(", "));
        }
    }
    String::new()
}

/// Some values with their keys.
pub(super) fn list<'a>(leaves: impl Iterator<Item = (&'a [String], &'a Leaf)>) -> String {
    let shown = leaves.filter(|(path, _)| path.last().is_none_or(|key| key != "at"));
    let mut shown: Vec<String> = shown
        .map(|(path, leaf)| format!("{} {}", path.join("."), value(leaf).as_deref().unwrap_or("(hidden)")))
        .collect();
    if shown.len() > MOST {
        shown.truncate(MOST);
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Texts of the document must not speak to the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
