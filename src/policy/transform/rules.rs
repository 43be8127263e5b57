//! Field rules: what is kept, what goes, what is called otherwise, what is added; in this order.

use std::borrow::Cow;

use serde_json::Value;

use super::json::Json;
use super::{Config, Facts};
use crate::policy::key::Part;
use crate::problem::{Path, Problems};

/// One step into a value.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(Box<str>),
    /// Every item of a list.
    Each,
}

/// `a.b`, `items[].id`, `[].id`.
type Way = Box<[Step]>;

/// What is put somewhere.
#[derive(Debug, Clone)]
enum Added {
    Fixed(Box<str>),
    /// `$jwt.sub`; nothing is added where the request has none.
    Known(Part),
}

/// The rules of one side, decided once.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pick: Box<[Way]>,
    drop: Box<[Way]>,
    rename: Box<[(Way, Box<str>)]>,
    add: Box<[(Way, Added)]>,
}

impl Rules {
    pub(super) fn compile(config: &Config, at: &Path, problems: &mut Problems) -> Self {
        let mut ways = |key: &str, said: &[Box<str>]| {
            let each = said.iter().enumerate().filter_map(|(index, text)| {
                way(text).map_err(|why| problems.error(at.key(key).index(index), why)).ok()
            });
            each.collect::<Box<[Way]>>()
        };
        let (pick, drop) = (ways("pick", &config.pick), ways("drop", &config.drop));
        let mut rename = Vec::new();
        for (from, to) in &config.rename {
            let at = at.key("rename").key(from);
            match way(from) {
                Ok(way) if !matches!(way.last(), Some(Step::Name(_))) => problems.error(at, "ends in no name"),
                Ok(_) if to.is_empty() || to.contains(['.', '[']) => {
                    problems.error(at, format!("`{to}` is not a name: it stays where it is and is called otherwise"));
                }
                Ok(way) => rename.push((way, to.clone())),
                Err(why) => problems.error(at, why),
            }
        }
        let mut add = Vec::new();
        for (to, value) in &config.add {
            let at = at.key("add").key(to);
            match (way(to), added(value)) {
                (Ok(way), _) if !matches!(way.last(), Some(Step::Name(_))) => problems.error(at, "ends in no name"),
                (Ok(way), Ok(value)) => add.push((way, value)),
                (Err(why), _) | (_, Err(why)) => problems.error(at, why),
            }
        }
        Self { pick, drop, rename: rename.into(), add: add.into() }
    }

    /// The names of path parameters and whether only `auth` knows a part.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.add.iter().filter_map(|(_, value)| if let Added::Known(part) = value { Some(part) } else { None })
    }

    /// The error is a sentence without what was sent.
    pub(super) fn apply(&self, mut json: Json<'_>, facts: &Facts<'_>) -> Result<String, String> {
        if !self.pick.is_empty() {
            let ways: Vec<&[Step]> = self.pick.iter().map(|way| &**way).collect();
            json = pick(json, &ways).ok_or("`pick` finds nothing in what it is")?;
        }
        self.drop.iter().for_each(|way| drop_at(&mut json, way));
        for (way, to) in &self.rename {
            rename_at(&mut json, way, to);
        }
        for (way, value) in &self.add {
            let text = match value {
                Added::Fixed(text) => text.to_string(),
                Added::Known(part) => match facts.value(part) {
                    Some(value) => value.to_string(),
                    None => continue,
                },
            };
            add_at(&mut json, way, &text)?;
        }
        let mut out = String::new();
        json.write(&mut out);
        Ok(out)
    }
}

/// Steps of one way, at most.
const LONGEST: usize = 32;

fn way(text: &str) -> Result<Way, String> {
    let wrong = || format!("`{text}` is not a way into JSON, e.g. item.id or items[].id");
    let mut steps = Vec::new();
    for (at, part) in text.split('.').enumerate() {
        let name = part.trim_end_matches("[]");
        let lists = (part.len() - name.len()) / 2;
        if name.contains(['[', ']']) || (name.is_empty() && (at > 0 || lists == 0)) {
            return Err(wrong());
        }
        if !name.is_empty() {
            steps.push(Step::Name(name.into()));
        }
        steps.extend((0..lists).map(|_| Step::Each));
    }
    if steps.len() > LONGEST { Err(format!("`{text}` has more than {LONGEST} steps")) } else { Ok(steps.into()) }
}

