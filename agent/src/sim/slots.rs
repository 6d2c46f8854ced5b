//! A launcher in memory: a trial begins and ends within the same life, for what matters of a restart in between is a crash,
//! and those come from outside.

use std::cell::RefCell;

use genesis_shared::id::Digest;

use super::crash::Crash;
use crate::core::update::{Facts, facts};
use crate::ports::slots::{Slots, Standing};
use crate::ports::{EffectError, ErrorKind};

/// What survives a crash.
#[derive(Default)]
struct State {
    fetched: Option<Digest>,
    tried: Option<(Digest, Standing)>,
    /// Why the next trial ends badly, if it does.
    rejects: Option<String>,
    facts: Option<Facts>,
}

/// The slots of a pretend droplet.
pub struct SimSlots {
    state: RefCell<State>,
    crash: Crash,
}

impl SimSlots {
    /// Only the packaged version.
    pub fn new(crash: Crash) -> Self {
        Self { state: RefCell::default(), crash }
    }
    /// The next trial ends like this.
    pub fn reject(&self, why: &str) {
        self.state.borrow_mut().rejects = Some(why.to_owned());
    }
    /// What binaries say of themselves from now on.
    pub fn say(&self, facts: Facts) {
        self.state.borrow_mut().facts = Some(facts);
    }
    /// The version that has proved itself; `None` for the packaged one.
    pub fn current(&self) -> Option<Digest> {
        let state = self.state.borrow();
        state.tried.as_ref().filter(|(_, standing)| *standing == Standing::Current).map(|(digest, _)| *digest)
    }
    /// What lies in the free slot.
    pub fn fetched(&self) -> Option<Digest> {
        self.state.borrow().fetched
    }
    fn note_fetched(&self, sha256: Digest) {
        let mut state = self.state.borrow_mut();
        state.fetched = Some(sha256);
        if state.tried.as_ref().is_some_and(|(digest, _)| *digest == sha256) {
            state.tried = None;
        }
    }
    fn note_tried(&self, sha256: Digest, hub_was_there: bool) {
        let mut state = self.state.borrow_mut();
        let standing = match state.rejects.take() {
            Some(why) => Standing::Rejected(why),
            None => Standing::OnTrial { hub_was_there },
        };
        state.tried = Some((sha256, standing));
    }
    fn point(&self) -> Result<(), EffectError> {
        let over = || EffectError::new(ErrorKind::Transient, "slots", "this life is over");
        if self.crash.is_over() { Err(over()) } else { Ok(()) }
    }
}

impl Slots for SimSlots {
    async fn fetch(&self, _url: &str, sha256: Digest, _size: u64) -> Result<(), EffectError> {
        self.crash.point().await;
        self.note_fetched(sha256);
        self.crash.point().await;
        Ok(())
    }
    async fn facts(&self) -> Result<Facts, EffectError> {
        self.crash.point().await;
        Ok(self.state.borrow().facts.clone().unwrap_or_else(facts))
    }
    fn standing(&self, sha256: Digest) -> Result<Standing, EffectError> {
        let state = self.state.borrow();
        let tried = state.tried.as_ref().filter(|(digest, _)| *digest == sha256);
        Ok(tried.map_or(Standing::Elsewhere, |(_, standing)| standing.clone()))
    }
    async fn begin_trial(&self, sha256: Digest, hub_is_there: bool) -> Result<(), EffectError> {
        self.crash.point().await;
        self.note_tried(sha256, hub_is_there);
        self.crash.point().await;
        Ok(())
    }
    fn confirm(&self, sha256: Digest) -> Result<(), EffectError> {
        self.point()?;
        let mut state = self.state.borrow_mut();
        state.tried = Some((sha256, Standing::Current));
        state.fetched = None;
        drop(state);
        self.point()
    }
    async fn give_up(&self, sha256: Digest, why: &str) -> Result<(), EffectError> {
        self.crash.point().await;
        self.state.borrow_mut().tried = Some((sha256, Standing::Rejected(why.to_owned())));
        self.crash.point().await;
        Ok(())
    }
    fn discard(&self, sha256: Digest) -> Result<(), EffectError> {
        self.point()?;
        let mut state = self.state.borrow_mut();
        if state.fetched == Some(sha256) {
            state.fetched = None;
        }
        drop(state);
        self.point()
    }
}
