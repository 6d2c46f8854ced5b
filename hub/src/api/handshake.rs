//! `POST sidecar/handshake`: a droplet with a one-time token binds its own key to its workspace.

use axum::extract::State;
use axum::{Extension, Json};
use data_encoding::BASE64URL_NOPAD;
use genesis_shared::id::Digest;
use genesis_shared::wire::{ErrorBody, HandshakeAnswer, HandshakeRequest, handshake_proof};

use super::Peer;
use super::body::{In, STRANGER_BYTES_MAX};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::random;
use crate::store::enrolment::{Handshake, HandshakeContext};

/// Texts that a droplet says of itself may be so long; they are stored with its enrolment.
const TEXT_BYTES_MAX: usize = 512;

/// Binds a new identity key to the droplet and workspace of a provisioning token. The same token with the same key is
/// answered again within its 15 minutes; another key is refused.
#[utoipa::path(post, path = "/api/v1/sidecar/handshake", tag = "agent", request_body = HandshakeRequest, security(()),
    responses(
        (status = 200, body = HandshakeAnswer),
        (status = 401, body = ErrorBody, description = "bad_proof, token_unknown, token_expired, token_used"),
        (status = 403, body = ErrorBody, description = "not_yours"),
        (status = 409, body = ErrorBody, description = "no_trust_root")
    ))]
pub async fn handshake(
    State(hub): State<Hub>,
    peer: Option<Extension<Peer>>,
    In(request): In<HandshakeRequest, STRANGER_BYTES_MAX>,
) -> Result<Json<HandshakeAnswer>, ApiError> {
    check(&request)?;
    let droplet = request.droplet_id.clone();
    let sidecar_token = random::token();
    let context = HandshakeContext {
        sidecar_token: Digest::of(sidecar_token.as_bytes()),
        peer_ip: peer.map(|Extension(Peer(ip))| ip.to_canonical().to_string()),
        now: hub.clock.now(),
    };
    let unauthorised = |code, message: &str| Err(ApiError::unauthorised(code, message));
    match hub.store.handshake(request, context).await? {
        Handshake::Enrolled(token_expires_at, trust_root) => {
            tracing::info!(%droplet, "enrolled");
            if let Some(watched) = hub.store.watched(droplet).await? {
                hub.watching.add(watched, hub.clock.now());
            }
            Ok(Json(HandshakeAnswer { sidecar_token, token_expires_at, config: hub.settings.agent, trust_root }))
        }
        Handshake::NoTrustRoot => {
            let message = "the hub has no trust root yet; an operator must store one with PUT /api/v1/trust-root";
            Err(ApiError::conflict("no_trust_root", message))
        }
        Handshake::UnknownToken => {
            unauthorised("token_unknown", "no such provisioning token; ask an operator for a new one")
        }
        Handshake::Expired => {
            unauthorised("token_expired", "the provisioning token has ended; ask an operator for a new one")
        }
        Handshake::UsedByAnother => unauthorised(
            "token_used",
            "the provisioning token was used with another key; ask an operator for a new one",
        ),
        Handshake::NotYours => {
            let message = "the provisioning token was issued for another droplet or workspace";
            Err(ApiError::forbidden("not_yours", message))
        }
    }
}

/// Checks what needs no store: the proof above all, so that nobody can enrol a key that is not theirs.
fn check(request: &HandshakeRequest) -> Result<(), ApiError> {
    let texts = [&request.agent_version, &request.boot_epoch];
    let optional = [&request.droplet_ip, &request.webhook_url, &request.n8n_version];
    let mut lengths = texts.into_iter().chain(optional.into_iter().flatten()).map(String::len);
    if lengths.any(|length| length > TEXT_BYTES_MAX) {
        return Err(ApiError::malformed(format!("a text is longer than {TEXT_BYTES_MAX} bytes")));
    }
    let proof = BASE64URL_NOPAD.decode(request.proof.as_bytes()).unwrap_or_default();
    if request.identity_key.verifies(&handshake_proof(request), &proof) {
        return Ok(());
    }
    tracing::warn!(droplet = %request.droplet_id, "a handshake whose proof does not fit");
    Err(ApiError::unauthorised("bad_proof", "the proof is not the identity key's signature over this handshake"))
}
