//! Metadata of a record: values, the JSON in Chroma's queue, and the exported JSON.
//!
//! Chroma's queue holds two dialects of JSON. Up to 0.6 it is Python's: ASCII with `\u` escapes,
//! the tokens `NaN`, `Infinity` and `-Infinity`, integers of any size. From 1.0 on it is
//! serde_json's. This parser reads both, keeps integers exact to 64 bits, and reads floats to the
//! nearest f64.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::Serialize;

/// Prefix of Chroma's own keys, which users never see.
const HIDDEN_PREFIX: &str = "chroma:";
pub(super) const DOCUMENT: &str = "chroma:document";
pub(super) const URI: &str = "chroma:uri";

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Scalars, usually of one type.
    List(Vec<Value>),
    /// Occurs only in a list: an element that SQLite stored as NULL, such as NaN.
    Null,
}

/// Type of a column that can hold a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Text,
    Int,
    Float,
    Bool,
    TextList,
    IntList,
    FloatList,
    BoolList,
    /// An empty list, or one with several types or a null.
    Other,
}

impl Value {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Int(_) => Kind::Int,
            Self::Float(_) => Kind::Float,
            Self::Bool(_) => Kind::Bool,
            Self::Null => Kind::Other,
            Self::List(values) => {
                let mut kinds = values.iter().map(Self::kind);
                let first = kinds.next();
                match first {
                    _ if kinds.any(|kind| Some(kind) != first) => Kind::Other,
                    Some(Kind::Text) => Kind::TextList,
                    Some(Kind::Int) => Kind::IntList,
                    Some(Kind::Float) => Kind::FloatList,
                    Some(Kind::Bool) => Kind::BoolList,
                    _ => Kind::Other,
                }
            }
        }
    }

    fn settle(&mut self) {
        /// Larger integers may have no equal float.
        const MAX_EXACT: u64 = 1 << 53;
        match self {
            Self::Float(value) if *value == 0.0 => *value = 0.0,
            Self::List(values) => {
                values.iter_mut().for_each(Self::settle);
                let is_number = |value: &Self| match value {
                    Self::Int(int) => int.unsigned_abs() <= MAX_EXACT,
                    value => matches!(value, Self::Float(_)),
                };
                let is_float = |value: &Self| matches!(value, Self::Float(_));
                if values.iter().all(is_number) && values.iter().any(is_float) {
                    for value in values {
                        if let Self::Int(int) = *value {
                            #[expect(clippy::cast_precision_loss, reason = "at most MAX_EXACT")]
                            let float = int as f64;
                            *value = Self::Float(float);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Appends the value as JSON.
    pub(crate) fn write_json(&self, out: &mut String) {
        match self {
            Self::Text(text) => write_string(text, out),
            Self::Int(value) => {
                let _ = write!(out, "{value}");
            }
            // The shortest form that reads back as the same number, with a point or an exponent.
            Self::Float(value) if value.is_finite() => {
                let _ = write!(out, "{value:?}");
            }
            Self::Float(value) if *value == f64::INFINITY => out.push_str("\"Infinity\""),
            Self::Float(value) if *value == f64::NEG_INFINITY => out.push_str("\"-Infinity\""),
            // JSON has no NaN.
            Self::Float(_) | Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::List(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    value.write_json(out);
                }
                out.push(']');
            }
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    let is_escaped = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ');
    out.push('"');
    let mut rest = text;
    // The escaped characters are ASCII, so byte positions are character boundaries.
    while let Some(at) = rest.as_bytes().iter().position(is_escaped) {
        let (plain, escaped) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = escaped.chars();
        match characters.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            control => {
                let _ = write!(out, "\\u{:04x}", control.map_or(0, u32::from));
            }
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Float(value) if value.is_infinite() => {
                serializer.serialize_str(if *value > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                })
            }
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Null => serializer.serialize_none(),
            Self::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(value)?;
                }
                list.end()
            }
        }
    }
}

/// Values by key, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Map(BTreeMap<String, Value>);

impl Map {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    pub(crate) fn insert(&mut self, key: String, value: Value) {
        self.0.insert(key, value);
    }

    /// Replaces each list by text in JSON.
    pub(crate) fn write_lists_as_json(&mut self) {
        for value in self.0.values_mut() {
            if matches!(value, Value::List(_)) {
                let mut json = String::new();
                value.write_json(&mut json);
                *value = Value::Text(json);
            }
        }
    }

    /// Gives each value the form in which a store holds it: zero without a sign, and a list of
    /// integers and floats as floats. Returns the key of a list that no store can hold.
    pub(crate) fn settle(&mut self) -> Option<&str> {
        for value in self.0.values_mut() {
            value.settle();
        }
        let is_unfit =
            |value: &Value| matches!(value, Value::List(_)) && value.kind() == Kind::Other;
        let mut unfit = self.iter().filter(|(_, value)| is_unfit(value));
        unfit.next().map(|(key, _)| key)
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Appends the values as a JSON object.
    pub(crate) fn write_json(&self, out: &mut String) {
        out.push('{');
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_string(key, out);
            out.push(':');
            value.write_json(out);
        }
        out.push('}');
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Document, URI and metadata of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Texts {
    pub(crate) document: Option<String>,
    pub(crate) uri: Option<String>,
    /// Does not contain hidden keys.
    pub(crate) metadata: Map,
    /// Chroma's own keys, without the document and the URI.
    pub(crate) hidden: Map,
    /// Keys whose value is NaN, which Chroma stores as NULL and never returns.
    pub(crate) nan: BTreeSet<String>,
}

impl Texts {
    pub(crate) fn clear(&mut self) {
        self.document = None;
        self.uri = None;
        self.metadata.clear();
        self.hidden.clear();
        self.nan.clear();
    }

    /// Notes a key whose value is NaN.
    pub(crate) fn set_nan(&mut self, key: String) {
        self.nan.insert(key);
    }

    /// Sets the value of a key, or removes the key.
    pub(crate) fn set(&mut self, key: String, value: Option<Value>) {
        if !self.nan.is_empty() {
            self.nan.remove(&key);
        }
        match (key.as_str(), value) {
            (DOCUMENT, Some(Value::Text(text))) => self.document = Some(text),
            (DOCUMENT, _) => self.document = None,
            (URI, Some(Value::Text(text))) => self.uri = Some(text),
            (URI, _) => self.uri = None,
            (_, Some(value)) => self.map_of(&key).insert(key, value),
            (_, None) => self.map_of(&key).remove(&key),
        }
    }

    /// Appends a value to the list of a key.
    pub(crate) fn append(&mut self, key: &str, value: Value) {
        let map = self.map_of(key);
        if let Some(Value::List(values)) = map.0.get_mut(key) {
            return values.push(value);
        }
        map.insert(key.to_string(), Value::List(vec![value]));
    }

    /// Chroma's hidden keys are bookkeeping: they are kept, and never exported.
    fn map_of(&mut self, key: &str) -> &mut Map {
        match key.starts_with(HIDDEN_PREFIX) {
            true => &mut self.hidden,
            false => &mut self.metadata,
        }
    }

    /// Merges a queued JSON object: null removes a key, any other value replaces it.
    ///
    /// If the object cannot be parsed, nothing is merged, and the error gives the reason.
    pub(crate) fn merge(&mut self, json: &str) -> Result<(), String> {
        for (key, value) in parse_object(json)? {
            self.set(key, value);
        }
        Ok(())
    }
}

/// Parses a JSON scalar or a list of scalars.
pub(crate) fn parse_value(json: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: json };
    parser.space();
    let value = parser.value()?;
    parser.space();
    parser.end()?;
    Ok(value)
}

/// Parses a JSON object of scalars and lists of scalars. Null and NaN, which SQLite stores as NULL,
/// become `None`.
fn parse_object(json: &str) -> Result<Vec<(String, Option<Value>)>, String> {
    let mut parser = Parser { rest: json };
    let mut pairs = Vec::new();
    parser.space();
    // `null` in place of an object means no metadata.
    if parser.take("null") {
        parser.end()?;
        return Ok(pairs);
    }
    parser.expect('{')?;
    parser.space();
    if !parser.take("}") {
        loop {
            parser.space();
            let key = parser.string()?;
            parser.space();
            parser.expect(':')?;
            parser.space();
            let value = match parser.value()? {
                Value::Null => None,
                Value::Float(value) if value.is_nan() => None,
                value => Some(value),
            };
            pairs.push((key, value));
            parser.space();
            if parser.take("}") {
                break;
            }
            parser.expect(',')?;
        }
    }
    parser.end()?;
    Ok(pairs)
}

struct Parser<'j> {
    rest: &'j str,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), String> {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.unexpected(&format!("'{token}'"))),
        }
    }

    fn unexpected(&self, expected: &str) -> String {
        match self.rest.chars().next() {
            Some(found) => format!("{found:?}, expected {expected}"),
            None => format!("the end, expected {expected}"),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.space();
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.unexpected("the end"))
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        if !self.take("[") {
            return self.scalar();
        }
        let mut values = Vec::new();
        self.space();
        if self.take("]") {
            return Ok(Value::List(values));
        }
        loop {
            self.space();
            values.push(match self.scalar()? {
                Value::Float(value) if value.is_nan() => Value::Null,
                value => value,
            });
            self.space();
            if self.take("]") {
                return Ok(Value::List(values));
            }
            self.expect(',')?;
        }
    }

    fn scalar(&mut self) -> Result<Value, String> {
        if self.rest.starts_with('"') {
            return self.string().map(Value::Text);
        }
        for (token, value) in [
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", Value::Float(f64::NAN)),
            ("Infinity", Value::Float(f64::INFINITY)),
            ("-Infinity", Value::Float(f64::NEG_INFINITY)),
        ] {
            if self.take(token) {
                return Ok(value);
            }
        }
        self.number()
    }

    fn number(&mut self) -> Result<Value, String> {
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        // Python and serde_json always write a float with a point or an exponent.
        let integral = !text.contains(['.', 'e', 'E']);
        let value = match text.parse() {
            Ok(value) if integral => Value::Int(value),
            // Includes an integer beyond 64 bits, which becomes the nearest float.
            _ => Value::Float(
                text.parse()
                    .map_err(|_| self.unexpected("a string, number, boolean, null or list"))?,
            ),
        };
        self.rest = rest;
        Ok(value)
    }

    fn string(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut text = String::new();
        loop {
            // Both delimiters are ASCII, and a search for bytes is several times as fast as one for
            // characters.
            let mut bytes = self.rest.bytes();
            let plain = bytes
                .position(|byte| matches!(byte, b'"' | b'\\'))
                .ok_or_else(|| "the end, expected '\"'".to_string())?;
            let (run, rest) = self.rest.split_at_checked(plain).unwrap_or_default();
            text.push_str(run);
            self.rest = rest;
            if self.take("\"") {
                return Ok(text);
            }
            self.expect('\\')?;
            let escape = self.rest.chars().next();
            let character = match escape {
                // The escapes of RFC 8259, section 7.
                Some(same @ ('"' | '\\' | '/')) => same,
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('u') => {
                    self.rest = self.rest.get(1..).unwrap_or_default();
                    text.push(self.escaped()?);
                    continue;
                }
                _ => return Err(self.unexpected("an escape")),
            };
            self.rest = self.rest.get(1..).unwrap_or_default();
            text.push(character);
        }
    }

    /// Decodes `\uXXXX`, or two of them that form a surrogate pair. Python also writes lone
    /// surrogates, which UTF-8 cannot represent; they become U+FFFD.
    fn escaped(&mut self) -> Result<char, String> {
        let first = self.code_unit()?;
        if let Some(character) = char::from_u32(first) {
            return Ok(character);
        }
        let before = self.rest;
        if (0xD800..0xDC00).contains(&first) && self.take("\\u") {
            let second = self.code_unit()?;
            if (0xDC00..0xE000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.rest = before;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn code_unit(&mut self) -> Result<u32, String> {
        let digits = self
            .rest
            .get(..4)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .ok_or_else(|| self.unexpected("four hexadecimal digits"))?;
        let unit = u32::from_str_radix(digits, 16).unwrap_or_default();
        self.rest = self.rest.get(4..).unwrap_or_default();
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(json: &str) -> Texts {
        let mut texts = Texts::default();
        texts.merge(json).unwrap();
        texts
    }

    fn json(json: &str) -> String {
        let mut out = String::new();
        merged(json).metadata.write_json(&mut out);
        out
    }

    #[test]
    fn both_dialects_of_the_queue_are_read() {
        let python = r#" {"b" : "\u00e9\ud83d\ude00\n\"\/", "a": NaN, "c":-Infinity,"d":[1, 2],
            "e": 9223372036854775807, "f": 1.0, "g": true, "h": null, "" : 0} "#;
        let texts = merged(python);
        let get = |key| texts.metadata.get(key).cloned();
        assert_eq!(get("b"), Some(Value::Text("é😀\n\"/".into())));
        assert_eq!(get("a"), None);
        assert_eq!(get("c"), Some(Value::Float(f64::NEG_INFINITY)));
        assert_eq!(
            get("d"),
            Some(Value::List(vec![Value::Int(1), Value::Int(2)]))
        );
        assert_eq!(get("e"), Some(Value::Int(i64::MAX)));
        assert_eq!(get("f"), Some(Value::Float(1.0)));
        assert_eq!(get("g"), Some(Value::Bool(true)));
        assert_eq!(get("h"), None);
        assert_eq!(get(""), Some(Value::Int(0)));
        assert_eq!(merged("{}"), Texts::default());
        assert_eq!(merged("null"), Texts::default());
    }

    #[test]
    fn exported_json_has_sorted_keys_and_exact_numbers() {
        let line = r#"{"z":1e300,"a":0.1,"m":-9223372036854775808,"b":3.0,"i":Infinity,
            "l":["\u0001\t",null],"chroma:x":1,"n":5e-324,"u":"é"}"#;
        let expected = "{\"a\":0.1,\"b\":3.0,\"i\":\"Infinity\",\"l\":[\"\\u0001\\t\",null],\
            \"m\":-9223372036854775808,\"n\":5e-324,\"u\":\"é\",\"z\":1e300}";
        assert_eq!(json(line), expected);
        assert_eq!(
            json(r#"{"x":9223372036854775808}"#),
            "{\"x\":9.223372036854776e18}"
        );
    }

    #[test]
    fn null_removes_and_everything_else_replaces() {
        let mut texts =
            merged(r#"{"a":1,"b":"x","c":[true],"chroma:document":"d","chroma:uri":"u"}"#);
        texts
            .merge(r#"{"a":["1"],"b":null,"chroma:document":"","chroma:uri":null}"#)
            .unwrap();
        assert_eq!(texts.document.as_deref(), Some(""));
        assert_eq!(texts.uri, None);
        let mut out = String::new();
        texts.metadata.write_json(&mut out);
        assert_eq!(out, r#"{"a":["1"],"c":[true]}"#);
    }

    #[test]
    fn single_surrogates_are_replaced() {
        let texts = merged(r#"{"a":"\ud83dx","b":"\ude00","c":"\ud83d\u0041"}"#);
        let get = |key| texts.metadata.get(key).cloned();
        assert_eq!(get("a"), Some(Value::Text("\u{fffd}x".into())));
        assert_eq!(get("b"), Some(Value::Text("\u{fffd}".into())));
        assert_eq!(get("c"), Some(Value::Text("\u{fffd}A".into())));
    }

    #[test]
    fn only_flat_objects_are_accepted() {
        for line in [
            "",
            "[1]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":{}}",
            "{\"a\":[[1]]}",
            "{\"a\":1,}",
            "{\"a\":1}x",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{\"a\":\"\\q\"}",
            "{\"a\":\"\\u12é\"}",
            "{\"a\":1-1}",
            "{\"a\":--}",
            "{a:1}",
            "nul",
        ] {
            let mut texts = merged(r#"{"kept":1}"#);
            assert!(texts.merge(line).is_err(), "{line}");
            assert_eq!(texts, merged(r#"{"kept":1}"#));
        }
    }

    #[test]
    fn a_list_takes_its_kind_from_its_elements() {
        let kind = |line: &str| merged(line).metadata.get("a").map(Value::kind);
        assert_eq!(kind(r#"{"a":[1,2]}"#), Some(Kind::IntList));
        assert_eq!(kind(r#"{"a":[1.5,2.0]}"#), Some(Kind::FloatList));
        assert_eq!(kind(r#"{"a":[1.5,NaN]}"#), Some(Kind::Other));
        assert_eq!(kind(r#"{"a":[]}"#), Some(Kind::Other));
        assert_eq!(kind(r#"{"a":["x"]}"#), Some(Kind::TextList));
        assert_eq!(kind(r#"{"a":[false]}"#), Some(Kind::BoolList));
        assert_eq!(kind(r#"{"a":[1,1.5]}"#), Some(Kind::Other));
        assert_eq!(kind(r#"{"a":"x"}"#), Some(Kind::Text));
    }
}
