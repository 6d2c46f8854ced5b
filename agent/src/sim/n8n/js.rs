//! JSON as JavaScript sees it: n8n parses every body into doubles and prints them again.
//!
//! So 12345678901234567890 comes back as 12345678901234567000, 1.10 as 1.1, 1e400 as null, and keys that look like
//! array indices move to the front. Whoever compares what was sent with what is stored must know this.

use serde_json::{Map, Number, Value};

/// What `JSON.stringify(JSON.parse(text))` would give.
pub fn round_trip(value: Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => value,
        Value::Number(number) => print(&number.to_string()),
        Value::Array(items) => Value::Array(items.into_iter().map(round_trip).collect()),
        Value::Object(map) => {
            let (mut indices, rest): (Vec<_>, Vec<_>) = map.into_iter().partition(|(key, _)| index(key).is_some());
            indices.sort_by_key(|(key, _)| index(key));
            let all = indices.into_iter().chain(rest);
            Value::Object(all.map(|(key, value)| (key, round_trip(value))).collect::<Map<_, _>>())
        }
    }
}

fn index(key: &str) -> Option<u32> {
    let number: u32 = key.parse().ok().filter(|&number| number < u32::MAX)?;
    (number.to_string() == key).then_some(number)
}

fn print(text: &str) -> Value {
    let double: f64 = text.parse().unwrap_or(f64::NAN);
    if !double.is_finite() {
        return Value::Null;
    }
    let size = double.abs();
    let printed = if size == 0.0 {
        "0".to_owned()
    } else if (1e-6..1e21).contains(&size) {
        format!("{double}")
    } else {
        let exponential = format!("{double:e}");
        if exponential.contains("e-") { exponential } else { exponential.replace('e', "e+") }
    };
    serde_json::from_str::<Number>(&printed).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(text: &str) -> String {
        round_trip(serde_json::from_str(text).unwrap()).to_string()
    }

    #[test]
    fn numbers_become_doubles_as_seen_on_the_real_n8n() {
        let sent = r#"{"n":12345678901234567890,"f":1.10,"x":null,"e":1e400}"#;
        assert_eq!(through(sent), r#"{"n":12345678901234567000,"f":1.1,"x":null,"e":null}"#);
        assert_eq!(through("[1.0,-0.0,1e21,1e-7,9007199254740993]"), "[1,0,1e+21,1e-7,9007199254740992]");
    }

    #[test]
    fn keys_that_are_indices_move_to_the_front() {
        assert_eq!(through(r#"{"b":1,"10":2,"2":3,"01":4}"#), r#"{"2":3,"10":2,"b":1,"01":4}"#);
    }
}
