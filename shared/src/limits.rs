//! Every bound of the system as a named constant with its arithmetic; nothing in Genesis is unbounded.

/// Largest bundle in bytes, as received. Seven Golden Template workflows are about 150 KB of JSON, 200 KB once
/// base64url-encoded; 1 MiB leaves room for five times that and still fits a 1 GB droplet many times over.
pub const BUNDLE_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting accepted in signed JSON. n8n workflows nest about 12 deep; serde_json itself stops at 128.
pub const JSON_DEPTH_MAX: usize = 64;

/// Commands in one bundle. Seven credentials, seven workflows and their activations are 21; three times that.
pub const BUNDLE_COMMANDS_MAX: usize = 64;

/// Credentials and workflows in one desired state: what is put by as many commands of a bundle.
pub const DESIRED_THINGS_MAX: usize = BUNDLE_COMMANDS_MAX;

/// Signatures on one bundle or trust root. Thresholds are 1 to 3 in practice.
pub const SIGNATURES_MAX: usize = 16;

/// Workspaces that one bundle may name one by one: 15,000 x 39 bytes = 585 KB, within `BUNDLE_BYTES_MAX`.
pub const BUNDLE_WORKSPACES_MAX: usize = 15_000;

/// `not_after - not_before` of a bundle at most: 30 days (protocol.md, "Bundle").
pub const BUNDLE_VALIDITY_MS_MAX: i64 = 30 * 24 * 3600 * 1000;

/// Largest trust root in bytes: 500 operator keys of about 500 bytes each.
pub const TRUST_ROOT_BYTES_MAX: usize = 256 * 1024;

/// Largest signed support grant in bytes: a kilobyte of content and two signatures come to 2 KB in base64url.
pub const GRANT_BYTES_MAX: usize = 8 * 1024;

/// Ticket and reason of a support grant together, in bytes: a line or two for the audit.
pub const GRANT_TEXT_BYTES_MAX: usize = 512;

/// Trust roots that follow the pinned one: one a week for ten years are 520, each some KiB.
pub const TRUST_ROOTS_MAX: usize = 1024;

/// Largest answer with newer trust roots that the agent reads: 32 of the largest, or hundreds of common ones.
pub const TRUST_ROOTS_BYTES_MAX: usize = 32 * TRUST_ROOT_BYTES_MAX;

/// A delivery token lives five minutes (protocol.md, "Delivery token").
pub const DELIVERY_TOKEN_TTL_S: i64 = 300;

/// How far the clocks of hub, operators and droplet may differ, in seconds. Freshness of a delivery does not depend on
/// it: the nonce of the very poll is in the token.
pub const CLOCK_SKEW_S: i64 = 300;

/// Largest plaintext that may be sealed: a credential is a few hundred bytes, a service-account key about 2.5 KB.
pub const SEALED_BYTES_MAX: usize = 64 * 1024;

/// Largest request body that the hub reads; the bundle is the largest thing that anyone sends. Twice
/// `BUNDLE_BYTES_MAX`, because a JSON string that carries one escapes its quotes.
pub const REQUEST_BODY_BYTES_MAX: usize = 2 * BUNDLE_BYTES_MAX;

/// Commands that one long poll leases at most. One changing saga runs at a time on a droplet, so a few suffice.
pub const POLL_COMMANDS_MAX: usize = 4;

/// Longest wait of a long poll in seconds; below the 30 s after which proxies commonly cut an idle request.
pub const POLL_WAIT_S_MAX: u64 = 25;

/// Largest poll answer that the agent reads: the leased bundles, each escaped as a JSON string.
pub const POLL_ANSWER_BYTES_MAX: usize = POLL_COMMANDS_MAX * REQUEST_BODY_BYTES_MAX;

/// Outbox records in one `POST results`; a batch also ends at `RESULTS_BATCH_BYTES_MAX`.
pub const RESULTS_BATCH_MAX: usize = 100;

/// Largest single outbox record in bytes, as JSON: 128 step traces of 100 bytes, a message of `MESSAGE_BYTES_MAX`, and
/// 64 answers of 200 bytes come to 30 KB.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

/// Records that may wait for the hub before the agent takes no more commands from it: a hub that makes refusals and
/// takes no reports would fill the disk of the workload. A refusal has some hundred bytes, at most 5 KiB: 20 MiB.
pub const OUTBOX_RECORDS_MAX: u64 = 4096;

