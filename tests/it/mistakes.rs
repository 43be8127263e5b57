//! Wrong documents, one mistake a file, beside exactly what `check` prints of them.
//!
//! `UPDATE=1 cargo test --test it mistakes` writes what is printed now; read the difference before you keep it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::tools::yumen;

fn documents() -> Vec<PathBuf> {
    let listed = fs::read_dir("tests/it/mistakes").unwrap().map(|entry| entry.unwrap().path());
    let mut documents: Vec<_> = listed.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    documents.sort();
    documents
}

fn printed(document: &Path) -> String {
    yumen(&["check", "--config", document.to_str().unwrap()]).out
}

#[test]
fn each_mistake_is_said_in_exactly_these_words() {
    let documents = documents();
    assert!(documents.len() >= 25, "{}", documents.len());
    let mut different = Vec::new();
    for document in documents {
        let (text, printed) = (document.with_extension("txt"), printed(&document));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(text, printed).unwrap();
        } else if fs::read_to_string(&text).unwrap_or_default() != printed {
            different.push(format!("{} now prints:\n{printed}", document.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn the_shipped_document_is_right() {
    let ended = yumen(&["check", "--config", "conf/yumen.yaml"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "ok: 1 listener, 3 routes, 1 pool, 0 warnings\n"));
}
