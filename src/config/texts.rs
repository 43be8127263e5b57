//! The texts of a document as they were read, so that it can be read again though its files say something else by now.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Each file with its text, the main one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts(Vec<(PathBuf, Arc<str>)>);

impl Texts {
    pub fn push(&mut self, file: &Path, text: &Arc<str>) {
        self.0.push((file.to_owned(), Arc::clone(text)));
    }

    pub fn main(&self) -> Option<&Path> {
        self.paths().next()
    }

    pub fn get(&self, file: &Path) -> Option<Arc<str>> {
        self.0.iter().find(|(path, _)| path == file).map(|(_, text)| Arc::clone(text))
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Arc<str>)> {
        self.0.iter().map(|(path, text)| (path.as_path(), text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Loaded, load};

    #[test]
    fn a_document_is_read_again_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::create_dir(file("conf.d")).unwrap();
        std::fs::write(file("y.yaml"), "version: 1\ninclude: [conf.d/*.yaml]\nlisteners: { web: { bind: 80 } }\n")
            .unwrap();
        std::fs::write(file("conf.d/a.yaml"), "routes: { a: { match: /a, respond: 204 } }").unwrap();
        let first = load(&file("y.yaml"));
        std::fs::write(file("conf.d/a.yaml"), "routes: {").unwrap();
        std::fs::write(file("conf.d/b.yaml"), "routes: { b: { match: /b, respond: 204 } }").unwrap();
        std::fs::remove_file(file("y.yaml")).unwrap();
        let again = Loaded::again(&first.texts);
        assert_eq!((again.code(), &again.document, &again.texts), (0, &first.document, &first.texts));
        assert_eq!(again.document.routes.len(), 1);
    }
}