/// Longest message of a result in bytes; a list of problems that is longer is cut and says so.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Bytes of records in one `POST results`: half of `REQUEST_BODY_BYTES_MAX`, the other half is for their envelope.
pub const RESULTS_BATCH_BYTES_MAX: usize = REQUEST_BODY_BYTES_MAX / 2;

/// Largest answer that the agent reads from n8n: its largest page, 250 workflows, at 60 KB each is 15 MB. A droplet
/// has some tens of workflows, so what is really held is below 2 MB.
pub const N8N_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Lifetime of a provisioning token: 15 minutes (protocol.md, "Identity").
pub const PROVISIONING_TOKEN_TTL_MS: i64 = 15 * 60 * 1000;

/// Lifetime of a sidecar token: 30 days.
pub const SIDECAR_TOKEN_TTL_MS: i64 = 30 * 24 * 3600 * 1000;

/// Free space without which an agent asks for no commands, in MiB: four bundles of `BUNDLE_BYTES_MAX` in the database
/// and once more in its write-ahead log are 8 MiB. What it cannot keep it would only make the hub hand out in vain.
pub const JOURNAL_RESERVE_MB: u64 = 8;

/// Connections to the agent's local socket that are served at once: one person with a bundle, one who looks, and room
/// for a monitor. Each may hold one request, so 8 MiB at most; a fifth waits.
pub const LOCAL_CONNECTIONS_MAX: usize = 4;

/// Largest request over the agent's local socket: a bundle as a JSON string, and 4 KiB around it.
pub const LOCAL_REQUEST_BYTES_MAX: usize = REQUEST_BODY_BYTES_MAX + 4 * 1024;

/// Largest line that comes back: a result, which fits a record, and 4 KiB around it.
pub const LOCAL_ANSWER_BYTES_MAX: usize = RECORD_BYTES_MAX + 4 * 1024;

/// Seconds that one end of the local socket waits for the other to say or take something. Local writes take
/// milliseconds; a loaded droplet that swaps takes seconds.
pub const LOCAL_PATIENCE_S: u64 = 15;

/// Accepted bundles without an outcome at which an agent asks for no more: 64 of `BUNDLE_BYTES_MAX` are 64 MiB. With
/// `POLL_COMMANDS_MAX` at a time that is sixteen polls ahead of its work; the rest waits at the hub, which loses none.
pub const OPEN_COMMANDS_MAX: u64 = 64;

/// Ended commands whose plan, events, answer and bundle stay whole, for whoever has to look: 100 at 200 KB, a whole
/// template each, are 20 MB; a droplet sees some ten changes a day.
pub const ENDED_COMMANDS_KEPT: i64 = 100;

/// Commands that one step of pruning takes on: 32 updates take less than a millisecond and one sync.
pub const PRUNE_ROWS: usize = 32;

/// Free pages that stay in the journal's file for what comes next: 256 of 4 KiB are 1 MiB, one largest bundle.
pub const JOURNAL_FREE_PAGES_KEPT: u64 = 256;

/// Pages that one step of pruning gives back: 256 KiB, the most that one such transaction moves.
pub const PRUNE_PAGES: u64 = 64;

/// Bytes of records that wait for delivery, beyond which metrics and then repeating events give way, the oldest first:
/// a year of metrics at 96 a day and 350 bytes is 12 MiB, and 2,700 results of 1.5 KB are the other 4. Results,
/// acknowledgements and refusals stay, whatever they weigh; they come from commands, of which none come without a hub.
pub const OUTBOX_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long a lease lasts without a sign of life from its droplet: two long polls and a restart of the agent.
pub const LEASE_TTL_MS: i64 = 60 * 1000;

/// How often a job is handed out before it becomes a dead letter (protocol.md, "Queues").
pub const DELIVERY_ATTEMPTS_MAX: u32 = 5;

/// How often a step is tried before its command fails. With a backoff cap of 30 s this spans about three minutes,
/// the longest that a starting n8n was seen to need on 1 GB.
pub const STEP_ATTEMPTS_MAX: u32 = 10;

/// How often an undo is tried before the command ends as `stuck`: longer than a step, for nobody repairs after it.
pub const UNDO_ATTEMPTS_MAX: u32 = 20;

