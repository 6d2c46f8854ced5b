//! The shapes of what is on disk, each tagged with its version.
//!
//! IMPORTANT: be very careful with these. A running droplet's journal holds them; one that cannot be read is a
//! command whose outcome nobody knows. Add versions, never change one; `tests` holds a golden text of each.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A record with its version.
#[derive(Debug, Serialize, Deserialize)]
enum Versioned<T> {
    /// The first and so far only shape.
    V1(T),
}

/// The bytes to store.
///
/// # Errors
/// A value that JSON cannot hold; none of ours is one.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Versioned::V1(value))
}

/// The value that was stored.
///
/// # Errors
/// Damaged bytes, or a version that this agent does not know.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<Versioned<T>>(bytes).map(|Versioned::V1(value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::Plan;
    use crate::core::saga::Event;
    use crate::core::step::{Before, CredentialRow, Source, Step, StepOutput};

    /// One golden text per shape: a change that breaks a running droplet's journal fails here.
    #[test]
    fn shapes_on_disk_stay_readable() {
        let row = CredentialRow {
            name: "mail".parse().unwrap(),
            credential_type: "smtp".parse().unwrap(),
            n8n_id: "c1".into(),
            fingerprint: "ab".into(),
            source: Source { bundle: 7, command: 0 },
        };
        let started = Event::Started { step: 0, before: Before { n8n_id: Some("c0".into()), ..Before::default() } };
        let output = StepOutput { credential: Some(row), ..StepOutput::answer(serde_json::json!({"ok": 1})) };
        let done = Event::Done { step: 0, output };
        let plan = Plan {
            steps: vec![Step::PutWorkflow { command: 1, key: "a".parse().unwrap() }, Step::CheckHealth { command: 2 }],
            commit_point: 2,
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(encode(&started).unwrap()),
            r#"{"V1":{"started":{"step":0,"before":{"n8n_id":"c0","active":false,"active_version_id":null}}}}"#
        );
        assert_eq!(
            text(encode(&done).unwrap()),
            r#"{"V1":{"done":{"step":0,"output":{"answer":{"ok":1},"credential":{"name":"mail","credential_type":"smtp","n8n_id":"c1","fingerprint":"ab","source":{"bundle":7,"command":0}}}}}}"#
        );
        assert_eq!(
            text(encode(&plan).unwrap()),
            r#"{"V1":{"steps":[{"put_workflow":{"command":1,"key":"a"}},{"check_health":{"command":2}}],"commit_point":2}}"#
        );
        assert_eq!(decode::<Plan>(&encode(&plan).unwrap()).unwrap(), plan);
        assert_eq!(decode::<Event>(&encode(&done).unwrap()).unwrap(), done);
    }

    #[test]
    fn an_unknown_version_is_refused_not_guessed() {
        assert!(decode::<Plan>(br#"{"V2":{"steps":[],"commit_point":0}}"#).is_err());
    }
}
