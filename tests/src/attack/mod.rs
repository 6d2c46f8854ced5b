//! The attack suite: named attacks on the real agent by a hub that is wholly the attacker's, played in paused time.
//!
//! The attacker holds the hub's delivery key and every byte between hub and droplet, and, where a case says so, single
//! keys of operators too. Nothing may be carried out, every refusal names its rule, and the agent goes on. There are no
//! blobs yet, so nothing is mixed but bundles, tokens, grants and roots.

mod content;
mod delivery;
mod envelope;
mod grants;
mod roots;
mod signers;
pub mod stage;
mod stories;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use genesis_agent::sim::SimHub;
use genesis_agent::sim::forge::ForgedRoots;
use genesis_shared::delivery::Claims;
use genesis_shared::mutant::{Check, switch_off};

use stage::Stage;

/// What a story tells.
pub type Told<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// What the attacker does.
pub enum Act {
    /// Hands out this bundle with a rightful token.
    Bundle(Box<dyn Fn(&Stage) -> String>),
    /// Hands out a rightful bundle that stops the workload, with this token, made from the rightful claims.
    Token(fn(&SimHub, Claims) -> String),
    /// Gives these trust roots, and a bundle that only they would let pass.
    Roots(fn(&Stage) -> (ForgedRoots, String)),
    /// Several things in turn.
    Story(for<'a> fn(&'a Stage) -> Told<'a>),
}

/// One attack.
pub struct Case {
    /// What is tried.
    pub name: String,
    /// The rule that must refuse it, as the refusal names it.
    pub rule: &'static str,
    /// How.
    pub act: Act,
}

/// What an attack came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Something was carried out.
    pub executed: u32,
    /// What is not as it must be, otherwise.
    pub unexplained: Vec<String>,
}

impl Outcome {
    /// Whether all is as it must be.
    pub fn is_withstood(&self) -> bool {
        self.executed == 0 && self.unexplained.is_empty()
    }
}

/// Every attack.
pub fn cases() -> Vec<Case> {
    [
        envelope::cases(),
        signers::cases(),
        content::cases(),
        delivery::cases(),
        grants::cases(),
        roots::cases(),
        stories::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn bundle(name: impl Into<String>, rule: &'static str, make: impl Fn(&Stage) -> String + 'static) -> Case {
    Case { name: name.into(), rule, act: Act::Bundle(Box::new(make)) }
}

fn token(name: &str, mint: fn(&SimHub, Claims) -> String) -> Case {
    Case { name: name.into(), rule: "a11_delivery", act: Act::Token(mint) }
}

fn forged(name: &str, rule: &'static str, make: fn(&Stage) -> (ForgedRoots, String)) -> Case {
    Case { name: name.into(), rule, act: Act::Roots(make) }
}

fn story(name: &str, rule: &'static str, tell: for<'a> fn(&'a Stage) -> Told<'a>) -> Case {
    Case { name: name.into(), rule, act: Act::Story(tell) }
}

async fn act(case: &Case, stage: &Stage) {
    match &case.act {
        Act::Bundle(make) => stage.refuses(case.rule, &make(stage)).await,
        Act::Token(mint) => stage.refuses_token(case.rule, &stage.signed(&["ops-1"], |_| {}), *mint).await,
        Act::Roots(make) => {
            let (roots, bundle) = make(stage);
            stage.refuses_roots(case.rule, roots, &bundle).await;
        }
        Act::Story(tell) => tell(stage).await,
    }
    stage.aftermath().await;
}

/// Plays one attack in a world of its own, with one check switched off or none.
pub fn play(case: &Case, off: Option<Check>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let outcome = runtime.block_on(async {
        let stage = Stage::new().await;
        switch_off(off);
        let agent = stage.droplet.agent();
        let trouble = tokio::select! {
            ended = agent.run() => Some(format!("the agent has ended: {ended:?}")),
            () = act(case, &stage) => None,
        };
        drop(agent);
        stage.check_own_audit();
        let (executed, mut unexplained) = stage.outcome();
        unexplained.extend(trouble);
        Outcome { executed, unexplained }
    });
    switch_off(None);
    outcome
}

/// The first attack that is not withstood without this check.
pub fn catches(cases: &[Case], check: Check) -> Option<&str> {
    let rule_of = |text: &str| {
        let digits = |c: char| c.is_ascii_digit();
        let letter = text.chars().take(1).collect::<String>().to_lowercase();
        letter + &text.chars().skip(1).take_while(|c| digits(*c)).collect::<String>()
    };
    let wanted = rule_of(&format!("{check:?}"));
    // Those of the same rule first: one of them will do.
    let (same, other): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| rule_of(case.rule) == wanted);
    let fails = |case: &&Case| {
        let played = std::panic::catch_unwind(AssertUnwindSafe(|| play(case, Some(check))));
        switch_off(None);
        !played.is_ok_and(|outcome| outcome.is_withstood())
    };
    same.into_iter().chain(other).find(fails).map(|case| case.name.as_str())
}
