//! The name of a host on the internet, as domains are added, certificates asked for and requests matched by it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::IdError;

/// Longest host name in characters (RFC 1035, section 2.3.4, without the last dot).
const LONGEST: usize = 253;
/// Longest label of one (the same section).
const LONGEST_LABEL: usize = 63;

/// A full host name in lower case (RFC 1123, section 2.1); other alphabets in their `xn--` form. One spelling per host:
/// no last dot, no upper case. It has at least two labels and is no address, for nobody signs a certificate for less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_label = |label: &str| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label.bytes().all(is_plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let labels: Vec<&str> = text.split('.').collect();
        // A last label of digits would make it an address (RFC 1123, section 2.1).
        let is_address = labels.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        match text.len() <= LONGEST && labels.len() >= 2 && labels.iter().all(|label| is_label(label)) && !is_address {
            true => Ok(Self(text.to_owned())),
            false => Err(IdError::new(text, "a full host name in lower case, such as track.example.com")),
        }
    }
}

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_has_one_spelling() {
        for text in ["track.example.com", "xn--bcher-kva.example", "1.2.3.4.sslip.io", "a-b.c1"] {
            assert_eq!(text.parse::<HostName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_host_name_or_could_mean_more_than_one() {
        let long = format!("{}.com", "a.".repeat(130));
        let label = format!("{}.com", "a".repeat(64));
        let others =
            ["", "com", "A.com", "a.com.", ".a.com", "a..com", "-a.com", "a-.com", "*.a.com", "1.2.3.4", "a_b.c"];
        for text in
            others.into_iter().chain([long.as_str(), label.as_str(), "a.com:443", "a.com/x", "a.com\n", "ä.com"])
        {
            assert!(text.parse::<HostName>().is_err(), "{text:?}");
        }
    }
}
