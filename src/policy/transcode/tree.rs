//! All templates as one tree of segments: plain text before `*`, that before `**`; with a verb before without.

use std::collections::HashMap;

use super::template::{Step, Template};

/// What a path leads to.
type Ends<T> = Vec<(Option<Box<str>>, T)>;

#[derive(Debug)]
struct Node<T> {
    literals: HashMap<Box<str>, usize>,
    one: Option<usize>,
    /// What ends here, and what takes all that is left, each with its verb.
    ends: Ends<T>,
    rest: Ends<T>,
    /// Something that came through here.
    sample: Option<T>,
}

/// `T` for every template, found in one walk however many there are.
#[derive(Debug)]
pub(super) struct Tree<T> {
    nodes: Vec<Node<T>>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), one: None, ends: Vec::new(), rest: Vec::new(), sample: None }
    }
}

impl<T: Copy> Tree<T> {
    pub(super) fn insert(&mut self, template: &Template, what: T) {
        let mut at = 0;
        for step in &template.steps {
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return };
            node.sample.get_or_insert(what);
            at = match step {
                Step::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
                Step::One => *node.one.get_or_insert(next),
                Step::Rest => {
                    node.rest.push((template.verb.clone(), what));
                    return;
                }
            };
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.sample.get_or_insert(what);
            node.ends.push((template.verb.clone(), what));
        }
    }

    /// Shows every template that the path fits, the most specific first, with the number of bytes that are its verb's;
    /// `seen` says when it is enough. The path begins with `/`.
    pub(super) fn walk(&self, path: &str, seen: &mut dyn FnMut(T, usize) -> bool) {
        let path = path.strip_prefix('/').unwrap_or(path);
        let last = path.rfind('/').map_or(0, |slash| slash + 1);
        let colon = path.get(last..).and_then(|segment| segment.rfind(':')).map(|colon| last + colon);
        if let Some((path, verb)) = colon.and_then(|colon| Some((path.get(..colon)?, path.get(colon + 1..)?)))
            && self.below(0, Some(path), Some(verb), seen, verb.len() + 1)
        {
            return;
        }
        self.below(0, Some(path), None, seen, 0);
    }

    /// Each node has one way to it, so no path costs more than all templates have steps.
    fn below(
        &self,
        at: usize,
        path: Option<&str>,
        verb: Option<&str>,
        seen: &mut dyn FnMut(T, usize) -> bool,
        cut: usize,
    ) -> bool {
        let Some(node) = self.nodes.get(at) else { return false };
        let mut show = |ends: &Ends<T>| {
            let fits = |end: &&(Option<Box<str>>, T)| end.0.as_deref() == verb;
            ends.iter().filter(fits).any(|(_, what)| seen(*what, cut))
        };
        let Some(path) = path else { return show(&node.ends) || show(&node.rest) };
        let (segment, left) = match path.split_once('/') {
            Some((segment, left)) => (segment, Some(left)),
            None => (path, None),
        };
        let one = node.one.filter(|_| !segment.is_empty());
        let next = node.literals.get(segment).copied().into_iter().chain(one);
        next.into_iter().any(|next| self.below(next, left, verb, seen, cut)) || {
            let fits = |end: &&(Option<Box<str>>, T)| end.0.as_deref() == verb;
            node.rest.iter().filter(fits).any(|(_, what)| seen(*what, cut))
        }
    }

    /// Something that shares as many segments with the path as anything does.
    pub(super) fn nearest(&self, path: &str) -> Option<T> {
        let mut node = self.nodes.first()?;
        let mut nearest = None;
        for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
            let Some(next) = node.literals.get(segment).or(node.one.as_ref()) else { break };
            node = self.nodes.get(*next)?;
            nearest = node.sample;
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATES: [&str; 9] = [
        "/v1/{name=operations}",
        "/v1/{name=operations/**}",
        "/v1/{name=operations/**}:cancel",
        "/v1/shelves/{shelf}",
        "/v1/shelves/mine",
        "/v1/shelves/{shelf}/books/{book}",
        "/v1/shelves/{shelf}:merge",
        "/v1/*/books/top",
        "/**",
    ];

    fn tree(templates: &[&str]) -> Tree<usize> {
        let mut tree = Tree::default();
        for (index, template) in templates.iter().enumerate() {
            tree.insert(&Template::read(template).unwrap(), index);
        }
        tree
    }

    fn first(tree: &Tree<usize>, path: &str) -> Option<(usize, usize)> {
        let mut found = None;
        tree.walk(path, &mut |what, cut| {
            found = Some((what, cut));
            true
        });
        found
    }

    #[test]
    fn the_most_specific_template_comes_first() {
        let tree = tree(&TEMPLATES);
        let story = [
            ("/v1/operations", (0, 0)),
            ("/v1/operations/a/b", (1, 0)),
            ("/v1/operations/a/b:cancel", (2, 7)),
            ("/v1/operations/a:b", (1, 0)),
            ("/v1/shelves/7", (3, 0)),
            ("/v1/shelves/mine", (4, 0)),
            ("/v1/shelves/7/books/9", (5, 0)),
            ("/v1/shelves/7:merge", (6, 6)),
            ("/v1/shelves/7:split", (3, 0)),
            ("/v1/x/books/top", (7, 0)),
            ("/v1/shelves/", (8, 0)),
            ("/", (8, 0)),
            ("/x/y", (8, 0)),
        ];
        for (path, wanted) in story {
            assert_eq!(first(&tree, path), Some(wanted), "{path}");
        }
    }

    #[test]
    fn every_template_is_tried_until_one_is_enough() {
        let tree = tree(&["/a/{x}", "/a/b", "/a/**", "/a"]);
        let mut all = Vec::new();
        tree.walk("/a/b", &mut |what, _| {
            all.push(what);
            false
        });
        assert_eq!(all, [1, 0, 2]);
        assert_eq!(first(&tree, "/b"), None);
        assert_eq!(first(&tree, "/a"), Some((3, 0)), "an end before `**`, which takes nothing, too");
    }

    #[test]
    fn the_nearest_shares_the_most() {
        let tree = tree(&["/v1/shelves/{shelf}/books", "/v1/carts/{cart}"]);
        assert_eq!(tree.nearest("/v1/carts/7/x"), Some(1));
        assert_eq!(tree.nearest("/v1/shelves/7/boks"), Some(0));
        assert_eq!(tree.nearest("/v2"), None);
    }
}
