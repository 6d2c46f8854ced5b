//! What a hub in the wrong hands can do: any token by its delivery key, any trust roots, any number of commands.

use std::rc::Rc;

use genesis_shared::delivery::Claims;
use genesis_shared::id::{JobId, LeaseId};
use genesis_shared::wire::LeasedCommand;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::signature::Ed25519KeyPair;

use super::hub::{DELIVERY_KID, SimHub};

/// Makes a token from the claims that an honest hub would sign for this hand-out.
pub type Mint = Rc<dyn Fn(&SimHub, Claims) -> String>;

/// Trust roots that the hub gives instead of its own.
#[derive(Clone, Debug, Default)]
pub struct ForgedRoots {
    /// The version that it speaks of.
    pub version: u64,
    /// What it gives when asked.
    pub documents: Vec<String>,
}

impl SimHub {
    /// Queues a bundle to be handed out with a token of the attacker's making.
    pub fn push_forged(&self, bundle: &str, mint: Mint) -> JobId {
        let id = self.push(bundle);
        for job in self.jobs.borrow_mut().iter_mut().filter(|job| job.id == id) {
            job.mint = Some(Rc::clone(&mint));
        }
        id
    }

    /// Queues a bundle under the job of an earlier one.
    pub fn push_again(&self, bundle: &str, id: JobId) {
        let fresh = self.push(bundle);
        let mut jobs = self.jobs.borrow_mut();
        jobs.retain(|job| job.id != id);
        for job in jobs.iter_mut().filter(|job| job.id == fresh) {
            job.id = id;
        }
    }

    /// Signs claims with the delivery key, which an attacker who owns the hub has.
    pub fn sign_claims(&self, claims: &Claims) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(DELIVERY_KID.into());
        let key = EncodingKey::from_ed_der(&crate::identity::pkcs8(&self.seed));
        jsonwebtoken::encode(&header, claims, &key).expect("claims of texts and numbers have a JSON form")
    }

    /// A signature by the delivery key over anything.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let pair = Ed25519KeyPair::from_seed_unchecked(self.seed.expose()).expect("any 32 bytes are a seed");
        pair.sign(bytes).as_ref().to_vec()
    }

    /// Gives these roots from now on, or its own again.
    pub fn forge_roots(&self, roots: Option<ForgedRoots>) {
        self.forged_roots.replace(roots);
        self.pushed.notify_one();
    }

    /// Hands out this many commands that are none in every answer from now on, and takes no reports.
    pub fn flood(&self, commands: usize) {
        self.flood.set(commands);
        self.pushed.notify_one();
    }

    /// Every record of a job, accepted ones too.
    pub fn has_accepted(&self, job: JobId) -> bool {
        use genesis_shared::report::Record;
        self.records().iter().any(|record| matches!(&record.record, Record::Accepted { job_id } if *job_id == job))
    }

    pub(super) fn rubbish(&self) -> Vec<LeasedCommand> {
        let rubbish = |n: usize| LeasedCommand {
            lease_id: LeaseId::from_random([7; 16]),
            job_id: JobId::from_random((n as u128).to_le_bytes()),
            bundle: String::new(),
            delivery_token: String::new(),
        };
        (0..self.flood.get()).map(rubbish).collect()
    }
}
