//! Why a text is no YAML: the place where the eye finds the mistake, which may lie before the one that the parser ends at.

use granit_parser::ErrorKind;

use super::node::Place;
use super::parse::DEPTH;

/// The place and the sentence. `open` is the innermost bracket that is not closed yet.
pub(super) fn told(kind: &ErrorKind, at: Place, open: Option<(Place, char)>, text: &str) -> (Place, String) {
    let lines: Vec<&str> = text.lines().collect();
    let line = |number: u32| number.checked_sub(1).and_then(|index| lines.get(index as usize)).copied();
    let here = line(at.line).unwrap_or_default();
    if is_tab(kind) {
        return (tab(at, &lines).unwrap_or(at), sentence(kind));
    }
    if let Some((column, address)) = address(here, at.column) {
        let said = format!("what begins with `[` is a list; write an address in quotes, \"{address}\"");
        return (Place { column, ..at }, said);
    }
    if let Some((place, bracket)) = open.filter(|(place, _)| place.line < at.line && in_brackets(kind)) {
        return (place, format!("the `{bracket}` that opens here is not closed before line {}", at.line));
    }
    let above = (1..at.line).rev().find(|number| line(*number).is_some_and(|text| !is_empty(text)));
    let keyless =
        matches!(kind, ErrorKind::MappingValueNotAllowed | ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey);
    for number in [Some(at.line), above].into_iter().flatten().filter(|_| keyless) {
        let text = line(number).unwrap_or_default();
        if lacks_space(text.trim()) {
            return (Place { line: number, column: indent(text) + 1, ..at }, no_space(text.trim()));
        }
    }
    if let (ErrorKind::MappingValueNotAllowed, Some(above)) = (kind, above)
        && indent(here) > line(above).map_or(0, indent)
    {
        let said = format!("this line is indented deeper than line {above}, whose key has its value already");
        return (Place { column: indent(here) + 1, ..at }, said);
    }
    (at, sentence(kind))
}

/// A key whose value follows without a space, which is one word to YAML: `match:/x`.
pub(super) fn lacks_space(text: &str) -> bool {
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let glued = |rest: &str| !rest.is_empty() && !rest.starts_with([' ', ':']) && !rest.starts_with("//");
    !text.contains(": ")
        && !text.ends_with(':')
        && text.split_once(':').is_some_and(|(key, rest)| is_key(key) && glued(rest))
}

pub(super) fn no_space(text: &str) -> String {
    format!("a space is missing after the `:` of `{text}`")
}

fn is_tab(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
    )
}

/// The first tab before the text of a line, from the line on that the parser ended at.
fn tab(at: Place, lines: &[&str]) -> Option<Place> {
    let before = |text: &str| text.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t');
    let from = usize::try_from(at.line).ok()?.checked_sub(1)?;
    let (line, column) = lines.iter().enumerate().skip(from).find_map(|(line, text)| Some((line, before(text)?)))?;
    Some(Place { line: number(line), column: number(column), ..at })
}

/// Of an index the number that is counted from one.
fn number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

fn indent(text: &str) -> u32 {
    u32::try_from(text.chars().take_while(|c| *c == ' ').count()).unwrap_or(u32::MAX)
}

fn is_empty(text: &str) -> bool {
    text.trim().is_empty() || text.trim_start().starts_with('#')
}

/// Whether a bracket that is open may be the cause.
fn in_brackets(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::InvalidColonPlacement
            | ErrorKind::MappingValueNotAllowed
    )
}

/// `[::]:8080`, whose last colon stands at `column`, and where it begins.
fn address(line: &str, column: u32) -> Option<(u32, &str)> {
    let colon = line.char_indices().nth(usize::try_from(column).ok()?.checked_sub(1)?)?.0;
    let (before, after) = line.split_at_checked(colon)?;
    let open = before.strip_suffix(']').and_then(|inside| inside.rfind('['))?;
    let port = after.strip_prefix(':')?.find(|c: char| !c.is_ascii_digit()).map_or(after.len(), |end| end + 1);
    let inside = before.get(open + 1..before.len() - 1)?;
    let is_address = inside.parse::<std::net::Ipv6Addr>().is_ok() && port > 1;
    let column = number(before.get(..open)?.chars().count());
    line.get(open..colon + port).filter(|_| is_address).map(|address| (column, address))
}

/// What a mistake of the YAML itself is called here; the crate's own words serve where they are plain.
fn sentence(kind: &ErrorKind) -> String {
    let plain = match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => "a tab stands here; YAML wants spaces",
        ErrorKind::RecursionLimitExceeded => return format!("nested deeper than {DEPTH} levels"),
        ErrorKind::UnknownAnchor => {
            "this alias has no anchor (`&name`) before it; put the text in quotes if it begins with `*`"
        }
        ErrorKind::UnclosedFlowCollection { open } => return format!("the `{open}` that opens here is never closed"),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => return format!("`{open}` is closed by `{close}`"),
        ErrorKind::UnclosedQuotedScalar => "a quote is never closed",
        ErrorKind::UnexpectedEof
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::UnexpectedEofBlockMapping
        | ErrorKind::UnexpectedEofBlockSequence => "the file ends too early",
        ErrorKind::MappingValueNotAllowed => "a second `: ` in this line; put the text in quotes",
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => "a key needs a `:` after it, on the same line",
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            "this line does not fit the indentation of the lines above it"
        }
        ErrorKind::ExpectedFlowMappingSeparator => "`,` or `}` is missing",
        ErrorKind::ExpectedFlowSequenceSeparator => "`,` or `]` is missing",
        ErrorKind::ExpectedBlockSequenceEntry => "a list continues with `- ` at the same indentation",
        ErrorKind::DirectiveDisallowed => "directives (`%`) are not read; leave the line out",
        other => return format!("this is not YAML: {other}"),
    };
    plain.to_owned()
}
