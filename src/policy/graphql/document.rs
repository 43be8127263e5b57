//! A GraphQL document: read within bounds, and what running one of its operations would cost.

use std::collections::{HashMap, HashSet};

use apollo_parser::Parser;
use apollo_parser::cst::{self, CstNode, Definition, Selection};
use serde_json::{Map, Value};

/// How deeply a document is read at all, fragments followed.
const DEEPEST: usize = 128;
/// How deeply an introspection may ask, where it may.
const INTROSPECTION: u64 = 16;
/// Arguments that say how many items a list has at most.
const LISTS: [&str; 3] = ["first", "last", "limit"];

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Query,
    Mutation,
    Subscription,
}

impl Kind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Subscription => "subscription",
        }
    }
}

/// What running an operation would cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Fields within fields.
    pub(super) depth: u64,
    /// Fields that are asked for under another name.
    pub(super) aliases: u64,
    /// The sum of the costs of all fields, those below a list as often as the list says.
    pub(super) complexity: u64,
    /// It asks for the schema.
    pub(super) introspects: bool,
}

impl Cost {
    fn and(self, other: Self) -> Self {
        Self {
            depth: self.depth.max(other.depth),
            aliases: self.aliases.saturating_add(other.aliases),
            complexity: self.complexity.saturating_add(other.complexity),
            introspects: self.introspects || other.introspects,
        }
    }
}

/// One operation of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) name: Option<String>,
    pub(super) kind: Kind,
    pub(super) cost: Cost,
    pub(super) tokens: u64,
}

/// Reads a document and measures the operation that is to run; the error is a sentence without what was sent.
pub(super) fn measure(
    text: &str,
    name: Option<&str>,
    variables: &Map<String, Value>,
    tokens: usize,
    costs: &HashMap<Box<str>, u64>,
) -> Result<Operation, String> {
    let tree = Parser::new(text).recursion_limit(DEEPEST).token_limit(tokens).parse();
    if let Some(error) = tree.errors().next() {
        let more = if error.is_limit() { "is longer or deeper than it may be" } else { "is not GraphQL" };
        return Err(format!("{more}, at byte {}", error.index()));
    }
    let document = tree.document();
    let (mut operations, mut fragments) = (Vec::new(), HashMap::new());
    for definition in document.definitions() {
        match definition {
            Definition::OperationDefinition(operation) => operations.push(operation),
            Definition::FragmentDefinition(fragment) => {
                let name = fragment.fragment_name().and_then(|name| name.name()).ok_or("a fragment has no name")?;
                if fragments.insert(name.text().to_string(), fragment).is_some() {
                    return Err("two fragments have one name".to_owned());
                }
            }
            _ => return Err("defines what is for schemas only".to_owned()),
        }
    }
    let operation = chosen(operations, name)?;
    let defaults = defaults(&operation);
    let mut meter =
        Meter { fragments: &fragments, known: HashMap::new(), open: HashSet::new(), variables, defaults, costs };
    let set = operation.selection_set().ok_or("an operation selects nothing")?;
    let cost = meter.set(&set, 0)?;
    let kind = match operation.operation_type() {
        Some(said) if said.mutation_token().is_some() => Kind::Mutation,
        Some(said) if said.subscription_token().is_some() => Kind::Subscription,
        _ => Kind::Query,
    };
    let name = operation.name().map(|name| name.text().to_string());
    Ok(Operation { name, kind, cost, tokens: tree.token_limit().high as u64 })
}

fn chosen(operations: Vec<cst::OperationDefinition>, name: Option<&str>) -> Result<cst::OperationDefinition, String> {
    let alone = operations.len() == 1;
    let mut fitting = operations.into_iter().filter(|operation| match name {
        Some(wanted) => operation.name().is_some_and(|name| name.text() == wanted),
        None => alone,
    });
    match (fitting.next(), fitting.next()) {
        (Some(operation), None) => Ok(operation),
        (Some(_), Some(_)) => Err("two operations have one name".to_owned()),
        (None, _) => Err("does not say which of its operations is to run".to_owned()),
    }
}

