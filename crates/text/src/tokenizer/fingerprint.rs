//! A hash that never changes between machines, runs and releases.

/// FNV-1a with 64 bits.
///
/// # Source
/// Fowler, Noll, Vo, Eastlake, Hansen, "The FNV Non-Cryptographic Hash Algorithm", RFC 9923, section 5 (constants).
#[derive(Clone, Debug)]
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The length goes first, so that ("ab", "c") and ("a", "bc") differ.
    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    /// A JSON value with the keys of its objects sorted; a field that is null is a field that is not there.
    pub(crate) fn json(&mut self, value: &serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::Null => self.bytes(b"n"),
            Value::Bool(_) | Value::Number(_) => self.text(&value.to_string()),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.bytes(b"[");
                items.iter().for_each(|item| self.json(item));
                self.bytes(b"]");
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
                fields.sort_unstable_by_key(|(name, _)| name.as_str());
                self.bytes(b"{");
                for (name, value) in fields {
                    self.text(name);
                    self.json(value);
                }
                self.bytes(b"}");
            }
        }
    }

    pub(crate) fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers from the appendix of the FNV document.
    #[test]
    fn known_answers() {
        for (text, answer) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            let mut hash = Fnv::new();
            hash.bytes(text.as_bytes());
            assert_eq!(hash.finish(), answer, "{text}");
        }
    }

    #[test]
    fn order_of_fields_is_not_part_of_a_value() {
        let hash = |text: &str| {
            let mut hash = Fnv::new();
            hash.json(&serde_json::from_str(text).expect("JSON in the test"));
            hash.finish()
        };
        assert_eq!(hash(r#"{"a": 1, "b": [2, null]}"#), hash(r#"{"b": [2, null], "c": null, "a": 1}"#));
        assert_ne!(hash(r#"{"a": ["b", "c"]}"#), hash(r#"{"a": ["bc"]}"#));
        assert_ne!(hash(r#"[[1], 2]"#), hash(r#"[[1, 2]]"#));
    }
}
