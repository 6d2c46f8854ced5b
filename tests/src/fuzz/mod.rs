//! Fuzzing of everything that a droplet reads from strangers: mutated documents go through the real decisions, and no
//! input may panic or be accepted that says anything else than what was signed.

pub mod corpus;
mod mutate;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use genesis_agent::core::admit::{Delivery, Handed};
use genesis_agent::ports::Entropy;
use genesis_agent::sim::SimEntropy;
use genesis_shared::audit::{self, CHECKPOINT_TYP, Checkpoint};
use genesis_shared::grant::Grant;
use genesis_shared::id::{Digest, JobId};
use genesis_shared::json;
use genesis_shared::jws::Jws;
use genesis_shared::limits::{BUNDLE_BYTES_MAX, CHECKPOINT_BYTES_MAX};
use genesis_shared::report::{Heartbeat, OutboxRecord};
use genesis_shared::trust::TrustRoot;
use genesis_shared::wire;
use genesis_shared::{bundle, delivery, trust};

use corpus::{Corpus, Ground, NONCE};

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Admission of a bundle.
    Bundle,
    /// A trust root, as the first one and as the one that follows.
    Root,
    /// A support grant.
    Grant,
    /// A delivery token.
    Token,
    /// A signed checkpoint of the hub's audit.
    Checkpoint,
    /// Requests and answers of the agent plane.
    Wire,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 6] = [Self::Bundle, Self::Root, Self::Grant, Self::Token, Self::Checkpoint, Self::Wire];

    /// The name of its corpus and of its count.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Root => "root",
            Self::Grant => "grant",
            Self::Token => "token",
            Self::Checkpoint => "checkpoint",
            Self::Wire => "wire",
        }
    }
}

/// What came of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdicts {
    /// Refused, or decoded where there is nothing to accept.
    Refused,
    /// Accepted, and rightly: its signed content is a corpus original's.
    Original,
    /// Accepted although nobody signed it.
    Accepted,
    /// The code panicked.
    Panicked,
}

/// A fuzzing run.
pub struct Fuzzer {
    ground: Ground,
    corpus: Corpus,
    originals: BTreeSet<Digest>,
    claims: delivery::Claims,
    entropy: SimEntropy,
}

impl Fuzzer {
    /// Over the kept corpus; the inputs follow from the seed.
    ///
    /// # Panics
    /// An original of the corpus is not accepted, or a refused form is: then the run would mean nothing.
    pub fn new(seed: u64) -> Self {
        let (ground, corpus) = (Ground::new(), Corpus::kept());
        let originals = corpus.originals();
        let token = corpus.good(Target::Token).next().expect("a token is kept");
        let claims = delivery::verify(token, &ground.root, &ground.expected(&ground.plain()), ground.now).unwrap();
        let mut fuzzer = Self { ground, corpus, originals, claims, entropy: SimEntropy::new(seed) };
        fuzzer.note_rightful();
        for (target, entry) in fuzzer.corpus.entries() {
            let verdict = fuzzer.judge(target, entry.text.as_bytes());
            // Of what passes between hub and droplet only some is signed.
            let fits = match verdict {
                Verdicts::Original => entry.good,
                Verdicts::Refused => !entry.good || target == Target::Wire,
                Verdicts::Accepted | Verdicts::Panicked => false,
            };
            assert!(fits, "{target:?} {}: {verdict:?}", entry.name);
        }
        fuzzer
    }

    /// Some refused forms are rightful documents with something more, which a mutation may take away again: what is
    /// accepted of one with some of its own signatures, and nothing changed, was signed.
    fn note_rightful(&mut self) {
        let mut rightful = Vec::new();
        for (_, entry) in self.corpus.entries().filter(|(_, entry)| !entry.good) {
            for document in corpus::rebuilt(&entry.text) {
                let jws = |typ| Jws::parse(document.as_bytes(), typ, BUNDLE_BYTES_MAX).ok();
                let accepts = |target| self.judge(target, document.as_bytes()) == Verdicts::Accepted;
                // A rightful bundle may be kept as a refused root.
                if [Target::Bundle, Target::Root].into_iter().any(accepts) {
                    rightful.extend(jws(bundle::TYP).or_else(|| jws(trust::TYP)).map(|jws| jws.digest()));
                }
            }
        }
        self.originals.extend(rightful);
    }