/// What variables are where nobody says otherwise.
fn defaults(operation: &cst::OperationDefinition) -> HashMap<String, u64> {
    let definitions = operation.variable_definitions().into_iter().flat_map(|all| all.variable_definitions());
    let each = definitions.filter_map(|definition| {
        let name = definition.variable()?.name()?.text().to_string();
        Some((name, number(&definition.default_value()?.value()?)?))
    });
    each.collect()
}

/// How many items a literal asks for, as the most lenient server would read it.
fn number(value: &cst::Value) -> Option<u64> {
    let text = match value {
        cst::Value::IntValue(number) => number.syntax().text().to_string(),
        cst::Value::FloatValue(number) => number.syntax().text().to_string(),
        // Nobody writes a number with escapes who means well.
        cst::Value::StringValue(text) if text.syntax().text().to_string().contains('\\') => return Some(u64::MAX),
        cst::Value::StringValue(text) => text.syntax().text().to_string().trim().trim_matches('"').to_owned(),
        _ => return None,
    };
    Some(size(&text))
}

/// The same of a variable.
fn asked(value: &Value) -> u64 {
    match value {
        Value::Number(number) => size(&number.to_string()),
        Value::String(text) => size(text),
        _ => 0,
    }
}

/// A number of items, be it a fraction or far too large; what is no number asks for none.
fn size(text: &str) -> u64 {
    let text = text.trim();
    let whole = || match text.parse::<f64>() {
        Ok(number) if number >= 1e15 => u64::MAX,
        Ok(number) if number > 0.0 => format!("{:.0}", number.ceil()).parse().unwrap_or(u64::MAX),
        _ => 0,
    };
    text.parse().unwrap_or_else(|_| whole())
}

struct Meter<'a> {
    fragments: &'a HashMap<String, cst::FragmentDefinition>,
    /// What each fragment costs wherever it is spread.
    known: HashMap<String, Cost>,
    /// Those that are being measured.
    open: HashSet<String>,
    variables: &'a Map<String, Value>,
    defaults: HashMap<String, u64>,
    costs: &'a HashMap<Box<str>, u64>,
}