/// Resumes of one command without a step finished in between before it fails as `stuck`: it ends crash loops.
pub const RESUMES_MAX: u32 = 10;

/// Backoff of the agent's retries in milliseconds: first and largest delay before jitter.
pub const BACKOFF_MS_MIN: u64 = 250;
/// See [`BACKOFF_MS_MIN`].
pub const BACKOFF_MS_MAX: u64 = 30_000;

/// Seconds between heartbeats unless the hub says otherwise.
pub const HEARTBEAT_INTERVAL_S: u64 = 60;

/// Seconds between two metrics reports unless the hub says otherwise.
pub const METRICS_INTERVAL_S: u64 = 900;

/// Seconds between two reconciliations unless the hub says otherwise.
pub const RECONCILE_INTERVAL_S: u64 = 900;

/// Host names in one command: as many certificates are asked for at once as an ACME server gives without a pause.
pub const DOMAINS_PER_COMMAND_MAX: usize = 10;

/// Host names of a droplet beside the configured one. Let's Encrypt gives 50 certificates a week for one registered
/// domain, so a droplet that has lost its disk gets all of them again at once.
pub const DOMAINS_MAX: usize = 40;

/// How long a command waits for the certificates of its host names; what comes later the report has.
pub const CERTIFICATE_WAIT_S: u64 = 20;

/// How long a request waits in the proxy for an n8n that does not answer: longer than a swap's hold with its rollback,
/// both of which end in [`READY_WAIT_S`] and [`DRAIN_WAIT_S`]: 30 + 60 to give up, 60 to be back, and a reserve.
pub const HELD_REQUEST_S: u64 = 180;

/// Lines of a log that are answered where nothing is said.
pub const LOG_LINES: u32 = 200;

/// Lines of a log that can be asked for; `LOG_BYTES_MAX` cuts long ones sooner.
pub const LOG_LINES_MAX: u32 = 1_000;

/// Bytes of a log in one answer: what may be sealed is the narrowest gate on its way.
pub const LOG_BYTES_MAX: usize = SEALED_BYTES_MAX / 2;

/// How long a swap looks for a moment without running executions while requests still pass.
pub const QUIET_WAIT_S: u64 = 300;

/// How long running executions may take to end once requests are held; n8n itself waits as long when it is stopped.
pub const DRAIN_WAIT_S: u64 = 30;

/// How long a started service may take until it answers (spec: "60 s without health").
pub const READY_WAIT_S: u64 = 60;

/// How long the container engine is waited for before a step gives up: a machine that boots, an engine's update.
pub const ENGINE_WAIT_S: u64 = 600;

/// How long image and database of before a swap are kept.
pub const PREVIOUS_KEPT_MS: i64 = 48 * 3600 * 1000;

/// MiB that must be free to pull an image: n8n's is about 900 on disk, and while it is unpacked its layers are there
/// twice.
pub const IMAGE_ROOM_MB: u64 = 2_048;

/// MiB that must stay free beside a copy of the database.
pub const SNAPSHOT_RESERVE_MB: u64 = 256;

/// Dumps of the database that are kept on the droplet; the oldest gives way.
pub const BACKUPS_MAX: usize = 3;

/// Between two looks at machine and stack (spec: samples every 15 s).
pub const SAMPLE_INTERVAL_S: u64 = 15;

/// Restarts of n8n by the engine within `CRASH_LOOP_WINDOW_S` that are a loop. The engine waits twice as long each time,
/// from 0.1 s to a minute: five come about within seconds when n8n ends at once.
pub const CRASH_LOOP_RESTARTS: usize = 5;

/// The window for them, in seconds.
pub const CRASH_LOOP_WINDOW_S: u64 = 600;

/// A disk that is this full is relieved of what can be had again (spec: 95 %).
pub const DISK_EMERGENCY_PERCENT: f32 = 95.0;

/// Below this it is relieved, and the ballast is put back (spec: 85 %).
pub const DISK_RELIEVED_PERCENT: f32 = 85.0;

/// A file that is there to be given up, in MiB: room for the database to go on for hours and for the agent to act.
pub const BALLAST_MB: u64 = 128;

/// Longest detail of an audit entry in bytes; a longer one is cut and says so. 64 names of 64 bytes are 4 KiB.
pub const AUDIT_DETAIL_BYTES_MAX: usize = 8 * 1024;

