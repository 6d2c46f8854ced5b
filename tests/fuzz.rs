//! A few thousand fuzzed inputs with each run of the tests; millions with `genesis-bench fuzz`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and figures are printed")]

use genesis_tests::fuzz::{Fuzzer, Target, Verdicts};

/// Per target: some seconds in an unoptimised build.
const INPUTS: usize = 5_000;

#[test]
fn no_mutated_document_panics_or_is_accepted_that_nobody_signed() {
    let fuzzer = Fuzzer::new(1);
    for target in Target::ALL {
        let mut as_signed = 0;
        for _ in 0..INPUTS {
            let input = fuzzer.input(target);
            match fuzzer.judge(target, &input) {
                Verdicts::Refused => {}
                Verdicts::Original => as_signed += 1,
                verdict @ (Verdicts::Accepted | Verdicts::Panicked) => {
                    panic!("{verdict:?} {}: {}", target.name(), String::from_utf8_lossy(&input))
                }
            }
        }
        println!("{}: {INPUTS} inputs, {as_signed} said what was signed", target.name());
        assert!(as_signed > 0, "some inputs get as far as being accepted");
    }
}

/// The mutators find what is there to be found: with a check off, some input is accepted.
#[test]
fn a_missing_check_of_signatures_is_found() {
    let fuzzer = Fuzzer::new(1);
    genesis_shared::mutant::switch_off(Some(genesis_shared::mutant::Check::A3Signature));
    let mut accepts = (0..INPUTS).map(|_| fuzzer.judge(Target::Bundle, &fuzzer.input(Target::Bundle)));
    assert!(accepts.any(|verdict| verdict == Verdicts::Accepted));
}