impl Meter<'_> {
    /// `level` is how far it has gone down.
    fn set(&mut self, set: &cst::SelectionSet, level: usize) -> Result<Cost, String> {
        if level > DEEPEST {
            return Err("is nested too deeply".to_owned());
        }
        let mut sum = Cost::default();
        for selection in set.selections() {
            sum = sum.and(match selection {
                Selection::Field(field) => self.field(&field, level)?,
                Selection::InlineFragment(inline) => match inline.selection_set() {
                    Some(set) => self.set(&set, level + 1)?,
                    None => Cost::default(),
                },
                Selection::FragmentSpread(spread) => {
                    let name = spread.fragment_name().and_then(|name| name.name()).ok_or("a spread has no name")?;
                    self.fragment(name.text().as_ref(), level + 1)?
                }
            });
        }
        Ok(sum)
    }

    fn field(&mut self, field: &cst::Field, level: usize) -> Result<Cost, String> {
        let name = field.name().ok_or("a field has no name")?.text().to_string();
        let below = match field.selection_set() {
            Some(set) => self.set(&set, level + 1)?,
            None => Cost::default(),
        };
        let own = self.costs.get(&*name).copied().unwrap_or(1);
        let times = self.times(field);
        let mut cost = Cost {
            depth: below.depth.saturating_add(1),
            aliases: below.aliases.saturating_add(u64::from(field.alias().is_some())),
            complexity: own.saturating_add(below.complexity.saturating_mul(times)),
            introspects: below.introspects,
        };
        if name == "__schema" || name == "__type" {
            cost.introspects = true;
            if cost.depth > INTROSPECTION {
                return Err("asks too deeply for the schema".to_owned());
            }
            // What a schema says of itself is deep, and costs little.
            (cost.depth, cost.complexity) = (1, own);
        }
        Ok(cost)
    }

    /// How often what is below a field is asked for.
    fn times(&self, field: &cst::Field) -> u64 {
        let arguments = field.arguments().into_iter().flat_map(|all| all.arguments());
        let sizes = arguments.filter_map(|argument| {
            let name = argument.name()?;
            if !LISTS.iter().any(|list| name.text() == *list) {
                return None;
            }
            match argument.value()? {
                cst::Value::Variable(variable) => {
                    let name = variable.name()?.text().to_string();
                    let given = self.variables.get(&name).filter(|value| !value.is_null());
                    match given {
                        Some(value) => Some(asked(value)),
                        None => self.defaults.get(&name).copied(),
                    }
                }
                value => number(&value),
            }
        });
        sizes.max().unwrap_or(1).max(1)
    }

    fn fragment(&mut self, name: &str, level: usize) -> Result<Cost, String> {
        if let Some(known) = self.known.get(name) {
            return Ok(*known);
        }
        let fragments = self.fragments;
        let fragment = fragments.get(name).ok_or("spreads a fragment that is not there")?;
        if !self.open.insert(name.to_owned()) {
            return Err("has a fragment that spreads itself".to_owned());
        }
        let set = fragment.selection_set().ok_or("a fragment selects nothing")?;
        let cost = self.set(&set, level)?;
        self.open.remove(name);
        self.known.insert(name.to_owned(), cost);
        Ok(cost)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(text: &str, name: Option<&str>, variables: &Value) -> Result<Operation, String> {
        let costs = HashMap::from([("search".into(), 10)]);
        measure(text, name, variables.as_object().unwrap(), 2000, &costs)
    }

    fn cost(text: &str) -> (u64, u64, u64) {
        let cost = of(text, None, &json!({})).unwrap_or_else(|e| panic!("{text}: {e}")).cost;
        (cost.depth, cost.aliases, cost.complexity)
    }

    #[test]
    fn an_operation_costs_what_it_asks_for() {
        let table = [
            ("{ a }", (1, 0, 1)),
            ("{ a b c { d } }", (2, 0, 4)),
            ("query Q { x: a y: a }", (1, 2, 2)),
            ("{ search }", (1, 0, 10)),
            ("{ users(first: 10) { id friends(last: 5) { id name } } }", (3, 0, 1 + 10 * (1 + 1 + 5 * 2))),
            ("{ users(limit: \"10\") { id } }", (2, 0, 1 + 10)),
            ("{ users(limit: 1e1) { id } }", (2, 0, 1 + 10)),
            ("{ users(limit: 9.5) { id } }", (2, 0, 1 + 10)),
            ("{ users(limit: \"\"\" 10 \"\"\") { id } }", (2, 0, 1 + 10)),
            ("{ users(limit: 18446744073709551616) { id } }", (2, 0, u64::MAX)),
            ("{ users(limit: \"\\u0031\") { id } }", (2, 0, u64::MAX)),
            ("{ users(limit: -10) { id } }", (2, 0, 2)),
            ("{ users(limit: \"few\") { id } }", (2, 0, 2)),
            ("{ ...F ...F } fragment F on Q { a { b } x: c }", (2, 2, 6)),
            ("{ a(first: 3) { ...F } } fragment F on Q { b c }", (2, 0, 1 + 3 * 2)),
            ("{ ... on Q { a } ... { b } }", (1, 0, 2)),
            ("{ __typename }", (1, 0, 1)),
        ];
        for (text, wanted) in table {
            assert_eq!(cost(text), wanted, "{text}");
        }
        let variables = "query Q($n: Int = 7, $m: Int) { a(first: $n) { b } c(first: $m) { d } }";
        assert_eq!(of(variables, None, &json!({ "m": 3 })).unwrap().cost.complexity, (1 + 7) + (1 + 3));
        assert_eq!(of(variables, None, &json!({ "n": 100, "m": -3 })).unwrap().cost.complexity, (1 + 100) + 2);
        for many in [json!(1e3), json!(1000.0), json!("1000"), json!(" 1e3 "), json!(999.5)] {
            let cost = of(variables, None, &json!({ "n": many, "m": -3.5 })).unwrap().cost;
            assert_eq!(cost.complexity, (1 + 1000) + 2, "{many}");
        }
        for endless in [json!(1e300), json!("Infinity"), json!("99999999999999999999999")] {
            let cost = of(variables, None, &json!({ "n": endless })).unwrap().cost;
            assert_eq!(cost.complexity, u64::MAX, "{endless}");
        }
        let default = "query Q($n: Int = 1e3) { a(first: $n) { b } }";
        assert_eq!(of(default, None, &json!({})).unwrap().cost.complexity, 1 + 1000);
    }

    #[test]
    fn one_of_several_operations_runs() {
        let text = "query A { a } mutation B { b { c } } subscription C { d }";
        let kind = |name| of(text, name, &json!({})).map(|operation| (operation.name.unwrap(), operation.kind));
        assert_eq!(kind(Some("B")), Ok(("B".to_owned(), Kind::Mutation)));
        assert_eq!(kind(Some("C")), Ok(("C".to_owned(), Kind::Subscription)));
        assert!(kind(None).is_err() && kind(Some("D")).is_err());
        assert!(of("query A { a } query A { b }", Some("A"), &json!({})).is_err());
    }

    #[test]
    fn what_is_no_document_is_said() {
        for text in [
            "",
            "{",
            "{ }",
            "{ a",
            "query { a } }",
            "{ ...F }",
            "{ ...F } fragment F on Q { ...F }",
            "{ ...F } fragment F on Q { ...G } fragment G on Q { a { ...F } }",
            "type Q { a: Int }",
            "{ a } fragment F on Q { a } fragment F on Q { b }",
            "mutation",
            "{ \"a\" }",
            "\u{0}",
        ] {
            assert!(of(text, None, &json!({})).is_err(), "{text:?}");
        }
    }

    #[test]
    fn introspection_is_seen_and_bounded() {
        assert!(of("{ __schema { types { name } } }", None, &json!({})).unwrap().cost.introspects);
        assert!(
            of("{ ...F } fragment F on Q { __type(name: \"A\") { name } }", None, &json!({})).unwrap().cost.introspects
        );
        let deep = format!("{{ __schema {{ {} a {} }} }}", "a {".repeat(20), "}".repeat(20));
        assert!(of(&deep, None, &json!({})).unwrap_err().contains("schema"));
    }

    #[test]
    fn what_is_meant_to_hurt_is_answered_at_once() {
        let start = Instant::now();
        let bomb: Vec<String> =
            (0..60).map(|n| format!("fragment F{n} on Q {{ ...F{} ...F{} }} ", n + 1, n + 1)).collect();
        let bomb = format!("{{ ...F0 }} {} fragment F60 on Q {{ a(first: 1000000) {{ b }} x: c }}", bomb.concat());
        let cost = of(&bomb, None, &json!({})).unwrap().cost;
        assert!(cost.complexity > 1 << 60 && cost.aliases == 1 << 60, "{cost:?}");
        let deep = "{a".repeat(100_000);
        let closed = format!("{deep}{}", "}".repeat(100_000));
        let aliases = format!("{{ {} }}", "a:b ".repeat(250_000));
        let lists = format!("{{ a(x: {}1{}) }}", "[".repeat(100_000), "]".repeat(100_000));
        let objects = format!("{{ a(x: {}1{}) }}", "{a:".repeat(100_000), "}".repeat(100_000));
        let chain: Vec<String> = (0..300).map(|n| format!("fragment F{n} on Q {{ ...F{} }} ", n + 1)).collect();
        let chain = format!("{{ ...F0 }} {} fragment F300 on Q {{ a }}", chain.concat());
        let text = format!("{{ a(x: \"{}\") }}", "x".repeat(1 << 20));
        for hostile in [&deep, &closed, &aliases, &lists, &objects, &chain] {
            assert!(of(hostile, None, &json!({})).is_err());
        }
        assert!(of(&text, None, &json!({})).is_ok());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_is_too_odd(text in r#"[{}()\[\]:.$@!|&="a-cq0-9 \n\u{0}é#,-]{0,80}"#) {
            let _ = of(&text, None, &json!({ "a": 1 }));
        }

        #[test]
        fn no_document_is_too_odd(
            parts in proptest::collection::vec(prop_oneof![
                "query Q ", "mutation ", "\\{ ", "\\} ", "a ", "x: ", r"\(first: 3\) ", r"\.\.\.F ", "fragment F on T ", "on ", r"\.\.\. ", "@skip", "\\$v", r"\[", r"\]", "\"\"\"", "\"", "#",
            ], 0..40),
        ) {
            let _ = of(&parts.concat(), None, &json!({}));
        }
    }
}