/// Largest signed checkpoint in bytes: its content has some 200.
pub const CHECKPOINT_BYTES_MAX: usize = 2 * 1024;

/// Checkpoints of the other side's chain that agent and hub keep: one a minute at most, so the last half hour, and
/// beside them the one that was kept first.
pub const CHECKPOINTS_KEPT: usize = 32;

/// Delivered audit entries that stay on the droplet: at 400 bytes each 800 KB; some 20 a day make three months.
pub const AUDIT_ENTRIES_KEPT: u64 = 2_000;

/// Audit entries that one step of pruning takes on.
pub const AUDIT_PRUNE_ROWS: i64 = 128;

/// Refusals of one kind that come within this time are one entry of the hub's audit, with their number.
pub const DENIALS_WINDOW_MS: i64 = 60 * 1000;

/// Jobs that may start within a second, over all queues, unless operators say otherwise (protocol.md, "Queues").
pub const STARTS_PER_S: u32 = 200;

/// The most that they can say: beyond what one hub can hand out.
pub const STARTS_PER_S_MAX: u32 = 100_000;

/// The largest number in flight that operators can give a queue: beyond what one hub can hold connected.
pub const IN_FLIGHT_MAX: u32 = 1_000_000;

/// How long an accepted job holds its place in flight without a sign of life from its droplet: three heartbeats.
pub const RUN_LEASE_MS: i64 = 3 * 60 * 1000;

/// First and largest bound of the wait before a job is handed out again, in milliseconds, before jitter.
pub const RETRY_MS_MIN: u64 = 1_000;
/// See [`RETRY_MS_MIN`]: five hand-outs at a minute each stay within the patience of whoever waits for the job.
pub const RETRY_MS_MAX: u64 = 60_000;

/// Share of failures at which a rollout pauses, and at which it is aborted (protocol.md, "Queues").
pub const ROLLOUT_PAUSE_AT: f64 = 0.05;
/// See [`ROLLOUT_PAUSE_AT`].
pub const ROLLOUT_ABORT_AT: f64 = 0.10;

/// Answers below which a rollout's share of failures is not judged: 2 of 20 are the 10 % that abort it.
pub const ROLLOUT_MIN_SAMPLE: u32 = 20;

/// Seconds after which a job that was handed out and is not answered counts as failed (spec: 120 s).
pub const ROLLOUT_VERIFY_S: u32 = 120;

/// Droplets in one batch of the strategies `high` and `low`, and seconds between batches (spec: 100 and 30 s).
pub const ROLLOUT_BATCH: u32 = 100;
/// See [`ROLLOUT_BATCH`].
pub const ROLLOUT_PAUSE_S: u32 = 30;

/// Waves of one rollout: 15,000 droplets in batches of 100 are 150; 1,024 reach over 100,000.
pub const ROLLOUT_WAVES_MAX: usize = 1_024;

/// What a sign of life may be late by before anybody notices: a clock that is 2 % slow beats every 61.2 s, 3.6 s late
/// after three; a reconnection takes up to 10 s.
pub const WATCH_GRACE_MS: i64 = 15 * 1000;

/// Heartbeats that are missing when a droplet is silent (protocol.md, "Health").
pub const MISSED_BEATS_SILENT: i64 = 3;

/// One in so many that fall silent within one heartbeat interval are a mass silence: 5 % (protocol.md, "Health").
pub const MASS_SILENCE_SHARE: usize = 20;

/// Fewer than this never are: a small fleet's first two failures must not freeze it.
pub const MASS_SILENCE_MIN: usize = 10;
/// Largest user-data of a new droplet: a quarter of what DigitalOcean takes (64 KiB), and what most other providers take.
pub const USER_DATA_BYTES_MAX: usize = 16 * 1024;

/// Largest binary of the agent that an update may bring: four times what it has.
pub const AGENT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// How long a new version of the agent may run until it must have proved itself: n8n need not be up for that, so a start
/// (2 s) and a few tries to reach the hub; with the start of the old version it stays below a minute.
pub const PROBATION_MS: u64 = 45_000;

/// How long fetching a binary may take in all: 8 MiB at 30 KB/s.
pub const AGENT_FETCH_S: u64 = 300;
