//! The trust ceremony: drafts the trust root from public files, and lets k people on k machines sign it.

use std::path::Path;

use genesis_shared::command::{Action, Class};
use genesis_shared::id::{Digest, KeyId, PublicKey, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::{Allowance, NamedKey, OperatorKey, RootKeys, Signers, TYP, TrustError, TrustRoot};

use crate::error::Error;
use crate::keys::{Kind, PrivateKey, PublicFile, SigningKey};
use crate::sign::Document;

/// One day in milliseconds.
pub const DAY_MS: i64 = 24 * 3600 * 1000;

/// A draft of a trust root: the document without a signature, its content, and what droplets will pin.
#[derive(Debug)]
pub struct Draft {
    /// The content.
    pub root: TrustRoot,
    /// The document to sign.
    pub document: Document,
    /// Digest of its payload.
    pub digest: Digest,
}

/// Makes the unsigned document.
///
/// # Errors
/// [`Error::Trust`] where the root contradicts itself, for example by one key under two names.
pub fn draft(root: TrustRoot) -> Result<Draft, Error> {
    let payload = serde_json::to_vec(&root).expect("a trust root has a JSON form");
    let document = Document::draft(&payload);
    check(&document)?;
    Ok(Draft { root, document, digest: Digest::of(&payload) })
}

/// Runs the consistency rules of `shared` on a draft. They sit behind the parsing of a signed document, so a copy is
/// signed with a throw-away key; that this key is unknown is expected, any contradiction is found before.
fn check(draft: &Document) -> Result<(), Error> {
    let mut copy = Document::draft(&draft.payload()?);
    let nobody: KeyId = "not-a-root-key".parse()?;
    copy.sign(TYP, &PrivateKey::new(nobody, Kind::Signing, [0; 32]).signing()?)?;
    match TrustRoot::verify(copy.to_text().as_bytes(), None) {
        Err(error @ TrustError::Inconsistent(_)) => Err(error.into()),
        Ok(_)
        | Err(
            TrustError::Jws(_)
            | TrustError::NotPinned { .. }
            | TrustError::BelowThreshold { .. }
            | TrustError::NotNext { .. }
            | TrustError::BelowFormerThreshold { .. }
            | TrustError::Contradicts { .. },
        ) => Ok(()),
    }
}

/// Reads the content of a draft or signed root without verifying it: for showing, and for knowing who may sign.
///
/// # Errors
/// [`Error::Json`] where it is no trust root.
pub fn read_unverified(document: &Document) -> Result<(TrustRoot, Digest), Error> {
    let payload = document.payload()?;
    let what = || "the trust root".to_owned();
    let root = genesis_shared::json::parse_as(&payload).map_err(|source| Error::Json { what: what(), source })?;
    Ok((root, Digest::of(&payload)))
}

/// Reads a signed root that its owner trusts: its own threshold is checked, its succession is not.
///
/// # Errors
/// [`Error::Trust`] and those of reading a file.
pub fn load(file: &Path) -> Result<TrustRoot, Error> {
    Ok(TrustRoot::verify_alone(&crate::files::read(file)?)?.into_inner())
}

/// Adds one root key's signature: of this root, or of the one before it, whose threshold must be met as well.
///
/// # Errors
/// [`Error::NotARootKey`] where name and key are not listed together, [`Error::SignedAlready`].
pub fn sign(document: &mut Document, key: &SigningKey, previous: Option<&TrustRoot>) -> Result<(), Error> {
    let (root, _) = read_unverified(document)?;
    let keys = root.root.keys.iter().chain(previous.into_iter().flat_map(|root| &root.root.keys));
    let listed = keys.into_iter().any(|known| known.kid == *key.kid() && known.public_key == key.public());
    if !listed {
        return Err(Error::NotARootKey(key.kid().clone()));
    }
    document.sign(TYP, key)
}

/// What `trust init` was asked for, options already read.
#[derive(Debug)]
pub struct Request {
    /// Root keys.
    pub root_keys: Vec<NamedKey>,
    /// How many of them must sign.
    pub threshold: usize,
    /// Operators with their scopes.
    pub operators: Vec<OperatorKey>,
    /// The hub's delivery key.
    pub delivery: NamedKey,
    /// The recovery key.
    pub recovery: NamedKey,
    /// Distinct signers per class.
    pub signers: Signers,
    /// From when.
    pub issued_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

impl From<Request> for TrustRoot {
    fn from(request: Request) -> Self {
        Self {
            version: 1,
            issued_at: request.issued_at,
            expires_at: request.expires_at,
            root: RootKeys { keys: request.root_keys, threshold: request.threshold },
            operators: request.operators,
            signers: request.signers,
            delivery: vec![request.delivery],
            recovery: request.recovery,
            revoked: Vec::new(),
        }
    }
}

/// A public file as a named key.
pub fn named(file: PublicFile) -> NamedKey {
    NamedKey { kid: file.kid, public_key: file.public_key }
}

/// Reads `FILE.pub` or `kid=KEY`.
///
/// # Errors
/// [`Error::Id`] and everything that [`PublicFile::load`] refuses.
pub fn named_key(text: &str) -> Result<NamedKey, Error> {
    match text.split_once('=') {
        Some((kid, key)) if !Path::new(text).exists() => {
            Ok(NamedKey { kid: kid.parse()?, public_key: key.parse::<PublicKey>()? })
        }
        _ => Ok(named(PublicFile::load(Path::new(text), Kind::Signing)?)),
    }
}

/// Reads `FILE.pub:SCOPE[,SCOPE…]`; see [`operator_key`].
///
/// # Errors
/// [`Error::Argument`] where there is no scope, and those of [`operator_key`] and [`PublicFile::load`].
pub fn operator(text: &str, from: Timestamp, until: Timestamp) -> Result<OperatorKey, Error> {
    let Some((file, scopes)) = text.split_once(':') else {
        let why = "needs a scope, for example ops-1.pub:read,change".to_owned();
        return Err(Error::Argument { what: format!("--operator {text}"), why });
    };
    operator_key(PublicFile::load(Path::new(file), Kind::Signing)?, scopes, from, until)
}

/// An operator's key with its scopes, a list of classes, actions by name, `support=LEVEL`, `workspace=ID` and
/// `queue=NAME`.
///
/// # Errors
/// [`Error::Argument`] for an unknown scope or none that allows anything.
pub fn operator_key(file: PublicFile, scopes: &str, from: Timestamp, until: Timestamp) -> Result<OperatorKey, Error> {
    let PublicFile { kid, public_key, .. } = file;
    let refused = |why: String| Error::Argument { what: format!("the scope of operator {kid}"), why };
    let (mut allow, mut workspaces, mut queues) = (Vec::new(), Vec::<WorkspaceId>::new(), Vec::new());
    for scope in scopes.split(',') {
        if let Some(id) = scope.strip_prefix("workspace=") {
            workspaces.push(id.parse()?);
        } else if let Some(queue) = scope.strip_prefix("queue=") {
            if !genesis_shared::bundle::QUEUES.contains(&queue) {
                return Err(refused(format!("no queue is called {queue:?}")));
            }
            queues.push(queue.to_owned());
        } else if let Some(level) = scope.strip_prefix("support=") {
            allow.push(Allowance::Support(level.parse().map_err(refused)?));
        } else {
            allow.push(allowance(scope).ok_or_else(|| refused(format!("{scope:?} is neither a class nor an action")))?);
        }
    }
    if allow.is_empty() {
        return Err(refused("allows nothing; name a class (read, operate, change, destroy) or an action".into()));
    }
    let (workspaces, queues) = (some_if_any(workspaces), some_if_any(queues));
    Ok(OperatorKey { kid, public_key, allow, workspaces, queues, not_before: from, not_after: until })
}

fn some_if_any<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

fn allowance(text: &str) -> Option<Allowance> {
    match text {
        "read" => Some(Allowance::Class(Class::Read)),
        "operate" => Some(Allowance::Class(Class::Operate)),
        "change" => Some(Allowance::Class(Class::Change)),
        "destroy" => Some(Allowance::Class(Class::Destroy)),
        name => name.parse::<Action>().ok().map(|action| Allowance::Action(action.name().to_owned())),
    }
}

/// Reads `read=1,operate=1,change=1,destroy=2`; what is not named keeps its default.
///
/// # Errors
/// [`Error::Argument`].
pub fn signers(text: &str) -> Result<Signers, Error> {
    let refused = |why: &str| Error::Argument { what: format!("--signers {text}"), why: why.to_owned() };
    let mut signers = Signers { read: 1, operate: 1, change: 1, destroy: 2 };
    for part in text.split(',') {
        let (class, count) = part.split_once('=').ok_or_else(|| refused("each part is CLASS=NUMBER"))?;
        let count: usize = count.parse().map_err(|_| refused("each part is CLASS=NUMBER"))?;
        if count == 0 {
            return Err(refused("at least one operator signs everything"));
        }
        match class {
            "read" => signers.read = count,
            "operate" => signers.operate = count,
            "change" => signers.change = count,
            "destroy" => signers.destroy = count,
            _ => return Err(refused("the classes are read, operate, change and destroy")),
        }
    }
    Ok(signers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn key(kid: &str, kind: Kind, seed: u8) -> PrivateKey {
        PrivateKey::new(kid.parse().unwrap(), kind, [seed; 32])
    }

    /// Three people make their root keys in folders of their own; only public files meet.
    fn ceremony(folders: &[tempfile::TempDir]) -> Draft {
        let mut root_keys = Vec::new();
        for (n, folder) in (1..).zip(folders) {
            let (_, public) = key(&format!("root-{n}"), Kind::Signing, n).save(folder.path()).unwrap();
            root_keys.push(named(PublicFile::load(&public, Kind::Signing).unwrap()));
        }
        let (_, ops) = key("ops-1", Kind::Signing, 11).save(folders[0].path()).unwrap();
        let (from, until) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
        let request = Request {
            root_keys,
            threshold: 2,
            operators: vec![operator(&format!("{}:read,change,RESTART_N8N", ops.display()), from, until).unwrap()],
            delivery: named(key("hub-1", Kind::Signing, 12).public().unwrap()),
            recovery: named(key("recovery-1", Kind::Recovery, 13).public().unwrap()),
            signers: signers("destroy=2").unwrap(),
            issued_at: from,
            expires_at: until,
        };
        draft(request.into()).unwrap()
    }

    #[test]
    fn two_of_three_keys_in_separate_folders_make_a_root_and_one_does_not() {
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let draft = ceremony(&folders);
        let load = |n: usize| SigningKey::load(&folders[n].path().join(format!("root-{}.key", n + 1))).unwrap();

        let mut document = draft.document;
        sign(&mut document, &load(0), None).unwrap();
        let refused = TrustRoot::verify(document.to_text().as_bytes(), None).unwrap_err();
        assert!(matches!(refused, TrustError::BelowThreshold { signed: 1, threshold: 2 }), "{refused:?}");

        // The file travels to the third person's machine.
        let mut document = Document::parse(document.to_text().as_bytes()).unwrap();
        sign(&mut document, &load(2), None).unwrap();
        let root = TrustRoot::verify(document.to_text().as_bytes(), Some(draft.digest)).unwrap();
        assert_eq!(root.signers().len(), 2);
        assert_eq!(*root.get(), draft.root);
    }

    #[test]
    fn a_key_that_is_not_listed_does_not_sign() {
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut document = ceremony(&folders).document;
        // The right name with another key is a stranger too.
        for stranger in [key("root-9", Kind::Signing, 1), key("root-1", Kind::Signing, 99)] {
            let refused = sign(&mut document, &stranger.signing().unwrap(), None);
            assert!(matches!(refused, Err(Error::NotARootKey(_))));
        }
    }

    #[test]
    fn a_root_that_contradicts_itself_is_refused_before_anybody_signs() {
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let good = ceremony(&folders).root;
        let mut twice = good.clone();
        twice.delivery[0].public_key = twice.operators[0].public_key;
        let mut unreachable = good;
        unreachable.root.threshold = 4;
        for root in [twice, unreachable] {
            assert!(matches!(draft(root), Err(Error::Trust(TrustError::Inconsistent(_)))));
        }
    }

    #[test]
    fn an_operator_option_with_an_unknown_or_missing_scope_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (_, public) = key("ops-1", Kind::Signing, 1).save(folder.path()).unwrap();
        for scopes in ["", ":", ":everything", ":queue=template", ":read,queue=fast"] {
            let text = format!("{}{scopes}", public.display());
            assert!(operator(&text, Timestamp::default(), Timestamp::default()).is_err(), "{scopes}");
        }
        assert!(signers("change=0").is_err() && signers("all=1").is_err());
    }
}
