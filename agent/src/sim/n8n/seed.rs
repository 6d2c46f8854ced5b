//! Where ids and times come from: one counter, so that a run repeats exactly.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

const START_MS: u64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

/// A counter that yields ids and times.
#[derive(Clone, Debug)]
pub struct Seed {
    state: u64,
    now_ms: u64,
}

impl Seed {
    /// The same seed gives the same ids.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, now_ms: START_MS }
    }

    /// The time, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Moves the clock.
    pub fn advance(&mut self, milliseconds: u64) {
        self.now_ms = self.now_ms.saturating_add(milliseconds);
    }

    /// SplitMix64: a counter, well stirred.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An id as n8n makes them: 16 letters and digits.
    pub fn id(&mut self) -> String {
        self.letters(16)
    }

    fn letters(&mut self, count: usize) -> String {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        (0..count)
            .filter_map(|_| ALPHABET.get(usize::try_from(self.next() % 62).ok()?).copied().map(char::from))
            .collect()
    }

    /// A uuid of version 4.
    pub fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }

    /// Something that looks like a JWT; nothing but a lookup checks it.
    pub fn jwt(&mut self, subject: &str, audience: &str) -> String {
        let id = self.uuid();
        let payload = json!({ "sub": subject, "iss": "n8n", "aud": audience, "jti": id, "iat": self.now_ms / 1000 });
        let head = BASE64URL_NOPAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        format!("{head}.{}.{}", BASE64URL_NOPAD.encode(payload.to_string().as_bytes()), self.letters(43))
    }
}

/// A time as n8n prints it.
pub fn iso(ms: u64) -> Value {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    // Civil date from days since 1970, in years that begin in March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    Value::String(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_known_dates() {
        assert_eq!(iso(START_MS), "2026-01-01T00:00:00.000Z");
        assert_eq!(iso(1_709_210_096_789), "2024-02-29T12:34:56.789Z");
    }

    #[test]
    fn same_seed_gives_same_ids() {
        let (mut one, mut two) = (Seed::new(7), Seed::new(7));
        assert_eq!(one.id(), two.id());
        assert_eq!(one.id().len(), 16);
        assert_eq!(one.uuid().len(), 36);
    }
}
