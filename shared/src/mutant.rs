//! Every single check of the rules for trust by name, so that a test can switch one off and see that it was needed.
//!
//! Without the feature `mutants`, which nothing that ships is built with, a check always holds and this is all gone
//! after optimising.

/// Declares [`Check`] with the list of all of them.
macro_rules! checks {
    ($($variant:ident $what:literal,)*) => {
        /// One check of one rule: A of admission (agent/src/core/admit.rs), T of the trust root (`crate::trust`), Q of
        /// quarantine (agent/src/agent/quarantine.rs).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Check { $(#[doc = $what] $variant,)* }

        impl Check {
            /// Every check.
            pub const ALL: &[Check] = &[$(Check::$variant,)*];
        }
    };
}

checks! {
    A1Size "A1: no more bytes than the limit of the kind.",
    A1Duplicate "A1: no key twice in an object.",
    A1Depth "A1, A4: no nesting beyond the limit.",
    A1Count "A1: at least one signature, and not too many.",
    A1Algorithm "A1: no algorithm but EdDSA.",
    A1Type "A1: the media type of this kind of document.",
    A2UnknownKey "A2, T4: no signature by a stranger.",
    A2Revoked "A2: no signature by a revoked operator.",
    A3Signature "A3, T4: every signature fits.",
    A3SameKey "A3, T4: no key twice.",
    A4Content "A4: the content is acceptable.",
    A5Signers "A5: enough distinct signers.",
    A6Issuer "A6: the issuer signed.",
    A6Action "A6: the signer may ask this.",
    A6Tenant "A6: the signer may address this tenant.",
    A6Queue "A6: the signer may use this queue.",
    A6Time "A6: the signer's key is good.",
    A7Target "A7: it is for this droplet.",
    A8Span "A8: not valid for too long.",
    A8Ahead "A8: not signed in the future.",
    A8Early "A8: valid already.",
    A8Late "A8: valid still.",
    A8Floor "A8: time does not go back.",
    A9Root "A9: the trust root has not expired.",
    A10Replay "A10: not seen before.",
    A11Signature "A11: the token is signed by a delivery key.",
    A11Revoked "A11: that key is not revoked.",
    A11Issuer "A11: claim `iss`.",
    A11Audience "A11: claim `aud`.",
    A11Tenant "A11: claim `sub`.",
    A11Droplet "A11: claim `droplet_id`.",
    A11Bundle "A11: claim `bundle`.",
    A11Action "A11: claim `action`.",
    A11Nonce "A11: claim `nonce`.",
    A11Life "A11: a short life.",
    A11Early "A11: not from the future.",
    A11Late "A11: not from the past.",
    A12Unsupported "A12: this version can run it.",
    A13Operators "A13: operators ask in their own name, not under a grant.",
    A13Signers "A13: enough operators granted it.",
    A13Level "A13: they may grant this level.",
    A13Scope "A13: they may address this tenant.",
    A13Signed "A13: their keys were good.",
    A13Life "A13: a grant is short.",
    A13Text "A13: it says what for.",
    A13Alias "A13: a support key is nothing else.",
    A13Issuer "A13: the one who asks is the one let in.",
    A13Tenant "A13: for the one tenant.",
    A13Action "A13: within the level.",
    A13Span "A13: the bundle does not outlast the grant.",
    A13Time "A13: nobody signs under a grant before there is one.",
    TPin "The first root is the pinned one.",
    TConsistent "A root does not contradict itself.",
    T1Next "T1: the version that comes next.",
    T2Former "T2: the former threshold signed.",
    T3Own "T3: its own threshold signed.",
    T5Revoked "T5: no revocation is taken back.",
    T5Age "T5: made no earlier.",
    T6Key "T6: a key keeps its name.",
    T6Name "T6: a name keeps its key.",
    QHub "Quarantine: the hub has not said that this may be a copy.",
    QHost "Quarantine: the host has not said that it is another droplet.",
}

#[cfg(not(feature = "mutants"))]
impl Check {
    /// Whether the check is made: always.
    #[inline(always)]
    pub const fn holds(self) -> bool {
        true
    }
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Check;
    use std::cell::Cell;

    thread_local! {
        static OFF: Cell<Option<Check>> = const { Cell::new(None) };
    }

    impl Check {
        /// Whether the check is made by this thread.
        pub fn holds(self) -> bool {
            OFF.get() != Some(self)
        }
    }

    /// Switches one check off for this thread, or all on again.
    pub fn switch_off(check: Option<Check>) {
        OFF.set(check);
    }
}

#[cfg(feature = "mutants")]
pub use switch::switch_off;

#[cfg(all(test, not(feature = "mutants")))]
mod tests {
    use super::*;

    #[test]
    fn every_check_holds_in_what_ships() {
        assert!(Check::ALL.iter().all(|check| check.holds()));
    }
}
