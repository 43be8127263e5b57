//! What a form says that a browser sends by GET.

use std::fmt::Write;

use crate::canonical;

/// A field of the form, without the space around it; nothing where it is empty or not there.
pub(super) fn field(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let value = canonical::unescape(&value.replace('+', " "))?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// A text as it stands in the query of a link.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let query = "method=GET&url=a.example%2Fx%3Fq%3D1&head=x-canary%3A+yes&client=+&odd";
        let said = ["method", "url", "head", "client", "odd", "none"].map(|name| field(query, name));
        let expected = [Some("GET"), Some("a.example/x?q=1"), Some("x-canary: yes"), None, None, None];
        assert_eq!(said, expected.map(|text| text.map(str::to_owned)));
        let odd = "a&b=\"c\" ü";
        assert_eq!(field(&format!("id={}", escaped(odd)), "id").as_deref(), Some(odd));
    }
}
