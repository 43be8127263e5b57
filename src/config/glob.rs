//! File names with `*` and `?` in their last part.

use std::path::{Path, PathBuf};

/// Files that one pattern may match.
const MOST: usize = 10_000;

pub(super) fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?'])
}

/// The files that match, sorted; hidden ones only if the pattern begins with a dot. A missing directory holds none.
pub(super) fn matching(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let directory = pattern.parent().unwrap_or(Path::new(""));
    let show = pattern.display();
    let (Some(name), false) = (pattern.file_name().and_then(|name| name.to_str()), is_pattern(directory)) else {
        return Err(format!("`*` and `?` can stand only in the last part of {show}"));
    };
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = match listed.read_dir() {
        Ok(entries) => entries,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(format!("cannot list {}: {why}", listed.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(|why| format!("cannot list {}: {why}", listed.display()))?.file_name();
        if file.to_str().is_some_and(|file| fits_hidden(name, file)) {
            found.push(directory.join(file));
        }
        if found.len() > MOST {
            return Err(format!("more than {MOST} files match {show}"));
        }
    }
    found.sort();
    Ok(found)
}

/// Of these files those that match, sorted.
pub(super) fn among<'a>(pattern: &Path, files: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let fits = |file: &&Path| {
        let own = file.file_name().and_then(|own| own.to_str());
        file.parent() == pattern.parent() && own.is_some_and(|own| fits_hidden(name, own))
    };
    let mut found: Vec<_> = files.filter(fits).map(Path::to_path_buf).collect();
    found.sort();
    found
}

fn fits_hidden(pattern: &str, file: &str) -> bool {
    (pattern.starts_with('.') || !file.starts_with('.')) && fits(pattern, file)
}

/// Whether `text` fits: `*` stands for any characters, `?` for one. Goes back only to the last `*`.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, at)) => {
                    star = Some((after, at + 1));
                    (p, t) = (after, at + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in
            [("*.yaml", "a.yaml"), ("a?.y*", "ab.yaml"), ("*", ""), ("**a", "ba"), ("*a*b", "xaxbab")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("*.yaml", "a.yaml.bak"), ("?", ""), ("a*", "b"), ("*a*b", "xbxa")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }
}