fn added(value: &Value) -> Result<Added, String> {
    match value.as_str().and_then(|text| text.strip_prefix('$')) {
        Some(text) if text.starts_with('$') => Ok(Added::Fixed(Value::from(text).to_string().into())),
        Some("graphql.operation") => Err("`graphql.operation` is for limits".to_owned()),
        Some(part) => part.parse().map(Added::Known),
        None => Ok(Added::Fixed(value.to_string().into())),
    }
}

/// Only what some way leads to.
fn pick<'a>(json: Json<'a>, ways: &[&[Step]]) -> Option<Json<'a>> {
    if ways.iter().any(|way| way.is_empty()) {
        return Some(json);
    }
    let rest = |fits: &dyn Fn(&Step) -> bool| -> Vec<&[Step]> {
        ways.iter().filter_map(|way| way.split_first().filter(|(step, _)| fits(step)).map(|(_, rest)| rest)).collect()
    };
    match json {
        Json::Map(entries) => {
            let kept = entries.into_iter().filter_map(|(name, value)| {
                let rest = rest(&|step| matches!(step, Step::Name(wanted) if **wanted == *name));
                Some((name, pick(value, &rest)?))
            });
            ways.iter().any(|way| matches!(way.first(), Some(Step::Name(_)))).then(|| Json::Map(kept.collect()))
        }
        Json::List(items) => {
            let rest = rest(&|step| *step == Step::Each);
            (!rest.is_empty()).then(|| Json::List(items.into_iter().filter_map(|item| pick(item, &rest)).collect()))
        }
        Json::Plain(_) => None,
    }
}

/// Does something to everything that the way leads to but for its last step.
fn at_end(json: &mut Json<'_>, way: &[Step], deed: &mut dyn FnMut(&mut Json<'_>, &Step)) {
    let Some((step, rest)) = way.split_first() else { return };
    if rest.is_empty() {
        return deed(json, step);
    }
    match (json, step) {
        (Json::Map(entries), Step::Name(wanted)) => {
            let found = entries.iter_mut().find(|(name, _)| **name == **wanted);
            if let Some((_, value)) = found {
                at_end(value, rest, deed);
            }
        }
        (Json::List(items), Step::Each) => items.iter_mut().for_each(|item| at_end(item, rest, deed)),
        _ => {}
    }
}

fn drop_at(json: &mut Json<'_>, way: &[Step]) {
    at_end(json, way, &mut |json, step| match (json, step) {
        (Json::Map(entries), Step::Name(wanted)) => entries.retain(|(name, _)| **name != **wanted),
        (Json::List(items), Step::Each) => items.clear(),
        _ => {}
    });
}

fn rename_at(json: &mut Json<'_>, way: &[Step], to: &str) {
    at_end(json, way, &mut |json, step| {
        let (Json::Map(entries), Step::Name(from)) = (json, step) else { return };
        if **from == *to || !entries.iter().any(|(name, _)| **name == **from) {
            return;
        }
        entries.retain(|(name, _)| **name != *to);
        if let Some((name, _)) = entries.iter_mut().find(|(name, _)| **name == **from) {
            *name = Cow::Owned(to.to_owned());
        }
    });
}

