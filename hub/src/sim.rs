//! Seeded randomness of a simulation: what this thread draws follows from the seed that it set.
//!
//! Tokens made of it are guessable. The feature is for simulations, and without a call of [`seed`] nothing changes.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on everything random on this thread follows from `seed`.
pub fn seed(seed: u64) {
    STATE.set(Some(seed));
}

/// Fills `bytes` if this thread has a seed; answers whether it did.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    let Some(mut state) = STATE.get() else { return false };
    for chunk in bytes.chunks_mut(8) {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
    }
    STATE.set(Some(state));
    true
}
