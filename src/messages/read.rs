//! Message files to plain texts: every gap and every mistake is told, English fills what is missing.

use std::fs;
use std::path::{Path, PathBuf};

use fluent_bundle::{FluentBundle, FluentResource};
use unic_langid::LanguageIdentifier;

use super::{Config, Language, Messages, Text};
use crate::fault::Fault;
use crate::problem::{self, Problems, nearest};

/// What ships with the program.
const BUILT_IN: [(&str, &str); 2] =
    [("en", include_str!("../../conf/messages/en.ftl")), ("zh-CN", include_str!("../../conf/messages/zh-CN.ftl"))];

/// The language that every text has.
const ENGLISH: &str = "en";

/// A file of texts that is larger is none.
const LARGEST: u64 = 1 << 20;

/// The name of a fault's message: its code with dashes.
fn id(fault: Fault) -> String {
    fault.code().replace(['.', '_'], "-")
}

pub(super) fn compile(config: &Config, base: &Path, at: &problem::Path, problems: &mut Problems) -> Messages {
    let dir = config.messages.as_ref().map(|dir| base.join(dir));
    let mut reader = Reader { dir, at, problems, files: Vec::new() };
    reader.list_files(&config.languages);
    let english = reader.texts(ENGLISH, &reader.at.key("languages")).unwrap_or_default();
    let mut messages = Messages { languages: Vec::new(), tags: Vec::new(), files: Vec::new() };
    for (place, name) in config.languages.iter().enumerate() {
        let at = at.key("languages").index(place);
        if let Some((tag, language)) = reader.language(name, &english, &messages.tags, &at) {
            messages.tags.push(tag);
            messages.languages.push(language);
        }
    }
    if config.languages.is_empty() {
        reader.problems.error(at.key("languages"), "must name at least one language, e.g. [en]");
    }
    if messages.languages.is_empty() {
        messages
            .languages
            .push(Language { tag: ENGLISH.into(), texts: filled(vec![None; Fault::ALL.len()], &english) });
        messages.tags.extend(ENGLISH.parse::<LanguageIdentifier>());
    }
    messages.files = reader.files;
    messages
}

/// A title and a detail where the language has both.
type Found = Vec<Option<Text>>;

fn filled(found: Found, english: &[Option<Text>]) -> Box<[Text]> {
    let all = found.into_iter().zip(english).zip(Fault::ALL);
    let code = |fault: &Fault| Text { title: fault.code().into(), detail: fault.code().into() };
    all.map(|((own, english), fault)| own.or_else(|| english.clone()).unwrap_or_else(|| code(fault))).collect()
}

struct Reader<'a> {
    dir: Option<PathBuf>,
    at: &'a problem::Path,
    problems: &'a mut Problems,
    files: Vec<PathBuf>,
}

