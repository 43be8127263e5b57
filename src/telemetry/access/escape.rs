//! Bytes of a client inside quotes: nothing of it ends the quotes, the line, or the reader's patience.

/// Appends the inside of a JSON string. What is not UTF-8 becomes U+FFFD; what no terminal should see is escaped.
pub(super) fn json(to: &mut Vec<u8>, bytes: &[u8]) {
    // Without early exit, so that the compiler looks at many bytes at once.
    if bytes.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
        return to.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|letter| json_letter(to, letter));
        if !chunk.invalid().is_empty() {
            to.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Printable ASCII that stands for itself.
const fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte < 0x7f && byte != b'"' && byte != b'\\'
}

fn json_letter(to: &mut Vec<u8>, letter: char) {
    match letter {
        '"' | '\\' => to.extend_from_slice(&[b'\\', u8::try_from(letter).unwrap_or(b'?')]),
        '\n' => to.extend_from_slice(b"\\n"),
        '\r' => to.extend_from_slice(b"\\r"),
        '\t' => to.extend_from_slice(b"\\t"),
        // Line ends in the eyes of some readers, and marks that turn the direction of text.
        letter if letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
            let number = u32::from(letter);
            to.extend_from_slice(b"\\u");
            to.extend([12, 8, 4, 0].map(|shift| hex(number >> shift)));
        }
        letter => to.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Appends the inside of a quoted field as Apache's `mod_log_config` does.
pub(super) fn apache(to: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
        return to.extend_from_slice(bytes);
    }
    for byte in bytes {
        match byte {
            b'"' | b'\\' => to.extend_from_slice(&[b'\\', *byte]),
            b'\n' => to.extend_from_slice(b"\\n"),
            b'\r' => to.extend_from_slice(b"\\r"),
            b'\t' => to.extend_from_slice(b"\\t"),
            byte if is_plain(*byte) => to.push(*byte),
            byte => to.extend_from_slice(&[b'\\', b'x', hex(u32::from(byte >> 4)), hex(u32::from(*byte))]),
        }
    }
}

/// The last hexadecimal digit.
fn hex(number: u32) -> u8 {
    b"0123456789abcdef".get(number as usize & 0xf).copied().unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(escape: fn(&mut Vec<u8>, &[u8]), bytes: &[u8]) -> String {
        let mut to = Vec::new();
        escape(&mut to, bytes);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn json_keeps_letters_and_escapes_the_rest() {
        assert_eq!(escaped(json, "/r\u{e9}sum\u{e9}/\u{4f60}".as_bytes()), "/r\u{e9}sum\u{e9}/\u{4f60}");
        assert_eq!(escaped(json, b"a\"b\\c\n\r\t\0\x1b\x7f"), r#"a\"b\\c\n\r\t\u0000\u001b\u007f"#);
        assert_eq!(escaped(json, "\u{85}\u{2028}\u{202e}".as_bytes()), r"\u0085\u2028\u202e");
        assert_eq!(escaped(json, b"a\xffb\xc3"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn apache_writes_bytes_as_hex() {
        assert_eq!(escaped(apache, b"a\"b\\\n\x1b\xc3\xa9"), r#"a\"b\\\n\x1b\xc3\xa9"#);
    }
}
