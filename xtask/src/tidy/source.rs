//! Rust text taken apart into code and comments, which is all of a parser that the rules need.

/// One file, split into texts of the same length: what is not of a kind is blank there, so that offsets and lines agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Code; of literals of strings and characters only the quotes are left.
    pub(super) code: String,
    /// Comments, doc comments among them, with their slashes.
    pub(super) comments: String,
}

impl Source {
    pub(super) fn parse(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut code = blank(bytes);
        let mut comments = blank(bytes);
        let mut i = 0;
        while i < bytes.len() {
            let end = match bytes[i] {
                b'/' if bytes[i..].starts_with(b"//") => line_end(bytes, i),
                b'/' if bytes[i..].starts_with(b"/*") => block_end(bytes, i),
                _ => i,
            };
            if end > i {
                comments[i..end].copy_from_slice(&bytes[i..end]);
                i = end;
                continue;
            }
            let end = literal_end(bytes, i);
            if end > i {
                (code[i], code[end - 1]) = (b'"', b'"');
                i = end;
                continue;
            }
            code[i] = bytes[i];
            i += 1;
        }
        let utf8 = |bytes| String::from_utf8(bytes).expect("comments and literals begin and end at ASCII characters");
        Self { code: utf8(code), comments: utf8(comments) }
    }

    /// The line of a byte offset, counted from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    pub(super) fn lines(&self) -> usize {
        self.code.lines().count()
    }

    /// The offsets at which `word` stands in the code as a whole word.
    pub(super) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        whole_words(&self.code, word)
    }
}

/// The offsets at which `word` stands in `text` with nothing of a name beside it.
pub(super) fn whole_words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    text.match_indices(word).map(|(i, _)| i).filter(move |&i| {
        let before = i.checked_sub(1).and_then(|i| text.as_bytes().get(i));
        !is_name(before) && !is_name(text.as_bytes().get(i + word.len()))
    })
}

/// The offset after the bracket that closes the one at `open`, or the end of the text.
pub(super) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (i, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return i + 1;
        }
    }
    code.len()
}

/// The code with the attributes blanked.
pub(super) fn without_attributes(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    let mut i = 0;
    while let Some(found) = code[i..].find('#') {
        let hash = i + found;
        let open = hash + 1 + usize::from(code[hash + 1..].starts_with('!'));
        i = hash + 1;
        if code[open..].starts_with('[') {
            i = closing(code, open);
            erase(&mut bytes[hash..i]);
        }
    }
    String::from_utf8(bytes).expect("an attribute begins and ends at ASCII characters")
}

/// The code with the items that only tests compile blanked.
pub(super) fn without_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    let mut starts: Vec<usize> = code.match_indices("#[cfg(test)]").map(|(i, _)| i).collect();
    starts.extend(code.match_indices("#[cfg(all(test,").map(|(i, _)| i));
    for start in starts {
        let body = closing(code, start + 1);
        let end = match code[body..].find(['{', ';']) {
            Some(i) if code[body + i..].starts_with('{') => closing(code, body + i),
            Some(i) => body + i + 1,
            None => code.len(),
        };
        erase(&mut bytes[start..end]);
    }
    String::from_utf8(bytes).expect("an item begins and ends at ASCII characters")
}

fn erase(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

fn blank(bytes: &[u8]) -> Vec<u8> {
    let mut blank = bytes.to_vec();
    erase(&mut blank);
    blank
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| start + n)
}

fn block_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut i = start;
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

/// The end of the literal of a string or character that begins at `i`, or `i` where none begins.
fn literal_end(bytes: &[u8], i: usize) -> usize {
    match bytes[i] {
        b'"' => quoted_end(bytes, i, b'"'),
        b'\'' => character_end(bytes, i),
        b'r' => raw_end(bytes, i),
        _ => i,
    }
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut i = start + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b if b == quote => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// A quote opens a character if an escape follows, or one character and a quote; else it begins a lifetime or a label.
fn character_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start + 1) {
        Some(b'\\') => quoted_end(bytes, start, b'\''),
        Some(&first) => {
            let width = match first {
                0..0x80 => 1,
                0x80..0xE0 => 2,
                0xE0..0xF0 => 3,
                0xF0.. => 4,
            };
            if bytes.get(start + 1 + width) == Some(&b'\'') { start + width + 2 } else { start }
        }
        None => start,
    }
}

/// `r"..."`, `r#"..."#` and so on, with `b` or `c` before it, but not the end of a name and not a raw name.
fn raw_end(bytes: &[u8], start: usize) -> usize {
    let is_name = |i: usize| bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_';
    let prefixed = start >= 1 && matches!(bytes[start - 1], b'b' | b'c') && (start < 2 || !is_name(start - 2));
    if start >= 1 && is_name(start - 1) && !prefixed {
        return start;
    }
    let hashes = bytes[start + 1..].iter().take_while(|&&b| b == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return start;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let found = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    found.map_or(bytes.len(), |n| open + 1 + n + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::parse(text).code
    }

    #[test]
    fn code_and_comments_cover_the_text_without_overlap() {
        let text = "let x = 1; // one\n/* two /* nested */ */ let y = 'z'; // zwei ü\n";
        let source = Source::parse(text);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.comments.len(), text.len());
        assert!(source.code.contains("let x = 1;") && source.code.contains("let y ="));
        assert!(source.comments.contains("// one") && source.comments.contains("zwei ü"));
        assert!(!source.code.contains("nested") && !source.comments.contains("let"));
    }

    #[test]
    fn literals_hide_what_they_contain() {
        for literal in [
            r#""unsafe // { \" unsafe""#,
            r##"r#"unsafe " unsafe"#"##,
            r#"b"unsafe""#,
            r##"br#"unsafe"#"##,
            r#"c"unsafe""#,
            "'\"'",
            r"'\''",
            r"'\u{1F600}'",
            "'ü'",
            "'😀'",
        ] {
            let source = Source::parse(&format!("f({literal}); unsafe"));
            assert_eq!(source.words("unsafe").count(), 1, "{literal} became {}", source.code);
            assert_eq!(source.comments.trim(), "", "{literal}");
        }
    }

    #[test]
    fn lifetimes_labels_and_raw_names_are_code() {
        for text in ["fn f<'a>(x: &'a str) -> &'a u8 {}", "'outer: loop { break 'outer }", "r#match + attr"] {
            assert_eq!(code(text), text);
        }
    }

    #[test]
    fn a_word_inside_a_name_does_not_count() {
        let source = Source::parse("unsafe_code(unsafe); not_unsafe; unsafe");
        assert_eq!(source.words("unsafe").collect::<Vec<_>>(), vec![12, 33]);
        assert_eq!(source.line_of(12), 1);
    }

    #[test]
    fn attributes_and_test_items_are_blanked_and_nothing_else() {
        let text = "#[cfg(all(a,\n b))]\nfn f() { x[0] }\n#[cfg(test)]\nmod tests { fn g() {} }\nfn h() {}\n";
        let bare = without_attributes(text);
        assert_eq!(bare.len(), text.len());
        assert!(!bare.contains("cfg") && bare.contains("x[0]") && bare.contains("fn g"));
        let shipped = without_tests(text);
        assert!(shipped.contains("fn f") && shipped.contains("fn h") && !shipped.contains("fn g"));
        assert!(without_tests("#[cfg(test)]\nmod tests;\nfn k() {}").contains("fn k"));
    }
}