impl Reader<'_> {
    /// A file of a language that is not listed would be dead text.
    fn list_files(&mut self, languages: &[String]) {
        let Some(dir) = self.dir.clone() else { return };
        self.files.push(dir.clone());
        let at = self.at.key("messages");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(why) => return self.problems.error(at, format!("cannot read {}: {why}", dir.display())),
        };
        let names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
        let mut unused: Vec<_> = names
            .filter_map(|name| name.strip_suffix(".ftl").map(str::to_owned))
            .filter(|name| !languages.contains(name) && name != ENGLISH)
            .collect();
        unused.sort_unstable();
        for name in unused {
            self.problems.warn(at.clone(), format!("{name}.ftl is not used: errors.languages does not name `{name}`"));
        }
    }

    fn language(
        &mut self,
        name: &str,
        english: &[Option<Text>],
        taken: &[LanguageIdentifier],
        at: &problem::Path,
    ) -> Option<(LanguageIdentifier, Language)> {
        let Ok(tag) = name.parse::<LanguageIdentifier>() else {
            self.problems.error(at.clone(), format!("`{name}` is not a language, e.g. en or zh-CN"));
            return None;
        };
        if taken.contains(&tag) {
            self.problems.error(at.clone(), format!("`{name}` is named twice"));
            return None;
        }
        let found = self.texts(name, at)?;
        let missing: Vec<_> =
            Fault::ALL.iter().zip(&found).filter(|(_, text)| text.is_none()).map(|(fault, _)| fault.code()).collect();
        if !missing.is_empty() {
            let sentence = format!(
                "`{name}` lacks {} of {} texts, English takes their place: {}",
                missing.len(),
                found.len(),
                missing.join(", ")
            );
            self.problems.warn(at.clone(), sentence);
        }
        Some((tag.clone(), Language { tag: tag.to_string().into(), texts: filled(found, english) }))
    }

    /// What the built-in texts and the file of a language say of each fault.
    fn texts(&mut self, name: &str, at: &problem::Path) -> Option<Found> {
        let built_in = BUILT_IN.iter().find(|(tag, _)| *tag == name).map(|(_, text)| (*text).to_owned());
        let own = self.own(name);
        if built_in.is_none() && own.is_none() {
            let known =
                nearest(name, BUILT_IN.iter().map(|(tag, _)| *tag)).map(|tag| format!(", did you mean `{tag}`?"));
            let sentence = match &self.dir {
                Some(dir) => format!("`{name}` needs the file {}", dir.join(format!("{name}.ftl")).display()),
                None => format!(
                    "`{name}` needs a message file in errors.messages; built in are en and zh-CN{}",
                    known.unwrap_or_default()
                ),
            };
            self.problems.error(at.clone(), sentence);
            return None;
        }
        let mut bundle = FluentBundle::new(Vec::new());
        bundle.set_use_isolating(false);
        for source in built_in.into_iter().chain(own) {
            // Mistakes of our own file have been told; what could be read counts.
            let resource = FluentResource::try_new(source).unwrap_or_else(|(resource, _)| resource);
            bundle.add_resource_overriding(resource);
        }
        Some(Fault::ALL.iter().map(|fault| text(&bundle, &id(*fault))).collect())
    }

    /// The file of a language in the directory, checked.
    fn own(&mut self, name: &str) -> Option<String> {
        let path = self.dir.as_ref()?.join(format!("{name}.ftl"));
        if self.files.contains(&path) {
            // English is read twice: once for the gaps of the others.
            return fs::read_to_string(path).ok();
        }
        let size = fs::metadata(&path).ok()?.len();
        self.files.push(path.clone());
        let at = self.at.key("messages");
        if size > LARGEST {
            self.problems.error(at, format!("{} is larger than 1MiB", path.display()));
            return None;
        }
        let source = match fs::read_to_string(&path) {
            Ok(source) => source,
            Err(why) => {
                self.problems.error(at, format!("cannot read {}: {why}", path.display()));
                return None;
            }
        };
        self.check(&path, &source);
        Some(source)
    }

    fn check(&mut self, path: &Path, source: &str) {
        let at = self.at.key("messages");
        let known: Vec<String> = Fault::ALL.iter().map(|fault| id(*fault)).collect();
        let mistakes = FluentResource::try_new(source.to_owned()).err().map(|(_, mistakes)| mistakes);
        for mistake in mistakes.into_iter().flatten() {
            let before = source.get(..mistake.pos.start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            self.problems.error(at.clone(), format!("{}:{line}: {}", path.display(), mistake.kind));
        }
        for name in source.lines().filter_map(message_name).filter(|name| !known.iter().any(|known| known == name)) {
            let hint = nearest(name, known.iter().map(String::as_str)).map(|near| format!(", did you mean `{near}`?"));
            let sentence =
                format!("{}: `{name}` is not the message of any reason{}", path.display(), hint.unwrap_or_default());
            self.problems.warn(at.clone(), sentence);
        }
    }
}

/// The name at the start of a line of a message file, if a message begins there.
fn message_name(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    let name = name.trim_end();
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_name.then_some(name)
}

