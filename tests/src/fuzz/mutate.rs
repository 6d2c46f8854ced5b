//! Mutators: bytes, words, and the parts of signed documents taken apart and put together wrongly.

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

use super::Target;
use super::corpus::Corpus;
use crate::attack::stage::encode;

/// What a careless reader stumbles over.
const WORDS: &[&str] = &[
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "9223372036854775807",
    "\\u0000",
    "\\ud800",
    "\\",
    "\"",
    "=",
    "==",
    ".",
    ",",
    ":",
    "none",
    "HS256",
    "EdDSA",
    "eddsa",
    "ops-1",
    "ops-2",
    "hub-1",
    "hub-0",
    "gone",
    "reader",
    "sup-1",
    "root-1",
    "genesis-bundle+json",
    "genesis-root+json",
    "genesis-grant+json",
    "9999-12-31T23:59:59Z",
    "0000-00-00T00:00:00Z",
    "sha256:",
    "\u{feff}",
    "\u{200b}",
    "ß",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":",
    "\"alg\":\"none\",",
    "\"payload\":\"e30\",",
    "\"id\":1,",
    "DECOMMISSION",
    "DELETE_WORKFLOW",
    "\"all\":true",
    "\"version\":2",
    "\"threshold\":0",
    "\"grant\":\"\"",
];

type Random<'a> = &'a mut dyn FnMut() -> u64;

fn below(random: Random<'_>, bound: usize) -> usize {
    usize::try_from(random() % (bound.max(1) as u64)).unwrap_or(0)
}

fn one_of<'a, T>(random: Random<'_>, list: &'a [T]) -> &'a T {
    &list[below(random, list.len())]
}

/// An input for a target, from its corpus, and now and then from another's.
pub fn mutated(corpus: &Corpus, target: Target, random: Random<'_>) -> Vec<u8> {
    let from = if random().is_multiple_of(16) { *one_of(random, &Target::ALL) } else { target };
    let base = &one_of(random, corpus.of(from)).text;
    let mut bytes = match random() % 3 {
        0 => base.clone().into_bytes(),
        _ => taken_apart(corpus, target, base, random).unwrap_or_else(|| base.clone().into_bytes()),
    };
    for _ in 0..random() % 3 {
        disturb(&mut bytes, random);
    }
    bytes
}

/// Changes some bytes or a word.
fn disturb(bytes: &mut Vec<u8>, random: Random<'_>) {
    let at = below(random, bytes.len() + 1);
    match random() % 8 {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (random() % 8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = u8::try_from(random() % 256).unwrap_or(0);
            }
        }
        3 => bytes.truncate(at),
        4 => {
            let end = (at + below(random, 40)).min(bytes.len());
            bytes.drain(at..end);
        }
        5 => {
            let end = (at + below(random, 200)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            let to = below(random, bytes.len() + 1);
            bytes.splice(to..to, part);
        }
        6 => {
            let word = one_of(random, WORDS).bytes();
            bytes.splice(at..at, word);
        }
        _ => {
            let word = one_of(random, WORDS);
            let end = (at + word.len()).min(bytes.len());
            bytes.splice(at..end, word.bytes());
        }
    }
}

/// Opens a signed document, changes what is inside, and closes it again.
fn taken_apart(corpus: &Corpus, target: Target, base: &str, random: Random<'_>) -> Option<Vec<u8>> {
    match target {
        Target::Token => token(corpus, base, random),
        Target::Bundle | Target::Root | Target::Grant | Target::Checkpoint => jws(corpus, target, base, random),
        Target::Wire => {
            // The document within a hand-out or a chain.
            let mut value: Value = serde_json::from_str(base).ok()?;
            let within = match value.pointer_mut("/commands/0/bundle") {
                Some(within) => within,
                None => value.pointer_mut("/trust_root/1")?,
            };
            let changed = jws(corpus, Target::Bundle, within.as_str()?, random)?;
            *within = String::from_utf8_lossy(&changed).into_owned().into();
            Some(value.to_string().into_bytes())
        }
    }
}

fn token(corpus: &Corpus, base: &str, random: Random<'_>) -> Option<Vec<u8>> {
    let mut parts: Vec<String> = base.split('.').map(str::to_owned).collect();
    let at = below(random, parts.len());
    if random().is_multiple_of(4) {
        let other = &one_of(random, corpus.of(Target::Token)).text;
        parts[at] = other.split('.').nth(at)?.to_owned();
    } else {
        disturb_encoded(&mut parts[at], random)?;
    }
    Some(parts.join(".").into_bytes())
}

fn disturb_encoded(text: &mut String, random: Random<'_>) -> Option<()> {
    let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    disturb(&mut bytes, random);
    *text = encode(bytes);
    Some(())
}

fn jws(corpus: &Corpus, target: Target, base: &str, random: Random<'_>) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_str(base).ok()?;
    // Some refused forms are other JSON than an object.
    value.as_object()?;
    let other: Value = serde_json::from_str(&one_of(random, corpus.of(target)).text).unwrap_or_default();
    let inside = |value: &mut Value, pointer: &str, random: Random<'_>| {
        let at = value.pointer_mut(pointer)?;
        let mut text = at.as_str()?.to_owned();
        disturb_encoded(&mut text, random)?;
        *at = text.into();
        Some(())
    };
    // The flattened form has its one signature at the top.
    let signature = if value.get("signatures").is_some() { "/signatures/0" } else { "" };
    match random() % 8 {
        0..=2 => inside(&mut value, "/payload", random)?,
        3 => inside(&mut value, &format!("{signature}/protected"), random)?,
        4 => inside(&mut value, &format!("{signature}/signature"), random)?,
        5 => value["payload"] = other.get("payload")?.clone(),
        6 => value["signatures"] = other.get("signatures")?.clone(),
        _ => {
            let list = value.get_mut("signatures")?.as_array_mut()?;
            match random() % 4 {
                0 => list.extend(other.get("signatures")?.as_array()?.iter().cloned()),
                1 => list.clear(),
                2 => list.extend(list.clone()),
                _ => list.reverse(),
            }
        }
    }
    Some(value.to_string().into_bytes())
}
