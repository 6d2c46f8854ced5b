//! The attack suite, and the suite with each single check of the rules switched off.

use genesis_shared::mutant::Check;
use genesis_tests::attack::{cases, catches, play};
use serde_json::{Value, json};

use super::{Failure, say};

pub fn run() -> Result<Value, Failure> {
    // Without a check the agent may well panic, which is told by the count.
    std::panic::set_hook(Box::new(|_| {}));
    let cases = cases();
    let (mut executed, mut unexplained) = (0, 0);
    for case in &cases {
        let outcome = play(case, None);
        executed += outcome.executed;
        unexplained += outcome.unexplained.len();
        if !outcome.is_withstood() {
            say(&format!("{} is not withstood: {outcome:?}", case.name));
        }
    }
    say(&format!("{} attacks played", cases.len()));
    let mut caught = 0;
    for check in Check::ALL {
        match catches(&cases, *check) {
            Some(_) => caught += 1,
            None => say(&format!("no attack needs {check:?}")),
        }
    }
    let figures = json!({
        "cases": cases.len(),
        "executed": executed,
        "unexplained": unexplained,
        "mutants": Check::ALL.len(),
        "mutants_caught": caught,
        "method": "each attack on the real agent in paused time, the hub wholly the attacker's; a mutant is the agent with one check off, caught when an attack is carried out or not explained",
    });
    let holds = executed == 0 && unexplained == 0 && caught == Check::ALL.len();
    if holds { Ok(figures) } else { Err(figures.to_string().into()) }
}
