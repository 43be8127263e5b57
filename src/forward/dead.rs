//! Messages that their pool will never take: set aside, one line of JSON each, in a file that stays bounded.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::queue::Entry;

/// A file that is longer becomes the old one; that is written over.
const LONGEST: u64 = 8 << 20;

/// Writes down a message and what was said of it; safe when it returns.
pub(super) fn set_aside(dir: &Path, entry: &Entry, status: u16) -> io::Result<()> {
    let (file, old) = (dir.join("dead.jsonl"), dir.join("dead.old.jsonl"));
    if file.metadata().is_ok_and(|about| about.len() > LONGEST) {
        std::fs::rename(&file, old)?;
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    let payload = match std::str::from_utf8(&entry.payload) {
        Ok(text) => json!({ "payload": text }),
        Err(_) => json!({ "payload_base64": STANDARD.encode(&entry.payload) }),
    };
    let mut line = json!({ "id": &*entry.id, "topic": &*entry.topic, "received_ms": entry.received, "status": status });
    if let (Some(line), Some(payload)) = (line.as_object_mut(), payload.as_object()) {
        line.extend(payload.clone());
    }
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}

/// How many there are.
pub(super) fn count(dir: &Path) -> u64 {
    let lines = |name: &str| {
        let text = std::fs::read(dir.join(name)).unwrap_or_default();
        memchr::memchr_iter(b'\n', &text).count() as u64
    };
    lines("dead.jsonl") + lines("dead.old.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn what_is_set_aside_can_be_read_and_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let entry = |payload: Bytes| Entry { number: 7, id: "a-7".into(), topic: "t".into(), received: 1, payload };
        set_aside(dir.path(), &entry(Bytes::from_static(b"21.5")), 422).unwrap();
        set_aside(dir.path(), &entry(Bytes::from_static(&[0xff])), 400).unwrap();
        let text = std::fs::read_to_string(dir.path().join("dead.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({ "id": "a-7", "topic": "t", "received_ms": 1, "status": 422, "payload": "21.5" }));
        assert_eq!(lines[1]["payload_base64"], "/w==");
        for _ in 0..6 {
            set_aside(dir.path(), &entry(Bytes::from(vec![b'x'; 5 << 20])), 400).unwrap();
        }
        let size: u64 =
            std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(size < 30 << 20, "{size}");
        assert!(count(dir.path()) >= 2);
    }
}
