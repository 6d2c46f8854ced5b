//! Support access: operators grant it for minutes, for a ticket, to one key and one tenant.

use genesis_shared::grant::{Grant, Level, TYP};
use genesis_shared::id::WorkspaceId;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::NamedKey;

use crate::error::Error;
use crate::keys::SigningKey;
use crate::sign::Document;

/// What is granted to whom.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The ticket.
    pub ticket: String,
    /// Why.
    pub reason: String,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// How far.
    pub level: Level,
    /// Who may.
    pub support: NamedKey,
    /// For how long; the level's most when absent.
    pub minutes: Option<i64>,
}

/// Makes the grant and signs it with every key. Where the level needs a second operator, [`add_signature`] follows on
/// another machine.
///
/// # Errors
/// [`Error::Argument`] for a time beyond the level's, [`Error::SignedAlready`] for one key given twice.
pub fn grant(wish: Wish, keys: &[SigningKey], now: Timestamp) -> Result<(Grant, Document), Error> {
    let minutes = wish.minutes.unwrap_or(wish.level.minutes_max());
    if !(1..=wish.level.minutes_max()).contains(&minutes) {
        let why = format!("from 1 to {} for {} access", wish.level.minutes_max(), wish.level.name());
        return Err(Error::Argument { what: "--minutes".into(), why });
    }
    let Wish { ticket, reason, workspace, level, support, .. } = wish;
    let not_after = now.plus_millis(minutes * 60_000);
    let grant = Grant { ticket, reason, workspace, level, support, issued_at: now, not_after };
    let mut document = Document::draft(&serde_json::to_vec(&grant).expect("a grant has a JSON form"));
    for key in keys {
        document.sign(TYP, key)?;
    }
    Ok((grant, document))
}

/// Adds one more operator's signature.
///
/// # Errors
/// [`Error::Json`] where it is no grant, [`Error::SignedAlready`].
pub fn add_signature(document: &mut Document, key: &SigningKey) -> Result<Grant, Error> {
    let grant = read_unverified(document)?;
    document.sign(TYP, key)?;
    Ok(grant)
}

/// Reads a grant without verifying it: droplets do that.
///
/// # Errors
/// [`Error::Json`].
pub fn read_unverified(document: &Document) -> Result<Grant, Error> {
    let what = || "the support grant".to_owned();
    genesis_shared::json::parse_as(&document.payload()?).map_err(|source| Error::Json { what: what(), source })
}

/// A grant in words.
pub fn in_words(grant: &Grant, signed: usize) -> String {
    let (level, needed) = (grant.level.name(), grant.level.signers());
    format!(
        "{level} access for {} to workspace {} until {}\n  ticket  {}: {}\n  signed  {signed} of {needed} needed",
        grant.support.kid, grant.workspace, grant.not_after, grant.ticket, grant.reason
    )
}
