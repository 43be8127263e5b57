//! Path templates: which of them a path is, the most literal one first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What is known under templates such as `/orders/{id}`.
#[derive(Debug)]
pub(super) struct Paths<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    literal: BTreeMap<Box<str>, Node<T>>,
    params: BTreeMap<Param, Node<T>>,
    here: Option<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literal: BTreeMap::new(), params: BTreeMap::new(), here: None }
    }
}

/// `{name}`, or with literal text around it: `{name}.json`. Names are not part of it: they belong to the operation.
/// More literal text comes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Param {
    literal: Reverse<usize>,
    before: Box<str>,
    after: Box<str>,
}

impl Param {
    fn value<'t>(&self, text: &'t str) -> Option<&'t str> {
        let value = text.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        (!value.is_empty()).then_some(value)
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Paths<T> {
    /// Puts what `make` makes of the names of its parameters, in their order; says why a template is not understood.
    pub(super) fn insert(&mut self, template: &str, make: impl FnOnce(Vec<Box<str>>) -> T) -> Result<(), String> {
        let path = template.strip_prefix('/').ok_or_else(|| format!("`{template}` does not begin with `/`"))?;
        let (mut node, mut names) = (&mut self.root, Vec::new());
        for segment in path.split('/') {
            let Some((before, rest)) = segment.split_once('{') else {
                node = node.literal.entry(segment.into()).or_default();
                continue;
            };
            let (name, after) = rest
                .split_once('}')
                .filter(|(_, after)| !after.contains('{'))
                .ok_or_else(|| format!("`{template}`: more than one parameter between two `/`, or a brace too many"))?;
            names.push(name.into());
            let literal = Reverse(before.len() + after.len());
            node = node.params.entry(Param { literal, before: before.into(), after: after.into() }).or_default();
        }
        if node.here.is_some() {
            return Err(format!("`{template}` is the same as another path"));
        }
        node.here = Some(make(names));
        Ok(())
    }

    /// What is known of a path, decoded segment by segment, and the values of its parameters.
    pub(super) fn find<'p>(&self, segments: &'p [Box<str>]) -> Option<(&T, Vec<&'p str>)> {
        let mut values = Vec::new();
        self.root.find(segments, &mut values).map(|found| (found, values))
    }
}

impl<T> Node<T> {
    fn find<'p>(&self, segments: &'p [Box<str>], values: &mut Vec<&'p str>) -> Option<&T> {
        let Some((first, rest)) = segments.split_first() else { return self.here.as_ref() };
        if let Some(found) = self.literal.get(first).and_then(|node| node.find(rest, values)) {
            return Some(found);
        }
        for (param, node) in &self.params {
            if let Some(value) = param.value(first) {
                let before = values.len();
                values.push(value);
                if let Some(found) = node.find(rest, values) {
                    return Some(found);
                }
                values.truncate(before);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_literal_template_is_the_one() {
        let mut paths = Paths::default();
        for template in
            ["/", "/orders/{id}", "/orders/new", "/orders/{id}/items/{item}", "/files/{name}.json", "/files/{name}"]
        {
            paths.insert(template, |names| (template, names)).unwrap();
        }
        let find = |path: &str| {
            let segments: Vec<Box<str>> = path.split('/').skip(1).map(Into::into).collect();
            let found = paths.find(&segments).map(|((template, _), values)| (*template, values.join(",")));
            found.map_or_else(|| "-".to_owned(), |(template, values)| format!("{template} {values}"))
        };
        for (path, found) in [
            ("/", "/ "),
            ("/orders/7", "/orders/{id} 7"),
            ("/orders/new", "/orders/new "),
            ("/orders/new/items/2", "/orders/{id}/items/{item} new,2"),
            ("/files/a.json", "/files/{name}.json a"),
            ("/files/.json", "/files/{name} .json"),
            ("/files/a.txt", "/files/{name} a.txt"),
            ("/orders", "-"),
            ("/orders/", "-"),
            ("/orders/7/", "-"),
        ] {
            assert_eq!(find(path), found, "{path}");
        }
        for wrong in ["orders", "/{a}-{b}", "/{a", "/orders/{other}"] {
            assert!(paths.insert(wrong, |names| ("", names)).is_err(), "{wrong}");
        }
    }
}
