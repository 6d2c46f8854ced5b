//! `POST sidecar/renew`: a droplet wins a token back with its identity key, however long it was away.

use axum::Json;
use axum::extract::State;
use genesis_shared::id::{Digest, DropletId, PublicKey};
use genesis_shared::wire::{ErrorBody, RENEW_AUDIENCE, RenewAnswer, RenewClaims, RenewRequest};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::body::{In, STRANGER_BYTES_MAX};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::random;
use crate::store::enrolment::{RENEWALS_MAX, Renewal};

/// Gives a new sidecar token for a JWT by the identity key. Each `jti` is accepted once; `iat` may be anything, for a
/// droplet's clock may be wrong.
#[utoipa::path(post, path = "/api/v1/sidecar/renew", tag = "agent", request_body = RenewRequest, security(()),
    responses(
        (status = 200, body = RenewAnswer),
        (status = 401, body = ErrorBody, description = "bad_assertion, assertion_used"),
        (status = 409, body = ErrorBody, description = "renewals_used_up")
    ))]
pub async fn renew(
    State(hub): State<Hub>,
    In(request): In<RenewRequest, STRANGER_BYTES_MAX>,
) -> Result<Json<RenewAnswer>, ApiError> {
    let bad = |_| refused();
    let header = jsonwebtoken::decode_header(&request.assertion).map_err(bad)?;
    let droplet: DropletId = header.kid.and_then(|kid| kid.parse().ok()).ok_or_else(refused)?;
    let identity = hub.store.identity(droplet.clone()).await?.ok_or_else(refused)?;
    let claims = verify(&request.assertion, &identity.key)?;
    let usable = (16..=128).contains(&claims.jti.len());
    if claims.sub != droplet || claims.aud != RENEW_AUDIENCE || !usable {
        return Err(refused());
    }
    let sidecar_token = random::token();
    let digest = Digest::of(sidecar_token.as_bytes());
    match hub.store.renew(droplet, identity.enrolment, claims.jti, digest, hub.clock.now()).await? {
        Renewal::Renewed(token_expires_at) => Ok(Json(RenewAnswer { sidecar_token, token_expires_at })),
        Renewal::Replayed => Err(ApiError::unauthorised(
            "assertion_used",
            "this assertion was used before; sign a new one with a new jti",
        )),
        Renewal::UsedUp => {
            let message = format!(
                "this identity was renewed {RENEWALS_MAX} times; issue a new provisioning token for the droplet, with which it enrols again"
            );
            Err(ApiError::conflict("renewals_used_up", message))
        }
    }
}

/// One answer for everything that is wrong: whether a droplet exists is nobody's business.
fn refused() -> ApiError {
    let message =
        "not an EdDSA JWT by this droplet's identity key with kid, sub, aud and a jti of 16 to 128 characters";
    ApiError::unauthorised("bad_assertion", message)
}

fn verify(assertion: &str, key: &PublicKey) -> Result<RenewClaims, ApiError> {
    let mut validation = Validation::new(Algorithm::EdDSA);
    // There is no exp, and the audience is compared by the caller.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoded = jsonwebtoken::decode(assertion, &DecodingKey::from_ed_der(key.as_bytes()), &validation);
    decoded.map(|token| token.claims).map_err(|_| refused())
}
