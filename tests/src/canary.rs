//! Canaries: secret values that are easy to find, and a search for them where they must never be.

use std::path::Path;
use std::sync::OnceLock;

use memchr::memmem::Finder;

/// The part that all canaries share.
pub const MARK: &str = "canary-5d1f";

/// A secret value for a test.
pub fn canary(what: &str) -> String {
    format!("{MARK}-{what}")
}

/// Every file below `folder` that holds a canary, in clear or as base64 or hex, but for the names in `except`.
pub fn find(folder: &Path, except: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    search(folder, except, &mut found);
    found
}

fn search(folder: &Path, except: &[&str], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if except.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            search(&path, except, found);
        } else if path.is_file() && holds(&std::fs::read(&path).unwrap_or_default()) {
            found.push(path.display().to_string());
        }
    }
}

/// Whether some bytes hold a canary.
pub fn holds(bytes: &[u8]) -> bool {
    static FINDERS: OnceLock<Vec<Finder<'static>>> = OnceLock::new();
    FINDERS.get_or_init(finders).iter().any(|finder| finder.find(bytes).is_some())
}

fn finders() -> Vec<Finder<'static>> {
    let mut needles = vec![MARK.as_bytes().to_vec(), data_encoding::HEXLOWER.encode(MARK.as_bytes()).into_bytes()];
    // Base64 of a text depends on where in a group of three bytes it begins; the middle of each is searched for.
    for shift in 0..3 {
        let padded = [&b"xx"[..shift], MARK.as_bytes()].concat();
        let encoded = data_encoding::BASE64URL_NOPAD.encode(&padded);
        needles.push(encoded.as_bytes()[4..encoded.len() - 3].to_vec());
    }
    needles.iter().map(|needle| Finder::new(needle).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_canary_in_clear_and_encoded_and_nothing_else() {
        let text = format!("some text {} more", canary("x"));
        assert!(holds(text.as_bytes()));
        for cut in 0..3 {
            assert!(holds(data_encoding::BASE64URL_NOPAD.encode(&text.as_bytes()[cut..]).as_bytes()), "{cut}");
        }
        assert!(holds(data_encoding::HEXLOWER.encode(text.as_bytes()).as_bytes()));
        assert!(!holds(b"some text without one, however long it may be and whatever it says"));
    }
}
