//! Every way in which a command of `genesisctl` can fail: a stable code, what happened, the next step.

use std::io;
use std::path::PathBuf;

use genesis_shared::audit::Broken;
use genesis_shared::bundle::BundleError;
use genesis_shared::id::{IdError, KeyId};
use genesis_shared::json::JsonError;
use genesis_shared::jws::JwsError;
use genesis_shared::seal::SealError;
use genesis_shared::trust::TrustError;
use genesis_shared::wire::ErrorBody;

/// What went wrong. `Display` says what happened; [`Error::next_step`] what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system gives no random bytes.
    #[error("the system gives no random bytes")]
    Entropy,
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that would have to be overwritten.
    #[error("{} exists already and is never overwritten", .0.display())]
    Exists(PathBuf),
    /// A key file that is none, or of another kind than needed.
    #[error("{} is not usable as a key file: {why}", path.display())]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An option or file whose value makes no sense.
    #[error("{what}: {why}")]
    Argument {
        /// Which option, or what the input is.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// An identifier that is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Input that is not strict JSON, or not of the expected shape.
    #[error("{what} cannot be read")]
    Json {
        /// What the input is.
        what: String,
        /// Why.
        source: JsonError,
    },
    /// A bundle that no droplet would run.
    #[error("the bundle is not acceptable")]
    Bundle(#[from] BundleError),
    /// A signed document that does not verify.
    #[error("the signatures do not verify")]
    Jws(#[from] JwsError),
    /// A trust root that does not verify.
    #[error("the trust root is refused")]
    Trust(#[from] TrustError),
    /// Something cannot be sealed.
    #[error("the secret cannot be sealed")]
    Seal(#[from] SealError),
    /// One key signs a document once.
    #[error("key {0} has already signed this document")]
    SignedAlready(KeyId),
    /// A key that the trust root does not list as a root key.
    #[error("key {0} is not a root key of this trust root")]
    NotARootKey(KeyId),
    /// A bundle whose signatures are right but whose signers may not ask this.
    #[error("the signers may not ask this: {0}")]
    NotAllowed(String),
    /// The template in this binary does not fit what was given.
    #[error("the template cannot be ignited: {0}")]
    Template(String),
    /// Neither `--hub` nor `GENESIS_HUB`.
    #[error("no hub was given")]
    NoHub,
    /// Neither `--token-file` nor `GENESIS_TOKEN`.
    #[error("no API token was given")]
    NoToken,
    /// The client for the hub cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// No answer from the hub.
    #[error("the hub at {url} gives no answer")]
    Unreachable {
        /// The URL that was asked.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The hub answered with an error.
    #[error("the hub refused it ({status} {}): {} [request {}]", body.code, body.message, body.request_id)]
    Hub {
        /// HTTP status.
        status: u16,
        /// The hub's own words.
        body: Box<ErrorBody>,
    },
    /// An answer that is none of the hub's.
    #[error("the hub at {url} answered {status} with something unexpected: {why}")]
    Answer {
        /// The URL that was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// What is unexpected.
        why: String,
    },
    /// The droplet's answer to a job is not a success.
    #[error("job {job_id} ended as {state} ({code}): {message}")]
    Job {
        /// Which job.
        job_id: String,
        /// Its final state.
        state: String,
        /// The droplet's code.
        code: String,
        /// The droplet's words.
        message: String,
    },
    /// Waiting took too long.
    #[error("{what} did not happen within {seconds} s")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// A binary that the demo runs is not there.
    #[error("{} is not there", .0.display())]
    NotInstalled(PathBuf),
    /// Cargo could not build the binaries that the demo runs.
    #[error("hub, agent and stand-in cannot be built: {0}")]
    Build(String),
    /// A process of the demo could not do its part.
    #[error("{what}: {why}")]
    Process {
        /// Which process, doing what.
        what: String,
        /// What it did instead, with the last lines of its log.
        why: String,
    },
    /// The demo ran, and its result is not what it should be.
    #[error("the demo did not reach its goal: {0}")]
    DemoResult(String),
    /// An audit chain is not as it was written.
    #[error("the audit chain {chain} is broken: {broken}")]
    Audit {
        /// Its name.
        chain: String,
        /// Where and how.
        broken: Broken,
    },
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Stable machine-readable name; the hub's or droplet's own where one of them refused.
    pub fn code(&self) -> &str {
        match self {
            Self::Entropy => "no_entropy",
            Self::Read { .. } => "cannot_read",
            Self::Write { .. } => "cannot_write",
            Self::Exists(_) => "file_exists",
            Self::KeyFile { .. } => "invalid_key_file",
            Self::Argument { .. } => "invalid_argument",
            Self::Id(_) => "invalid_id",
            Self::Json { .. } => "invalid_json",
            Self::Bundle(_) => "invalid_bundle",
            Self::Jws(_) => "invalid_signature",
            Self::Trust(_) => "invalid_trust_root",
            Self::Seal(_) => "cannot_seal",
            Self::SignedAlready(_) => "signed_already",
            Self::NotARootKey(_) => "not_a_root_key",
            Self::NotAllowed(_) => "not_allowed",
            Self::Template(_) => "invalid_template",
            Self::NoHub => "no_hub",
            Self::NoToken => "no_token",
            Self::Client(_) => "client_setup",
            Self::Unreachable { .. } => "hub_unreachable",
            Self::Hub { body, .. } => &body.code,
            Self::Answer { .. } => "unexpected_answer",
            Self::Job { code, .. } => code,
            Self::Timeout { .. } => "timeout",
            Self::NotInstalled(_) => "not_installed",
            Self::Build(_) => "build_failed",
            Self::Process { .. } => "process_failed",
            Self::DemoResult(_) => "demo_failed",
            Self::Audit { .. } => "audit_broken",
            Self::Interrupted => "interrupted",
        }
    }

    /// What to do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Entropy => "check that /dev/urandom is there",
            Self::Read { .. } => "check the path and its permissions",
            Self::Write { .. } => "check that the folder exists, is writable and has space",
            Self::Exists(_) => "choose another name, or move the old file away first",
            Self::KeyFile { .. } => "make a key with `genesisctl key new`, or name the right file",
            Self::Argument { .. } | Self::Id(_) => "correct it; `--help` of the command has an example",
            Self::Json { .. } => "correct the input; it must be strict JSON (no key twice, nothing after the document)",
            Self::Bundle(_) => "correct the spec and sign again",
            Self::Jws(_) => "take the file as it was signed; a file that was edited or damaged must be signed again",
            Self::Trust(_) => "see `genesisctl trust show FILE`; let the missing root keys sign with `trust sign`",
            Self::Seal(_) => "check the recipient key; `genesisctl droplet show ID` prints the current one",
            Self::SignedAlready(_) => "let another key sign",
            Self::NotARootKey(_) => "sign with one of the root keys that `genesisctl trust show` lists",
            Self::NotAllowed(_) => "let operators whose scope covers it sign; `genesisctl trust show` lists the scopes",
            Self::Template(_) => "give every credential and variable that the manifests in golden-template/ name",
            Self::NoHub => "give --hub URL or set GENESIS_HUB",
            Self::NoToken => "give --token-file FILE or set GENESIS_TOKEN; `genesis-hub token create` makes one",
            Self::Client(_) => "check --hub and --ca; the CA file must be PEM",
            Self::Unreachable { .. } => "check --hub, --ca and the network, then run the same command again",
            Self::Hub { status: 401 | 403, .. } => "use a token with the scope that this call needs",
            Self::Hub { body, .. } if body.retryable => "run the same command again in a moment",
            Self::Hub { .. } => "correct what the hub names; its log has the request id",
            Self::Answer { .. } => "check that --hub names a Genesis hub of this version",
            Self::Job { .. } => {
                "correct what it names and sign a new bundle; `genesisctl job show ID` prints every step"
            }
            Self::Timeout { .. } => "see `genesisctl job list` and `droplet show`; watching again is safe",
            Self::NotInstalled(_) => {
                "install genesis-hub and genesis-agent beside genesisctl and give --n8n-url URL, or run \
                 `cargo run --release --bin genesisctl -- demo` in a checkout"
            }
            Self::Build(_) => "see what cargo says above",
            Self::Process { .. } => "see what it says above; with --keep the demo leaves its folder with all logs",
            Self::DemoResult(_) => {
                "run the demo with --keep and read agent.log and hub.log in the folder that it names"
            }
            Self::Audit { .. } => {
                "keep the file, export again, and compare with what `genesis-agent audit` prints on the droplet: one of \
                 the two keepers has lost or changed what it wrote"
            }
            Self::Interrupted => "run it again when you are ready; everything it started was stopped",
        }
    }
}
