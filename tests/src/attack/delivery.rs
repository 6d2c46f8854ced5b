//! Attacks with delivery tokens, of which the attacker makes whatever he likes (A11).

use genesis_agent::sim::SimHub;
use genesis_shared::delivery::Claims;
use genesis_shared::id::{Digest, WorkspaceId};
use serde_json::json;

use super::stage::{encode, sign_bytes};
use super::{Case, token};

pub fn cases() -> Vec<Case> {
    let mut cases = claims();
    cases.extend(keys());
    cases
}

fn claims() -> Vec<Case> {
    macro_rules! claim {
        ($name:literal, $change:expr) => {
            token($name, |hub, mut claims| {
                let change: fn(&mut Claims) = $change;
                change(&mut claims);
                hub.sign_claims(&claims)
            })
        };
    }
    vec![
        claim!("token of another issuer", |c| c.iss = "other-hub".into()),
        claim!("token for another audience", |c| c.aud = "dashboard".into()),
        claim!("token for another tenant", |c| c.sub = WorkspaceId::from_random([9; 16])),
        claim!("cross-device replay: a token for another droplet", |c| c.droplet_id = "413".parse().unwrap()),
        claim!("mix-and-match: the token of another bundle", |c| c.bundle = Digest::of(b"another bundle")),
        claim!("mix-and-match: a token for other actions", |c| c.action = "HEALTH_CHECK".into()),
        claim!("token without an action", |c| c.action.clear()),
        claim!("stale nonce", |c| c.nonce = "0".repeat(32)),
        claim!("no nonce", |c| c.nonce.clear()),
        claim!("the nonce in other letters", |c| c.nonce = c.nonce.to_uppercase() + "A"),
        claim!("expired token", |c| (c.iat, c.exp) = (c.iat - 700, c.exp - 700)),
        claim!("token of the future", |c| (c.iat, c.exp) = (c.iat + 400, c.exp + 400)),
        claim!("token for too long", |c| c.exp += 1),
        claim!("token for ever", |c| c.exp = i64::MAX),
        claim!("token that ends before it begins", |c| c.exp = c.iat - 1),
        claim!("token from before all time", |c| c.iat = i64::MIN),
    ]
}

fn by(label: &str, header: &str, claims: &str) -> String {
    let input = format!("{}.{}", encode(header), encode(claims));
    format!("{input}.{}", encode(sign_bytes(label, input.as_bytes())))
}

fn text(claims: &Claims) -> String {
    json!(claims).to_string()
}

/// By the hub's own key, with another header or content.
fn by_hub(hub: &SimHub, header: &str, claims: &str) -> String {
    let input = format!("{}.{}", encode(header), encode(claims));
    format!("{input}.{}", encode(hub.sign_bytes(input.as_bytes())))
}

const HEADER: &str = r#"{"alg":"EdDSA","kid":"hub-1","typ":"JWT"}"#;

fn keys() -> Vec<Case> {
    vec![
        token("no token", |_, _| String::new()),
        token("half a token", |hub, c| hub.sign_claims(&c).rsplit_once('.').unwrap().0.to_owned()),
        token("token without a signature", |hub, c| format!("{}.", hub.sign_claims(&c).rsplit_once('.').unwrap().0)),
        token("token of algorithm none", |hub, c| by_hub(hub, r#"{"alg":"none","kid":"hub-1"}"#, &text(&c))),
        token("token of algorithm HS256 with the public key", |hub, c| {
            let input = format!("{}.{}", encode(r#"{"alg":"HS256","kid":"hub-1"}"#), encode(text(&c)));
            let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, hub.delivery_key().as_bytes());
            format!("{input}.{}", encode(ring::hmac::sign(&secret, input.as_bytes())))
        }),
        token("token by a stranger under the hub's name", |_, c| by("thief", HEADER, &text(&c))),
        token("token by a stranger under his own name", |_, c| {
            by("thief", &HEADER.replace("hub-1", "thief"), &text(&c))
        }),
        token("token by an operator's key", |_, c| by("ops-1", &HEADER.replace("hub-1", "ops-1"), &text(&c))),
        token("token by a revoked delivery key", |_, c| by("hub-0", &HEADER.replace("hub-1", "hub-0"), &text(&c))),
        token("token without a key name", |hub, c| by_hub(hub, r#"{"alg":"EdDSA"}"#, &text(&c))),
        token("token with a claim more", |hub, c| {
            by_hub(hub, HEADER, &text(&c).replacen('{', r#"{"scope":"admin","#, 1))
        }),
        token("token with a claim twice", |hub, c| by_hub(hub, HEADER, &text(&c).replacen('{', r#"{"nonce":"0","#, 1))),
        token("token in three parts of nothing", |_, _| "..".into()),
        token("token of a megabyte", |_, _| "e30.".repeat(250_000)),
    ]
}
