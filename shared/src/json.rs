//! Strict JSON: what is signed has one meaning, so duplicate keys, deep nesting and trailing bytes are refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use crate::limits::JSON_DEPTH_MAX;
use crate::mutant::Check;

/// Why bytes are not acceptable JSON; the text says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not acceptable JSON: {0}")]
pub struct JsonError(String);

/// How serde_json hands over a number whose digits it keeps (feature `arbitrary_precision`).
const NUMBER_KEY: &str = "$serde_json::private::Number";

/// Parses one JSON document. Numbers keep their digits and objects their order.
///
/// # Errors
/// Malformed JSON, an object with the same key twice (RFC 8259 leaves its meaning open, so two parsers could read two
/// commands), nesting deeper than [`JSON_DEPTH_MAX`], anything after the document.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut parser).map_err(|e| JsonError(e.to_string()))?;
    parser.end().map_err(|e| JsonError(e.to_string()))?;
    Ok(value)
}

/// Parses strictly, then into a type.
///
/// # Errors
/// As [`parse`], and where the document does not have the shape of `T`.
pub fn parse_as<T: de::DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    serde_json::from_value(parse(bytes)?).map_err(|e| JsonError(e.to_string()))
}

/// Parses in one pass into a type that is strict by itself: one whose every object is a struct without unknown members
/// (which refuses a member that stands twice), or is read by [`value_at`] or [`distinct`].
///
/// # Errors
/// As [`parse_as`].
pub fn read_as<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, JsonError> {
    serde_json::from_slice(bytes).map_err(|e| JsonError(e.to_string()))
}

/// For `deserialize_with`, with `default`: a value of any shape that stands `DEPTH` objects and lists deep in its
/// document, as strictly as [`parse`]; `null` is none.
///
/// # Errors
/// As [`parse`].
pub fn value_at<'de, const DEPTH: usize, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let value = Strict { depth: DEPTH }.deserialize(deserializer)?;
    Ok(Some(value).filter(|value| !value.is_null()))
}

/// For `deserialize_with`: an object as a map, each key once.
///
/// # Errors
/// A key that stands twice, or a value that is none of `V`.
pub fn distinct<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    deserializer.deserialize_map(Distinct(PhantomData))
}

struct Distinct<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Distinct<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = entries.next_entry::<String, V>()? {
            if map.contains_key(&key) && Check::A1Duplicate.holds() {
                return Err(twice(&key));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

fn twice<E: de::Error>(key: &str) -> E {
    E::custom(format_args!("the key {key:?} stands twice in one object"))
}

/// A text that is copied only where it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= JSON_DEPTH_MAX && Check::A1Depth.holds() {
            return Err(E::custom(format_args!("nested deeper than {JSON_DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that JSON cannot hold"))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(Text(key)) = entries.next_key()? {
            if key == NUMBER_KEY && map.is_empty() {
                let digits: String = entries.next_value()?;
                return digits.parse().map(Value::Number).map_err(de::Error::custom);
            }
            let value = entries.next_value_seed(inner)?;
            match map.entry(key) {
                Entry::Occupied(before) if Check::A1Duplicate.holds() => return Err(twice(before.key())),
                Entry::Occupied(mut before) => drop(before.insert(value)),
                Entry::Vacant(free) => drop(free.insert(value)),
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_every_digit_and_the_order_of_keys() {
        let text = r#"{"z":12345678901234567890123.4500,"a":[1e+400,-0.0,true,null,"ü"]}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().to_string(), text);
    }

    #[test]
    fn refuses_duplicate_keys_at_any_depth() {
        for text in [r#"{"a":1,"a":2}"#, r#"[{"b":{"c":1,"\u0063":1}}]"#] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("twice"), "{error}");
        }
    }

    #[test]
    fn refuses_nesting_beyond_the_limit_and_accepts_it_at_the_limit() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse(nested(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(parse(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn refuses_trailing_and_malformed_bytes() {
        for text in ["", "{", "{} x", "{\"a\":}", "\u{feff}{}", "NaN"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse(b"\"\xff\"").is_err());
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // The value is of no interest; that it returns is.
            drop(parse(&bytes));
        }
    }
}
