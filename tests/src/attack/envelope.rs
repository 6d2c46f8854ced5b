//! Attacks on the envelope: bytes, JSON, headers, keys, signatures (A1 to A3).

use serde_json::{Value, json};

use super::stage::{HEADER, Stage, encode, key_as, raw, sign_bytes, stop};
use super::{Case, bundle};
use crate::operator::sign_with;

const SHAPE: &str = "a1_shape";
const STRANGER: &str = "a2_unknown_key";
const SIGNATURE: &str = "a3_signature";

/// The order of the curve's group, little-endian: S and S + L satisfied the same equation before RFC 8032.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub fn cases() -> Vec<Case> {
    let mut cases = bytes();
    cases.extend(headers());
    cases.extend(keys());
    cases.extend(tampered());
    cases.extend(signatures());
    cases
}

fn good(stage: &Stage) -> String {
    stage.signed(&["ops-1"], |_| {})
}

fn bytes() -> Vec<Case> {
    let text = |name: &str, change: fn(String) -> String| bundle(name, SHAPE, move |s| change(good(s)));
    vec![
        text("empty", |_| String::new()),
        text("no JSON", |_| "\u{1F600} not json".into()),
        text("truncated in the middle", |t| t[..t.len() / 2].to_owned()),
        text("truncated by one byte", |t| t[..t.len() - 1].to_owned()),
        text("bytes after the document", |t| t + "{}"),
        text("two documents", |t| t.clone() + &t),
        text("byte order mark", |t| format!("\u{feff}{t}")),
        text("payload twice", |t| t.replacen('{', r#"{"payload":"e30","#, 1)),
        text("payload twice, once by escapes", |t| t.replacen('{', "{\"pa\\u0079load\":\"e30\",", 1)),
        text("unprotected header", |t| t.replacen('{', r#"{"header":{"alg":"none"},"#, 1)),
        text("deep nesting of the envelope", |t| {
            t.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(5000), "]".repeat(5000)), 1)
        }),
        text("both serialisations at once", |t| t.replacen('{', r#"{"protected":"e30","signature":"AA","#, 1)),
        text("padded base64", |t| t.replacen("\",\"signatures\"", "==\",\"signatures\"", 1)),
        text("base64 of the other alphabet", |t| t.replacen("eyJ", "ey+/", 1)),
        text("a lone surrogate", |t| t.replacen('{', r#"{"x":"\ud800","#, 1)),
        bundle("oversized", SHAPE, |s| s.signed(&["ops-1"], |b| b.rollout = Some("x".repeat(1_000_000).into()))),
        bundle("oversized, of nothing", SHAPE, |_| " ".repeat(2 * 1024 * 1024 - 1000)),
        bundle("no signature", SHAPE, |s| {
            let (mut document, _) = s.apart();
            document["signatures"] = json!([]);
            document.to_string()
        }),
        bundle("seventeen signatures", SHAPE, |s| {
            let (mut document, _) = s.apart();
            document["signatures"] = vec![document["signatures"][0].clone(); 17].into();
            document.to_string()
        }),
    ]
}

fn headers() -> Vec<Case> {
    let with = |name: &str, header: &str| {
        let header = header.to_owned();
        bundle(name, SHAPE, move |s| raw(s.apart().1.to_string().as_bytes(), &header, "ops-1"))
    };
    let typ = "genesis-bundle+json";
    let mut cases = vec![
        with("algorithm none", &format!(r#"{{"alg":"none","kid":"ops-1","typ":"{typ}"}}"#)),
        with("algorithm HS256", &format!(r#"{{"alg":"HS256","kid":"ops-1","typ":"{typ}"}}"#)),
        with("algorithm in other letters", &format!(r#"{{"alg":"eddsa","kid":"ops-1","typ":"{typ}"}}"#)),
        with("algorithm twice", &format!(r#"{{"alg":"none","alg":"EdDSA","kid":"ops-1","typ":"{typ}"}}"#)),
        with("algorithm as a list", &format!(r#"{{"alg":["EdDSA"],"kid":"ops-1","typ":"{typ}"}}"#)),
        with("critical extension", &format!(r#"{{"alg":"EdDSA","kid":"ops-1","typ":"{typ}","crit":["b64"]}}"#)),
        with("unencoded payload", &format!(r#"{{"alg":"EdDSA","kid":"ops-1","typ":"{typ}","b64":false}}"#)),
        with("own key in the header", &format!(r#"{{"alg":"EdDSA","kid":"ops-1","typ":"{typ}","jwk":{{}}}}"#)),
        with("no media type", r#"{"alg":"EdDSA","kid":"ops-1"}"#),
        with("key name with a path", &format!(r#"{{"alg":"EdDSA","kid":"../ops-1","typ":"{typ}"}}"#)),
        with("key name in Cyrillic", &format!(r#"{{"alg":"EdDSA","kid":"оps-1","typ":"{typ}"}}"#)),
        with("key name with a zero byte", &format!(r#"{{"alg":"EdDSA","kid":"ops-1\u0000","typ":"{typ}"}}"#)),
        with(
            "key name with a hidden character",
            &format!("{{\"alg\":\"EdDSA\",\"kid\":\"ops-1\u{200b}\",\"typ\":\"{typ}\"}}"),
        ),
        with("key name in wide letters", &format!(r#"{{"alg":"EdDSA","kid":"ｏｐｓ-1","typ":"{typ}"}}"#)),
    ];
    for kind in ["genesis-root+json", "genesis-grant+json", "JWT"] {
        cases.push(with(
            &format!("a signature made for a document of type {kind}"),
            &format!(r#"{{"alg":"EdDSA","kid":"ops-1","typ":"{kind}"}}"#),
        ));
    }
    // The public key as the secret of a MAC: what a careless library would take.
    cases.push(bundle("public key as a MAC's secret", SHAPE, |s| {
        let header = HEADER.replace("EdDSA", "HS256");
        let (payload, protected) = (encode(s.apart().1.to_string()), encode(header));
        let public = super::stage::key("ops-1").public();
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public.as_bytes());
        let tag = ring::hmac::sign(&secret, format!("{protected}.{payload}").as_bytes());
        json!({"payload": payload, "signatures": [{"protected": protected, "signature": encode(tag)}]}).to_string()
    }));
    cases
}

fn keys() -> Vec<Case> {
    vec![
        bundle("a stranger's signature", STRANGER, |s| s.signed(&["nobody"], |_| {})),
        bundle("a stranger's signature beside an operator's", STRANGER, |s| s.signed(&["ops-1", "nobody"], |_| {})),
        bundle("a revoked operator", STRANGER, |s| s.signed(&["gone"], |_| {})),
        bundle("a revoked operator as second signer", STRANGER, |s| s.signed(&["ops-1", "gone"], |_| {})),
        bundle("key confusion: a root key", STRANGER, |s| s.signed(&["root-1"], |_| {})),
        bundle("key confusion: a former delivery key", STRANGER, |s| s.signed(&["hub-0"], |_| {})),
        bundle("key confusion: the delivery key under its own name", STRANGER, |s| by_delivery_key(s, "hub-1")),
        bundle("key confusion: the delivery key under an operator's name", SIGNATURE, |s| by_delivery_key(s, "ops-1")),
        bundle("another key under an operator's name", SIGNATURE, |s| {
            sign_with(&s.bundle(stop()), &[&key_as("ops-1", "thief")])
        }),
        bundle("an operator's key under another operator's name", SIGNATURE, |s| {
            sign_with(&s.bundle(stop()), &[&key_as("ops-2", "ops-1")])
        }),
    ]
}

fn by_delivery_key(stage: &Stage, kid: &str) -> String {
    let header = HEADER.replace("ops-1", kid);
    let (payload, protected) = (encode(stage.apart().1.to_string()), encode(header));
    let signature = encode(stage.hub().sign_bytes(format!("{protected}.{payload}").as_bytes()));
    json!({"payload": payload, "signatures": [{"protected": protected, "signature": signature}]}).to_string()
}

/// Each field of a bundle changed after it was signed.
fn tampered() -> Vec<Case> {
    let fields = [
        ("id", json!("0192f0a1-1111-7000-8000-000000000001")),
        ("issuer", json!("ops-2")),
        ("issued_at", json!("2026-01-01T00:00:00.000Z")),
        ("not_before", json!("2025-12-01T00:00:00.000Z")),
        ("not_after", json!("2027-01-01T00:00:00.000Z")),
        ("targets", json!({"all": true})),
        ("queue", json!("security")),
        ("priority", json!(1)),
        ("rollout", json!({"waves": []})),
        ("commands", json!([{"action": "DELETE_WORKFLOW", "payload": {"key": "hook"}}])),
        ("force", json!({"reason": "x", "expect": {"workflows_deleted": 1}})),
        ("grant", json!("e30")),
    ];
    let case = |(field, value): (&'static str, Value)| {
        bundle(format!("tampered field {field}"), SIGNATURE, move |s| {
            let (mut document, mut payload) = s.apart();
            payload[field] = value.clone();
            document["payload"] = encode(payload.to_string()).into();
            document.to_string()
        })
    };
    fields.into_iter().map(case).collect()
}

fn signatures() -> Vec<Case> {
    let with = |name: &str, change: fn(Vec<u8>) -> Vec<u8>| {
        bundle(name, SIGNATURE, move |s| {
            let (mut document, _) = s.apart();
            let at = &mut document["signatures"][0]["signature"];
            let bytes = data_encoding::BASE64URL_NOPAD.decode(at.as_str().unwrap().as_bytes()).unwrap();
            *at = encode(change(bytes)).into();
            document.to_string()
        })
    };
    vec![
        with("a signature with a bit flipped", |mut bytes| {
            bytes[40] ^= 1;
            bytes
        }),
        with("a signature cut short", |bytes| bytes[..63].to_vec()),
        with("a signature of nothing", |_| vec![]),
        with("a signature of zeros", |_| vec![0; 64]),
        with("the same signature written otherwise", |mut bytes| {
            let mut carry = 0;
            for (byte, order) in bytes[32..].iter_mut().zip(GROUP_ORDER) {
                let sum = u16::from(*byte) + u16::from(order) + carry;
                *byte = u8::try_from(sum & 0xff).unwrap();
                carry = sum >> 8;
            }
            bytes
        }),
        bundle("a signature of another bundle", SIGNATURE, |s| {
            let (mut document, _) = s.apart();
            document["payload"] = s.apart().0["payload"].clone();
            document.to_string()
        }),
        bundle("a signature over the payload without its header", SIGNATURE, |s| {
            let (mut document, payload) = s.apart();
            document["payload"] = encode(payload.to_string()).into();
            document["signatures"][0]["signature"] = encode(sign_bytes("ops-1", payload.to_string().as_bytes())).into();
            document.to_string()
        }),
        bundle("a right signature under another header", SIGNATURE, |s| {
            let (mut document, _) = s.apart();
            document["signatures"][0]["protected"] = encode(HEADER.replace("ops-1", "ops-2")).into();
            document.to_string()
        }),
        bundle("a wrong signature beside a right one", SIGNATURE, |s| {
            let (mut document, _) = s.apart();
            let mut second = document["signatures"][0].clone();
            second["protected"] = encode(HEADER.replace("ops-1", "ops-2")).into();
            document["signatures"].as_array_mut().unwrap().push(second);
            document.to_string()
        }),
        bundle("two signatures by one key", SIGNATURE, |s| {
            let (mut document, _) = s.apart();
            let second = document["signatures"][0].clone();
            document["signatures"].as_array_mut().unwrap().push(second);
            document.to_string()
        }),
    ]
}