fn add_at(json: &mut Json<'_>, way: &[Step], text: &str) -> Result<(), String> {
    let Some((step, rest)) = way.split_first() else {
        *json = Json::Plain(Cow::Owned(text.to_owned()));
        return Ok(());
    };
    match (json, step) {
        (Json::Map(entries), Step::Name(wanted)) => {
            let place = entries.iter().position(|(name, _)| **name == **wanted).unwrap_or_else(|| {
                entries.push((Cow::Owned(wanted.to_string()), Json::Map(Vec::new())));
                entries.len() - 1
            });
            entries.get_mut(place).map_or(Ok(()), |(_, value)| add_at(value, rest, text))
        }
        (Json::List(items), Step::Each) => items.iter_mut().try_for_each(|item| add_at(item, rest, text)),
        (_, Step::Name(wanted)) => Err(format!("`add` has no object for `{wanted}`")),
        (_, Step::Each) => Err("`add` has no list for `[]`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exchange::Identity;
    use crate::exchange::asked::Asked;

    fn problems_of(yaml: &str) -> Vec<String> {
        let config: Config = serde_yaml::from_str(yaml).unwrap();
        let mut problems = Problems::default();
        Rules::compile(&config, &Path::of(["x"]), &mut problems);
        problems.iter().map(|problem| format!("{}: {}", problem.at, problem.sentence)).collect()
    }

    fn applied(yaml: &str, body: &str) -> Result<String, String> {
        let config: Config = serde_yaml::from_str(yaml).unwrap();
        let mut problems = Problems::default();
        let rules = Rules::compile(&config, &Path::of(["x"]), &mut problems);
        assert_eq!(problems.errors(), 0, "{:?}", problems.iter().map(|p| p.sentence.clone()).collect::<Vec<_>>());
        let claims = json!({ "sub": "u1", "age": 7 }).as_object().unwrap().clone();
        let identity = Identity { claims: Some(std::sync::Arc::new(claims)), ..Identity::default() };
        let asked = Asked::new().with("x-tenant", "acme");
        let facts = Facts { request: &asked, identity: Some(&identity), params: &[], route: "orders", status: None };
        rules.apply(Json::parse(body.as_bytes())?, &facts)
    }

    #[test]
    fn each_rule_does_what_it_says() {
        let table = [
            ("{ pick: [b, a.x] }", r#"{"a":{"x":1,"y":2},"b":[1],"c":3}"#, r#"{"a":{"x":1},"b":[1]}"#),
            ("{ pick: ['c[].d'] }", r#"{"c":[{"d":1,"e":2},{"e":3},4]}"#, r#"{"c":[{"d":1},{}]}"#),
            ("{ pick: ['[].a'] }", r#"[{"a":1,"b":2}]"#, r#"[{"a":1}]"#),
            ("{ pick: [a.b] }", r#"{"a":5}"#, "{}"),
            (
                "{ drop: [a.x, 'b[].s', none.at.all] }",
                r#"{"a":{"x":1,"y":2},"b":[{"s":1,"t":2},3]}"#,
                r#"{"a":{"y":2},"b":[{"t":2},3]}"#,
            ),
            ("{ drop: ['a[]'] }", r#"{"a":[1,2]}"#, r#"{"a":[]}"#),
            (
                "{ rename: { a.x: z, 'b[].s': t } }",
                r#"{"a":{"x":1},"b":[{"s":1,"t":2}]}"#,
                r#"{"a":{"z":1},"b":[{"t":1}]}"#,
            ),
            (
                "{ add: { v: 1, m.w: { x: [true] }, a: null } }",
                r#"{"a":5}"#,
                r#"{"a":null,"v":1,"m":{"w":{"x":[true]}}}"#,
            ),
            ("{ add: { 'l[].n': 0 } }", r#"{"l":[{},{"n":1}]}"#, r#"{"l":[{"n":0},{"n":0}]}"#),
            (
                "{ add: { who: $jwt.sub, age: $jwt.age, t: $header.x-tenant, p: $path.id, r: $route, n: $jwt.none, d: $$x } }",
                "{}",
                r#"{"who":"u1","age":7,"t":"acme","p":"7","r":"orders","d":"$x"}"#,
            ),
            (
                "{ pick: [a], drop: [a.b], rename: { a: z }, add: { z.n: 1 } }",
                r#"{"a":{"b":1,"c":1.50},"q":1}"#,
                r#"{"z":{"c":1.50,"n":1}}"#,
            ),
        ];
        for (rules, body, wanted) in table {
            let mut made = applied(rules, body).unwrap();
            if rules.contains("who:") {
                // A map of the document has no order.
                let sorted = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                assert_eq!(sorted(&made), sorted(wanted));
                wanted.clone_into(&mut made);
            }
            if rules.contains("m.w") {
                assert_eq!(
                    serde_json::from_str::<Value>(&made).unwrap(),
                    serde_json::from_str::<Value>(wanted).unwrap()
                );
                continue;
            }
            assert_eq!(made, wanted, "{rules}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_not_half_done() {
        assert_eq!(applied("{ pick: [a] }", "[1]").unwrap_err(), "`pick` finds nothing in what it is");
        assert_eq!(applied("{ pick: [a] }", "7").unwrap_err(), "`pick` finds nothing in what it is");
        assert_eq!(applied("{ add: { a.b: 1 } }", r#"{"a":5}"#).unwrap_err(), "`add` has no object for `b`");
        assert_eq!(applied("{ add: { 'a[].b': 1 } }", r#"{"a":{}}"#).unwrap_err(), "`add` has no list for `[]`");
    }

    #[test]
    fn a_way_that_leads_nowhere_is_a_mistake() {
        for wrong in ["", ".", "a.", "a..b", "a[0]", "a]b", "a.[]", "[]x"] {
            assert!(way(wrong).is_err(), "{wrong}");
        }
        let said = problems_of("{ rename: { 'a[]': b, c: d.e }, add: { 'x[]': 1, y: $jwt } }");
        assert_eq!(said.len(), 4, "{said:?}");
    }
}
