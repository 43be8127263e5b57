//! Path templates of `google.api.http`: `/v1/{name=shelves/*/books/**}:cancel`.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Literal(Box<str>),
    /// `*`: one segment, not empty.
    One,
    /// `**`: what is left, be it nothing.
    Rest,
}

/// A part of the path that goes into a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    /// The names of the field and of those around it.
    pub field: Box<str>,
    /// The first of its steps.
    pub from: usize,
    /// Behind the last of them; nothing where that is `**`.
    pub to: Option<usize>,
}

/// A template, decided once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    text: Box<str>,
    pub steps: Vec<Step>,
    pub verb: Option<Box<str>>,
    pub variables: Vec<Variable>,
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    /// The error is the end of a sentence that begins with the template.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or("does not begin with `/`")?;
        let mut template = Self { text: text.into(), steps: Vec::new(), verb: None, variables: Vec::new() };
        let (path, verb) = split_verb(rest);
        if let Some(verb) = verb {
            template.verb = Some(literal(verb)?);
        }
        let mut left = path;
        loop {
            left = template.segment(left)?;
            match left.strip_prefix('/') {
                Some(next) => left = next,
                None if left.is_empty() => break,
                None => return Err(format!("has `{left}` where `/` or its end should be")),
            }
        }
        let last = template.steps.len() - 1;
        if template.steps.iter().take(last).any(|step| *step == Step::Rest) {
            return Err("has something behind `**`, which takes all that is left".to_owned());
        }
        let mut names: Vec<_> = template.variables.iter().map(|variable| &variable.field).collect();
        names.sort();
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(twice) => Err(format!("has `{{{}}}` twice", twice.first().map_or("", |name| name))),
            None => Ok(template),
        }
    }

    /// Reads one segment or variable; what follows it is left.
    fn segment<'t>(&mut self, text: &'t str) -> Result<&'t str, String> {
        let Some(inner) = text.strip_prefix('{') else {
            let (segment, left) = text.split_at(text.find('/').unwrap_or(text.len()));
            self.steps.push(step(segment)?);
            return Ok(left);
        };
        let (inner, left) = inner.split_once('}').ok_or("has a `{` without its `}`")?;
        let (field, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
        if !field.split('.').all(is_name) {
            return Err(format!("has `{{{field}}}`, which names no field"));
        }
        let from = self.steps.len();
        for segment in pattern.split('/') {
            self.steps.push(step(segment)?);
        }
        let open = self.steps.last() == Some(&Step::Rest);
        let to = if open { None } else { Some(self.steps.len()) };
        self.variables.push(Variable { field: field.into(), from, to });
        Ok(left)
    }
}

/// The verb stands behind the last `:` that is in no variable.
fn split_verb(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, verb)) if !verb.contains(['/', '}']) => (path, Some(verb)),
        _ => (text, None),
    }
}

fn step(segment: &str) -> Result<Step, String> {
    match segment {
        "*" => Ok(Step::One),
        "**" => Ok(Step::Rest),
        text => literal(text).map(Step::Literal),
    }
}

/// Text as it stands in paths: what is reserved is escaped there.
fn literal(text: &str) -> Result<Box<str>, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%!$&'()+,;=@".contains(&byte);
    match text {
        "" => Err("has an empty segment".to_owned()),
        text if text.bytes().all(fits) => Ok(text.into()),
        text => Err(format!("has `{text}`, which is neither text of a path nor `*`, `**` or {{field}}")),
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match Template::read(text) {
            Err(why) => why,
            Ok(template) => {
                let steps = template.steps.iter().map(|step| match step {
                    Step::Literal(text) => text.to_string(),
                    Step::One => "*".to_owned(),
                    Step::Rest => "**".to_owned(),
                });
                let variables =
                    template.variables.iter().map(|one| format!(" {}={}..{:?}", one.field, one.from, one.to));
                let verb = template.verb.iter().map(|verb| format!(" :{verb}"));
                steps.collect::<Vec<_>>().join(" ") + &verb.chain(variables).collect::<String>()
            }
        }
    }

    #[test]
    fn a_template_is_read_as_the_specification_says() {
        let story = [
            ("/v1/messages", "v1 messages"),
            ("/v1/messages/{id}", "v1 messages * id=2..Some(3)"),
            ("/v1/{name=messages/*}", "v1 messages * name=1..Some(3)"),
            ("/v1/{name=operations/**}:cancel", "v1 operations ** :cancel name=1..None"),
            ("/v1/{a.b=x/*}/y/{c}", "v1 x * y * a.b=1..Some(3) c=4..Some(5)"),
            ("/**", "**"),
            ("/v1/*/x:go", "v1 * x :go"),
        ];
        for (text, wanted) in story {
            assert_eq!(told(text), wanted, "{text}");
            assert_eq!(Template::read(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_template_says_why() {
        let story = [
            ("v1", "does not begin with `/`"),
            ("/v1//x", "has an empty segment"),
            ("/v1/", "has an empty segment"),
            ("/", "has an empty segment"),
            ("/v1/{id", "has a `{` without its `}`"),
            ("/v1/{id}x", "has `x` where `/` or its end should be"),
            ("/v1/{1d}", "has `{1d}`, which names no field"),
            ("/v1/{a={b}}", "has `{b`, which is neither text of a path nor `*`, `**` or {field}"),
            ("/v1/{id}/{id}", "has `{id}` twice"),
            ("/v1/**/x", "has something behind `**`, which takes all that is left"),
            ("/v1/a b", "has `a b`, which is neither text of a path nor `*`, `**` or {field}"),
        ];
        for (text, wanted) in story {
            assert_eq!(told(text), wanted, "{text}");
        }
    }
}