fn text(bundle: &FluentBundle<FluentResource>, id: &str) -> Option<Text> {
    let message = bundle.get_message(id)?;
    let detail = message.get_attribute("detail")?;
    let plain = |pattern| {
        let mut mistakes = Vec::new();
        let text = bundle.format_pattern(pattern, None, &mut mistakes).trim().to_owned();
        (mistakes.is_empty() && !text.is_empty()).then(|| text.into_boxed_str())
    };
    Some(Text { title: plain(message.value()?)?, detail: plain(detail.value())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(languages: &[&str], files: &[(&str, &str)]) -> (Messages, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let config = Config {
            languages: languages.iter().map(ToString::to_string).collect(),
            messages: (!files.is_empty()).then(|| ".".into()),
            ..Config::default()
        };
        let mut problems = Problems::default();
        let messages = compile(&config, dir.path(), &problem::Path::of(["errors"]), &mut problems);
        let place = dir.path().display().to_string();
        let told =
            problems.iter().map(|one| format!("{:?} {}: {}", one.level, one.at, one.sentence.replace(&place, "")));
        (messages, told.collect())
    }

    fn title(messages: &Messages, accepted: Option<&str>) -> String {
        let (text, tag) = messages.text(Fault::RouteNone, accepted).unwrap();
        format!("{tag} {}", text.title)
    }

    #[test]
    fn every_reason_has_its_text_in_what_ships() {
        let (messages, told) = compiled(&["en", "zh-CN"], &[]);
        assert_eq!(told, [""; 0]);
        let [english, chinese] = messages.languages() else { panic!("two languages") };
        for ((fault, english), (_, chinese)) in english.texts().zip(chinese.texts()) {
            assert_ne!(&*english.title, fault.code());
            assert_ne!(english, chinese, "{fault}");
        }
        assert_eq!(title(&messages, None), "en Not found");
        assert_eq!(title(&messages, Some("zh")), "zh-CN \u{672a}\u{627e}\u{5230}");
    }

    #[test]
    fn what_ships_names_no_reason_that_does_not_exist() {
        for (_, text) in BUILT_IN {
            let names: Vec<_> = text.lines().filter_map(message_name).collect();
            assert_eq!(names, Fault::ALL.iter().map(|fault| id(*fault)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_language_serves_everyone_else() {
        let (messages, _) = compiled(&["zh-CN", "en"], &[]);
        assert!(title(&messages, Some("fr")).starts_with("zh-CN "));
        assert_eq!(title(&messages, Some("fr, en;q=0.1")), "en Not found");
    }

    #[test]
    fn a_file_adds_a_language_and_its_gaps_are_told() {
        let file =
            "route-none = Mitsukarimasen\n    .detail = Kono basho ni wa nani mo arimasen.\nroute-method = Dame\n";
        let (messages, told) = compiled(&["en", "ja"], &[("ja.ftl", file)]);
        assert_eq!(title(&messages, Some("ja")), "ja Mitsukarimasen");
        assert_eq!(&*messages.text(Fault::RouteMethod, Some("ja")).unwrap().0.title, "Method not allowed");
        assert_eq!(told.len(), 1);
        let count = Fault::ALL.len();
        let start =
            format!("Warn errors.languages[1]: `ja` lacks {} of {count} texts, English takes their place: ", count - 1);
        assert!(told[0].starts_with(&start), "{told:?}");
        assert!(told[0].contains("route.method") && !told[0].contains("route.none"), "a title without detail is a gap");
        assert_eq!(messages.files().len(), 2);
    }

    #[test]
    fn a_file_replaces_what_ships() {
        let (messages, told) = compiled(&["en"], &[("en.ftl", "route-none = Nope\n    .detail = Not here.\n")]);
        assert_eq!((title(&messages, None).as_str(), told.len()), ("en Nope", 0));
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        let (_, told) =
            compiled(&["en", "ja", "12", "en"], &[("en.ftl", "rout-none = Nope\n\n?broken\n"), ("de.ftl", "")]);
        for part in [
            "Error errors.languages[1]: `ja` needs the file",
            "Error errors.languages[2]: `12` is not a language",
            "Error errors.languages[3]: `en` is named twice",
            "en.ftl:3:",
            "`rout-none` is not the message of any reason, did you mean `route-none`?",
            "Warn errors.messages: de.ftl is not used: errors.languages does not name `de`",
        ] {
            assert!(told.iter().any(|one| one.contains(part)), "{part}: {told:#?}");
        }
        let (_, told) = compiled(&["zh-cn", "fr"], &[]);
        assert!(told[0].ends_with("did you mean `zh-CN`?"), "{told:?}");
        assert!(told[1].contains("`fr` needs a message file in errors.messages"), "{told:?}");
        let (messages, told) = compiled(&[], &[]);
        assert_eq!((title(&messages, None).as_str(), told.len()), ("en Not found", 1));
    }
}