    /// One input for a target: its bytes.
    pub fn input(&self, target: Target) -> Vec<u8> {
        mutate::mutated(&self.corpus, target, &mut || self.entropy.number())
    }

    /// Runs the code on an input.
    pub fn judge(&self, target: Target, bytes: &[u8]) -> Verdicts {
        let judged = catch_unwind(AssertUnwindSafe(|| match target {
            Target::Bundle => self.bundle(bytes, &Handed::ByHand),
            Target::Root => self.root(bytes),
            Target::Grant => {
                self.signed(Grant::verify(bytes, &self.ground.root).ok().map(|verified| verified.digest()))
            }
            Target::Token => self.token(bytes),
            Target::Checkpoint => self.checkpoint(bytes),
            Target::Wire => self.wire(bytes),
        }));
        judged.unwrap_or(Verdicts::Panicked)
    }

    fn signed(&self, digest: Option<Digest>) -> Verdicts {
        match digest {
            None => Verdicts::Refused,
            Some(digest) if self.originals.contains(&digest) => Verdicts::Original,
            Some(_) => Verdicts::Accepted,
        }
    }

    fn bundle(&self, bytes: &[u8], handed: &Handed<'_>) -> Verdicts {
        self.signed(self.ground.admits(bytes, handed))
    }

    fn root(&self, bytes: &[u8]) -> Verdicts {
        let follows = self.ground.root.verify_successor(bytes).ok().map(|verified| verified.digest());
        let first = TrustRoot::verify(bytes, Some(self.ground.pin)).ok().map(|verified| verified.digest());
        self.signed(follows.or(first))
    }

    fn token(&self, bytes: &[u8]) -> Verdicts {
        let Ok(text) = std::str::from_utf8(bytes) else { return Verdicts::Refused };
        let ground = &self.ground;
        match delivery::verify(text, &ground.root, &ground.expected(&ground.plain()), ground.now) {
            Err(_) => Verdicts::Refused,
            Ok(claims) if claims == self.claims => Verdicts::Original,
            Ok(_) => Verdicts::Accepted,
        }
    }

    fn checkpoint(&self, bytes: &[u8]) -> Verdicts {
        drop(json::parse_as::<audit::Line>(bytes));
        let held = Checkpoint::verify(bytes, |kid| self.ground.root.delivery_key(kid)).ok();
        let digest = |_| Some(Jws::parse(bytes, CHECKPOINT_TYP, CHECKPOINT_BYTES_MAX).ok()?.digest());
        self.signed(held.and_then(digest))
    }

    /// Every type of the agent plane reads it; a hand-out goes through admission.
    fn wire(&self, bytes: &[u8]) -> Verdicts {
        drop(json::parse_as::<wire::HandshakeRequest>(bytes));
        drop(json::parse_as::<wire::ResultsRequest>(bytes));
        drop(serde_json::from_slice::<wire::HandshakeAnswer>(bytes));
        drop(serde_json::from_slice::<wire::HeartbeatAnswer>(bytes));
        drop(serde_json::from_slice::<wire::RenewRequest>(bytes));
        drop(serde_json::from_slice::<wire::ErrorBody>(bytes));
        drop(serde_json::from_slice::<Heartbeat>(bytes));
        drop(serde_json::from_slice::<Vec<OutboxRecord>>(bytes));
        if let Ok(chain) = serde_json::from_slice::<wire::TrustRootChain>(bytes) {
            let documents: Vec<&[u8]> = chain.trust_root.iter().map(String::as_bytes).collect();
            let latest = TrustRoot::verify_chain(&documents, self.ground.pin).ok().and_then(|mut chain| chain.pop());
            return latest.map_or(Verdicts::Refused, |(bytes, _)| self.root(bytes));
        }
        let Ok(answer) = serde_json::from_slice::<wire::CommandsAnswer>(bytes) else { return Verdicts::Refused };
        let mut verdict = Verdicts::Refused;
        for leased in &answer.commands {
            let (token, job_id) = (leased.delivery_token.as_str(), JobId::from_random([1; 16]));
            let handed = Handed::ByHub(Delivery { token, nonce: NONCE, job_id });
            match self.bundle(leased.bundle.as_bytes(), &handed) {
                Verdicts::Refused => {}
                other @ (Verdicts::Original | Verdicts::Accepted | Verdicts::Panicked) => verdict = other,
            }
        }
        verdict
    }
}
