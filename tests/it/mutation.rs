//! One letter of each key and each word of the shipped document changed: `check` fails and names the right one.

use serde_yaml::Value;
use yumen::config::{Loaded, schema};

const SHIPPED: &str = "conf/yumen.yaml";

fn complaints(text: &str) -> Vec<String> {
    let loaded = Loaded::from_text("yumen.yaml", text);
    let said = loaded.problems.iter().map(|problem| format!("{}: {}", problem.at, problem.sentence));
    said.collect()
}

/// The word with one letter in its middle replaced.
fn mistyped(word: &str) -> String {
    let at = word.len() / 2;
    let letter = if word.as_bytes()[at] == b'q' { 'x' } else { 'q' };
    format!("{}{letter}{}", &word[..at], &word[at + 1..])
}

/// The text with the `nth` occurrence of `word` as a whole word outside of comments replaced; nothing if there are fewer.
fn replaced(text: &str, word: &str, by: &str, nth: usize, key: bool) -> Option<String> {
    let pattern = if key {
        format!(r"(^|[\s{{,])({})(:(?:\s|$))", regex::escape(word))
    } else {
        format!(r"([\s\[:,])({})([\s,\]}}]|$)", regex::escape(word))
    };
    let pattern = regex::Regex::new(&format!("(?m){pattern}")).unwrap();
    let in_comment = |at: usize| {
        let line = text[..at].rsplit('\n').next().unwrap();
        line.trim_start().starts_with('#') || line.contains(" #")
    };
    let found = pattern.captures_iter(text).filter(|found| !in_comment(found.get(2).unwrap().start())).nth(nth)?;
    let range = found.get(2).unwrap().range();
    Some(format!("{}{by}{}", &text[..range.start], &text[range.end..]))
}

/// Every key of the document that is a key of the language and not a name that the operator chose.
fn keys(value: &Value, known: &[String], found: &mut Vec<String>) {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                let key = key.as_str().unwrap().to_owned();
                if known.contains(&key) && !found.contains(&key) {
                    found.push(key);
                }
                keys(value, known, found);
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| keys(item, known, found)),
        _ => {}
    }
}

/// Every key and every word that the schema knows.
fn vocabulary(schema: &serde_json::Value, keys: &mut Vec<String>, words: &mut Vec<String>) {
    let Some(object) = schema.as_object() else {
        schema.as_array().into_iter().flatten().for_each(|item| vocabulary(item, keys, words));
        return;
    };
    for (name, value) in object {
        match name.as_str() {
            "properties" => keys.extend(value.as_object().unwrap().keys().cloned()),
            "enum" => {
                words.extend(value.as_array().unwrap().iter().filter_map(|word| word.as_str().map(str::to_owned)));
            }
            "const" => words.extend(value.as_str().map(str::to_owned)),
            _ => {}
        }
        vocabulary(value, keys, words);
    }
}

#[test]
fn every_mistyped_key_is_found_and_the_right_one_named() {
    let text = std::fs::read_to_string(SHIPPED).unwrap();
    let (mut known, mut words) = (Vec::new(), Vec::new());
    vocabulary(&schema::schema(), &mut known, &mut words);
    let mut used = Vec::new();
    keys(&serde_yaml::from_str(&text).unwrap(), &known, &mut used);
    assert!(used.len() > 30, "{used:?}");
    let (mut tried, mut missed) = (0, Vec::new());
    for key in used {
        let wrong = mistyped(&key);
        for nth in 0.. {
            let Some(changed) = replaced(&text, &key, &wrong, nth, true) else { break };
            tried += 1;
            let said = complaints(&changed);
            // A short word may have two neighbours; the list of known keys names it then.
            let named = said.iter().any(|said| {
                said.contains(&wrong)
                    && said.contains("unknown key")
                    && (said.contains(&format!("`{key}`")) || said.contains(&format!(" {key},")))
            });
            // The name of an object, a pool or a header that is also a word of the language is free to change.
            let free = serde_yaml::from_str::<Value>(&changed).is_ok_and(|value| chosen(&value, &wrong));
            if !named && !free {
                missed.push(format!("{wrong}: {said:?}"));
            }
        }
    }
    assert!(tried > 40, "{tried}");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// Whether `name` is a name that the operator chose: of a listener, pool or route, or of a header field.
fn chosen(document: &Value, name: &str) -> bool {
    ["listeners", "pools", "routes"].iter().any(|section| document[*section].get(name).is_some())
}

#[test]
fn every_mistyped_word_is_found_and_the_right_one_named() {
    let text = std::fs::read_to_string(SHIPPED).unwrap();
    let (mut known, mut words) = (Vec::new(), Vec::new());
    vocabulary(&schema::schema(), &mut known, &mut words);
    words.extend(["auto", "stdout", "least_requests", "GET"].map(str::to_owned));
    words.sort();
    words.dedup();
    let (mut tried, mut missed) = (0, Vec::new());
    for word in &words {
        let wrong = mistyped(word);
        for nth in 0.. {
            let Some(changed) = replaced(&text, word, &wrong, nth, false) else { break };
            tried += 1;
            let said = complaints(&changed);
            if !said.iter().any(|said| said.contains(&format!("`{wrong}`")) && said.contains(&format!("`{word}`"))) {
                missed.push(format!("{wrong}: {said:?}"));
            }
        }
    }
    assert!(tried >= 8, "{tried}");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
