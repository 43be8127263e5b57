//! Which values of the document are secrets by the name of their key, so that no report shows them.

/// Endings of keys whose value nobody else should read.
const ENDINGS: [&str; 9] =
    ["authorization", "cookie", "password", "passwd", "secret", "token", "api-key", "api_key", "credentials"];

/// Whether a value under this key is a secret.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// Whether a value only says where the secret lies.
pub fn is_reference(text: &str) -> bool {
    text.starts_with("file:/") || text.starts_with("env:")
}

/// The line with everything after the first secret key of it left out, unless a reference follows.
pub fn redact(line: &str) -> String {
    let mut from = 0;
    while let Some(colon) = line.get(from..).and_then(|rest| rest.find(':')).map(|at| at + from) {
        from = colon + 1;
        let (before, after) = line.split_at(colon);
        let after = after.trim_start_matches(':');
        let is_key = |b: char| b.is_ascii_alphanumeric() || b == '-' || b == '_';
        let before = before.trim_end().trim_end_matches(['"', '\'']);
        let key = before.rsplit(|c| !is_key(c)).next().unwrap_or_default();
        let value = after.trim_start().trim_start_matches(['"', '\'']);
        let word = value.split(|c| !is_key(c)).next().unwrap_or_default();
        let empty = value.is_empty() || value.starts_with('#') || matches!(word, "true" | "false");
        if is_secret(key) && !empty && !is_reference(value) {
            return format!("{} (hidden)", line.get(..=colon).unwrap_or_default());
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_and_references_stay() {
        assert_eq!(redact("  authorization: Bearer abc"), "  authorization: (hidden)");
        assert_eq!(redact("set: { \"X-Api-Key\": 'abc', b: c }"), "set: { \"X-Api-Key\": (hidden)");
        assert_eq!(redact("x-api-key: file:/run/key"), "x-api-key: file:/run/key");
        assert_eq!(redact("set: { a: b }"), "set: { a: b }");
        assert_eq!(redact("cors: { credentials: true }"), "cors: { credentials: true }");
        assert_eq!(redact("credentials: trueish"), "credentials: (hidden)");
        assert_eq!(redact("cookies: { canary: yes }"), "cookies: { canary: yes }");
    }
}
