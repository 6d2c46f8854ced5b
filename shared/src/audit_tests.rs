//! Every single change of a chain is found, whatever it is and wherever; a rewritten chain is found by a checkpoint.

use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

const CHAIN: &str = "droplet/0192f0a1-1111-7000-8000-000000000001/412";
const LENGTH: usize = 30;

fn chain_of(details: &[u64]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (n, detail) in details.iter().enumerate() {
        let name = if n == 0 { event::CHAIN_STARTED } else { event::COMMAND_REFUSED };
        let note = Note::new(name, json!({"n": detail, "rule": "a3_signature"}));
        let at = Timestamp::from_millis(1_000_000 + i64::try_from(n).unwrap());
        entries.push(Entry::next(CHAIN, entries.last().map(Entry::link), &note, at));
    }
    entries
}

fn chain() -> Vec<Entry> {
    chain_of(&(0..LENGTH as u64).collect::<Vec<_>>())
}

fn checkpoint(entry: &Entry) -> Checkpoint {
    Checkpoint { chain: CHAIN.into(), seq: entry.seq, hash: entry.hash, at: entry.at }
}

fn check(entries: &[Entry], checkpoints: &[Checkpoint]) -> Result<Head, Broken> {
    verify(CHAIN, Expected::WHOLE, entries.to_vec(), checkpoints)
}

/// Everything after a forged entry, hashed anew: what a keeper of the chain can do that others cannot.
fn rewritten_from(mut entries: Vec<Entry>, from: usize) -> Vec<Entry> {
    for n in from..entries.len() {
        entries[n].prev = if n == 0 { genesis(CHAIN) } else { entries[n - 1].hash };
        entries[n].hash = entries[n].digest();
    }
    entries
}

#[test]
fn a_chain_that_nobody_touched_holds() {
    let entries = chain();
    let head = check(&entries, &[checkpoint(&entries[9]), checkpoint(&entries[29])]).unwrap();
    assert_eq!((head.seq, head.entries, head.runs, head.confirmed), (30, 30, 1, Some(30)));
    assert_eq!(head.hash, entries[29].hash);
    assert_eq!(check(&[], &[]).unwrap().seq, 0);
    let pruned = Expected { pruned: true, runs: 1 };
    let tail = verify(CHAIN, pruned, entries[10..].to_vec(), &[checkpoint(&entries[3])]).unwrap();
    assert_eq!((tail.entries, tail.confirmed), (20, None));
    assert!(verify("hub/x", Expected::WHOLE, entries.clone(), &[]).is_err(), "another's chain is not this one");
}

#[test]
fn the_form_that_is_hashed_is_the_documented_one() {
    let entry = &chain()[1];
    let text = format!(
        "genesis-audit-v1\n2\n1970-01-01T00:16:40.001Z\nCOMMAND_REFUSED\n{{\"n\":1,\"rule\":\"a3_signature\"}}\n{}",
        entry.prev
    );
    assert_eq!(entry.hash, Digest::of(text.as_bytes()));
}

#[test]
fn every_flip_delete_insert_swap_and_truncation_is_found_where_it_is() {
    let whole = chain();
    let held = [checkpoint(&whole[LENGTH - 1])];
    let tried = std::cell::Cell::new(0);
    let count = || tried.set(tried.get() + 1);
    let found = |entries: &[Entry], seq: usize, what: &[What]| {
        count();
        let broken = check(entries, &held).expect_err("it is found");
        assert!(broken.at_seq == seq as u64 && what.contains(&broken.what), "{broken} ({seq}, {what:?})");
    };
    let other = Digest::of(b"other");
    for n in 0..LENGTH {
        let flips: [fn(&mut Entry, Digest); 6] = [
            |e, _| e.seq ^= 64,
            |e, _| e.at = e.at.plus_millis(1),
            |e, _| e.event.push('X'),
            |e, _| e.detail = e.detail.replace("a3", "a4"),
            |e, d| e.prev = d,
            |e, d| e.hash = d,
        ];
        for flip in flips {
            let mut entries = whole.clone();
            flip(&mut entries[n], other);
            found(&entries, n + 1, &[What::Changed]);
            // The same by one who knows how to hash: it shows at the next entry, or at the checkpoint.
            entries[n].hash = entries[n].digest();
            if entries[n] != whole[n] {
                check(&entries, &held).expect_err("it is found");
            }
        }
        let mut entries = whole.clone();
        entries.remove(n);
        found(&entries, n + 1, &[What::Deleted, What::Truncated]);
        found(&whole[..n], LENGTH, &[What::Truncated]);
        for m in 0..LENGTH {
            let mut entries = whole.clone();
            entries.insert(m, whole[n].clone());
            let broken = check(&entries, &held).expect_err("it is found");
            // A copy beside itself cannot be told from it.
            assert!(broken.at_seq <= LENGTH as u64, "{broken}");
            count();
            if m > n {
                let mut entries = whole.clone();
                entries.swap(n, m);
                found(&entries, n + 1, &[What::Moved]);
            }
        }
        let note = Note::new(event::COMMAND_REFUSED, json!({"forged": true}));
        let last = n.checked_sub(1).map(|before| whole[before].link());
        let mut entries = whole.clone();
        entries.insert(n, Entry::next(CHAIN, last, &note, whole[n].at));
        let what = if n == 0 { What::Unlinked } else { What::Inserted };
        found(&entries, n + 1, &[what]);
    }
    #[allow(clippy::print_stdout, reason = "a figure is printed")]
    {
        println!("{{\"single_changes\":{0},\"found\":{0}}}", tried.get());
    }
}

#[test]
fn a_chain_rewritten_to_its_end_is_found_by_any_checkpoint_behind_the_forgery_and_by_none_before() {
    let whole = chain();
    for n in 0..LENGTH {
        let mut forged = whole.clone();
        forged[n].detail = "{}".into();
        let forged = rewritten_from(forged, n);
        assert!(check(&forged, &[]).is_ok(), "alone it looks whole");
        for (m, entry) in whole.iter().enumerate() {
            let verdict = check(&forged, &[checkpoint(entry)]);
            let expected = Broken { at_seq: entry.seq, what: What::Rewritten };
            assert_eq!(verdict.err(), (m >= n).then_some(expected), "forged {n}, checkpoint {m}");
        }
    }
}

#[test]
fn a_chain_that_begins_anew_is_a_break_unless_whoever_verifies_knows_of_the_lost_journal() {
    let (old, mut new) = (chain(), chain());
    new.truncate(3);
    new[0].detail = "{\"boot_epoch\":\"2\"}".into();
    let both: Vec<Entry> = old.iter().cloned().chain(rewritten_from(new, 0)).collect();
    let held = [checkpoint(&old[29]), checkpoint(&both[32])];
    let two = Expected { runs: 2, ..Expected::WHOLE };
    let head = verify(CHAIN, two, both.clone(), &held).unwrap();
    assert_eq!((head.seq, head.runs, head.entries, head.confirmed), (3, 2, 33, Some(30)));
    assert_eq!(check(&both, &held).unwrap_err(), Broken { at_seq: 1, what: What::Restarted });
    let copied: Vec<Entry> = old.iter().chain(&old[..1]).cloned().collect();
    let copied = verify(CHAIN, two, copied, &[]).unwrap_err();
    assert_eq!(copied, Broken { at_seq: 1, what: What::Inserted }, "the same beginning twice is no second one");
}

#[test]
fn a_checkpoint_is_its_signers_and_nothing_else_passes_for_one() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = PublicKey::from_bytes(pair.public_key().as_ref().try_into().unwrap());
    let kid: KeyId = "identity".parse().unwrap();
    let held = checkpoint(&chain()[3]);
    let sign = |bytes: &[u8]| Ok::<_, JwsError>(BASE64URL_NOPAD.encode(pair.sign(bytes).as_ref()));
    let text = held.sign(&kid, sign).unwrap();
    assert_eq!(Checkpoint::verify(text.as_bytes(), |_| Some(key)).unwrap(), held);
    let other = PublicKey::from_bytes([1; 32]);
    assert!(Checkpoint::verify(text.as_bytes(), |_| Some(other)).is_err());
    assert!(Checkpoint::verify(text.as_bytes(), |_| None).is_err());
    assert!(Checkpoint::verify(text.replace("payload", "content").as_bytes(), |_| Some(key)).is_err());
}

#[test]
fn checkpoints_contradict_each_other_where_a_chain_went_back_or_elsewhere() {
    let entries = chain();
    let (third, fourth) = (checkpoint(&entries[3]), checkpoint(&entries[4]));
    assert!(!third.contradicts(&fourth) && !third.contradicts(&third.clone()));
    assert!(fourth.contradicts(&third));
    assert!(third.contradicts(&Checkpoint { hash: fourth.hash, ..third.clone() }));
    assert!(third.contradicts(&Checkpoint { chain: "hub/other".into(), ..fourth }));
}

#[test]
fn a_detail_that_is_too_long_is_cut_and_says_so() {
    let note = Note::new(event::COMMAND_REFUSED, json!({"why": "x".repeat(AUDIT_DETAIL_BYTES_MAX)}));
    let entry = Entry::next(CHAIN, None, &note, Timestamp::from_millis(1));
    assert!(entry.detail.len() < 200 && entry.detail.contains("cut"), "{}", entry.detail);
}

proptest! {
    #[test]
    fn verification_is_total_and_finds_random_changes(
        details in prop::collection::vec(any::<u64>(), 2..40), at in any::<prop::sample::Index>(), text in "\\PC{0,40}",
    ) {
        let whole = chain_of(&details);
        let held = [checkpoint(whole.last().unwrap())];
        prop_assert!(check(&whole, &held).is_ok());
        let n = at.index(whole.len());
        let mut entries = whole.clone();
        if entries[n].detail != text {
            entries[n].detail = text;
            prop_assert_eq!(check(&entries, &held).unwrap_err(), Broken { at_seq: n as u64 + 1, what: What::Changed });
            let rewritten = rewritten_from(entries, n);
            prop_assert!(check(&rewritten, &held).is_err());
        }
    }
}
