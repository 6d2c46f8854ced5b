//! What a stack command comes to: steps in a line, with the point from which there is no way back.
//!
//! A swap is: pull, check, look for a quiet moment, **hold** requests in the proxy, drain, stop the old, copy the
//! database, start the new, really ready, a probe, **release**. Until the release everything can be taken back: the new
//! container goes, the copy of the database takes its place again, the old container starts. From the release on requests
//! reach the new one, and only forward is left (architecture.md, "What the 1 GB means").
//!
//! The copy is made after n8n has stopped, so that a way back loses nothing that ran until then.

use genesis_shared::host::HostName;
use genesis_shared::stack::{BackupId, ImageRef, Service, StackCommand};
use serde::{Deserialize, Serialize};

use crate::core::stack::StackRow;

/// One effect on the stack.
///
/// IMPORTANT: in the journals of running droplets; only add variants and optional fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackStep {
    /// Brings the image here.
    PullImage {
        /// For which service.
        service: Service,
        /// Which.
        image: ImageRef,
    },
    /// Looks whether the service can run this image here; changes nothing.
    CheckSwap {
        /// Which service.
        service: Service,
        /// The new image.
        image: ImageRef,
    },
    /// Waits a while for a moment without running executions; changes nothing.
    AwaitQuiet,
    /// Makes new requests wait in the proxy.
    Hold,
    /// Waits a while until what n8n has begun is done; changes nothing.
    Drain,
    /// Stops a service. Its undo starts it again and waits until it is ready.
    Stop {
        /// Which.
        service: Service,
    },
    /// Copies n8n's database as it is.
    Snapshot,
    /// Puts a container with this image in the place of the service's and starts it. Its undo puts the image before
    /// in its place, not started where that is a matter of a later undo, and the copy of the database.
    Replace {
        /// Which.
        service: Service,
        /// The new image.
        image: ImageRef,
        /// The image before.
        former: ImageRef,
    },
    /// Starts a service that is there. Its undo stops it.
    Start {
        /// Which.
        service: Service,
    },
    /// Waits until a service really answers; changes nothing.
    AwaitReady {
        /// Which.
        service: Service,
    },
    /// Asks n8n for a registered webhook without running it; changes nothing.
    Probe,
    /// Puts n8n's database back to what a dump holds. Its undo puts the copy of before in its place.
    RestoreDump {
        /// Which.
        backup: BackupId,
    },
    /// Lets waiting requests go. From here on there is no way back.
    Release,
    /// Notes what the stack is to be from now on, and makes the proxy answer accordingly.
    Note {
        /// The stack as it is to be.
        stack: StackRow,
    },
    /// Makes the proxy serve the host names of this stack. Its undo makes it serve those of before.
    PutDomains {
        /// The stack as it is to be.
        stack: StackRow,
        /// The host names that the command named.
        hosts: Vec<HostName>,
        /// Those of them that must lead to this droplet before a certificate is asked for.
        check: Vec<HostName>,
    },
    /// Writes a dump of n8n's database.
    Dump,
    /// Reads a container's log; changes nothing.
    ReadLogs {
        /// Whose.
        container: Service,
    },
    /// Counts executions of the last day, as `COLLECT_METRICS` does; changes nothing.
    LastMetrics,
}

impl StackStep {
    /// For people and step traces.
    pub fn title(&self) -> String {
        match self {
            Self::PullImage { service, .. } => format!("pull_image {service}"),
            Self::CheckSwap { service, .. } => format!("check_swap {service}"),
            Self::AwaitQuiet => "await_quiet".into(),
            Self::Hold => "hold".into(),
            Self::Drain => "drain".into(),
            Self::Stop { service } => format!("stop {service}"),
            Self::Snapshot => "snapshot".into(),
            Self::Replace { service, .. } => format!("replace {service}"),
            Self::Start { service } => format!("start {service}"),
            Self::AwaitReady { service } => format!("await_ready {service}"),
            Self::Probe => "probe".into(),
            Self::RestoreDump { backup } => format!("restore_dump {backup}"),
            Self::Release => "release".into(),
            Self::Note { .. } => "note_stack".into(),
            Self::PutDomains { .. } => "put_domains".into(),
            Self::Dump => "dump".into(),
            Self::ReadLogs { container } => format!("read_logs {container}"),
            Self::LastMetrics => "last_metrics".into(),
        }
    }

    /// Whether it can leave something behind that an undo has to take back.
    pub fn has_effect(&self) -> bool {
        match self {
            Self::Hold
            | Self::Stop { .. }
            | Self::Snapshot
            | Self::Replace { .. }
            | Self::Start { .. }
            | Self::RestoreDump { .. }
            | Self::PutDomains { .. } => true,
            Self::PullImage { .. }
            | Self::CheckSwap { .. }
            | Self::AwaitQuiet
            | Self::Drain
            | Self::AwaitReady { .. }
            | Self::Probe
            | Self::Release
            | Self::Note { .. }
            | Self::Dump
            | Self::ReadLogs { .. }
            | Self::LastMetrics => false,
        }
    }

    /// Whether it is the point from which there is no way back.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Release)
    }
}

/// The steps of a command for a stack whose present images are `images`.
///
/// # Errors
/// The code and the words of a refusal: `image_not_configured` where nothing says what runs now, `service_at_rest` where
/// n8n was told to stay stopped and the command would start it.
pub fn steps(
    command: &StackCommand,
    image_of: impl Fn(Service) -> Option<ImageRef>,
    stack: &StackRow,
) -> Result<Vec<StackStep>, (&'static str, String)> {
    let n8n = Service::N8n;
    if wakes(command) && (stack.suspended || stack.quiesced) {
        let why = if stack.suspended { "suspended" } else { "made ready for power-off" };
        let message = format!("{}: the service is {why}; send RESUME_SERVICE first", command.action());
        return Err(("service_at_rest", message));
    }
    let pause = [StackStep::Hold, StackStep::Drain, StackStep::Stop { service: n8n }];
    let go_on = [StackStep::Start { service: n8n }, StackStep::AwaitReady { service: n8n }, StackStep::Release];
    Ok(match command {
        StackCommand::PullImage(target) => {
            vec![StackStep::PullImage { service: target.service, image: target.image.clone() }]
        }
        StackCommand::SwapContainer(target) => {
            let service = target.service;
            let former = image_of(service).ok_or_else(|| {
                ("image_not_configured", format!("nothing says which image {service} runs now; name it in [stack]"))
            })?;
            swap(service, &target.image, &former)
        }
        StackCommand::RestartN8n => [&pause[..], &go_on[..]].concat(),
        StackCommand::GetLogs(wish) => vec![StackStep::ReadLogs { container: wish.container }],
        StackCommand::Backup => vec![StackStep::Dump],
        // They replace nothing and wait for nobody: `domains` has their one step.
        StackCommand::AddDomains(_) | StackCommand::RemoveDomains(_) => vec![],
        StackCommand::Restore(wish) => {
            let restore = [StackStep::Snapshot, StackStep::RestoreDump { backup: wish.backup.clone() }];
            [&pause[..], &restore[..], &go_on[..]].concat()
        }
        StackCommand::Quiesce => rest(StackRow { quiesced: true, ..stack.clone() }, stack),
        StackCommand::Suspend => rest(StackRow { suspended: true, ..stack.clone() }, stack),
        StackCommand::ResumeService => {
            let awake = StackRow { quiesced: false, suspended: false, ..stack.clone() };
            [&go_on[..2], &[StackStep::Note { stack: awake }, StackStep::Release][..]].concat()
        }
    })
}

/// Whether n8n runs afterwards, whatever it did before.
fn wakes(command: &StackCommand) -> bool {
    match command {
        StackCommand::RestartN8n | StackCommand::Restore(_) => true,
        StackCommand::SwapContainer(target) => target.service != Service::Caddy,
        StackCommand::PullImage(_)
        | StackCommand::GetLogs(_)
        | StackCommand::Backup
        | StackCommand::AddDomains(_)
        | StackCommand::RemoveDomains(_)
        | StackCommand::Quiesce
        | StackCommand::Suspend
        | StackCommand::ResumeService => false,
    }
}

/// n8n is stopped, and stays so. Where it rests already there is nobody to wait for and nothing to count.
fn rest(wanted: StackRow, now: &StackRow) -> Vec<StackStep> {
    let (note, n8n) = (StackStep::Note { stack: wanted }, Service::N8n);
    if now.suspended || now.quiesced {
        return vec![note, StackStep::Release];
    }
    vec![
        StackStep::AwaitQuiet,
        StackStep::Hold,
        StackStep::Drain,
        // While n8n still answers.
        StackStep::LastMetrics,
        StackStep::Stop { service: n8n },
        note,
        StackStep::Release,
    ]
}

fn swap(service: Service, image: &ImageRef, former: &ImageRef) -> Vec<StackStep> {
    let (new, old) = (image.clone(), former.clone());
    let replace = StackStep::Replace { service, image: new.clone(), former: old };
    let ready = |service| StackStep::AwaitReady { service };
    let before = [StackStep::PullImage { service, image: new.clone() }, StackStep::CheckSwap { service, image: new }];
    let pause = [
        StackStep::AwaitQuiet,
        StackStep::Hold,
        StackStep::Drain,
        StackStep::Stop { service: Service::N8n },
        StackStep::Snapshot,
    ];
    let middle = match service {
        Service::N8n => vec![replace, ready(Service::N8n), StackStep::Probe],
        Service::Postgres => vec![
            replace,
            ready(Service::Postgres),
            StackStep::Start { service: Service::N8n },
            ready(Service::N8n),
            StackStep::Probe,
        ],
        // The door itself is what changes: there is nothing in front of it that could hold a request.
        Service::Caddy => return [&before[..], &[replace, ready(Service::Caddy), StackStep::Release][..]].concat(),
    };
    [&before[..], &pause[..], &middle[..], &[StackStep::Release][..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use genesis_shared::stack::ImageTarget;

    fn image(n: u8) -> ImageRef {
        format!("n8nio/n8n@sha256:{}", format!("{n:02x}").repeat(32)).parse().unwrap()
    }
    fn titles(command: &StackCommand) -> Vec<String> {
        let steps = steps(command, |_| Some(image(1)), &StackRow::default()).unwrap();
        steps.iter().map(StackStep::title).collect()
    }

    #[test]
    fn a_swap_holds_before_it_stops_and_copies_after() {
        let target = ImageTarget { service: Service::N8n, image: image(2) };
        let expected = [
            "pull_image n8n",
            "check_swap n8n",
            "await_quiet",
            "hold",
            "drain",
            "stop n8n",
            "snapshot",
            "replace n8n",
            "await_ready n8n",
            "probe",
            "release",
        ];
        assert_eq!(titles(&StackCommand::SwapContainer(target)), expected);
    }

    #[test]
    fn a_swap_of_the_database_stops_n8n_around_it() {
        let target = ImageTarget { service: Service::Postgres, image: image(2) };
        let titles = titles(&StackCommand::SwapContainer(target));
        let at = |title: &str| titles.iter().position(|t| t == title).unwrap();
        assert!(at("stop n8n") < at("replace postgres"));
        assert!(at("await_ready postgres") < at("start n8n"));
        assert!(at("await_ready n8n") < at("release"));
    }

    #[test]
    fn who_rests_is_woken_by_a_resumption_alone() {
        let target = |service| StackCommand::SwapContainer(ImageTarget { service, image: image(2) });
        for row in
            [StackRow { suspended: true, ..StackRow::default() }, StackRow { quiesced: true, ..StackRow::default() }]
        {
            let refused = |command| steps(&command, |_| Some(image(1)), &row).map_err(|(code, _)| code);
            for command in [StackCommand::RestartN8n, target(Service::N8n), target(Service::Postgres)] {
                assert_eq!(refused(command), Err("service_at_rest"));
            }
            assert!(refused(target(Service::Caddy)).is_ok());
            let [StackStep::Note { stack }, StackStep::Release] = &refused(StackCommand::Quiesce).unwrap()[..] else {
                panic!("there is nobody to wait for")
            };
            assert_eq!((stack.suspended, stack.quiesced), (row.suspended, true));
            assert!(
                refused(StackCommand::ResumeService).unwrap().contains(&StackStep::Note { stack: StackRow::default() })
            );
        }
    }

    #[test]
    fn the_last_metrics_are_counted_while_n8n_answers() {
        let expected = ["await_quiet", "hold", "drain", "last_metrics", "stop n8n", "note_stack", "release"];
        assert_eq!(titles(&StackCommand::Quiesce), expected);
    }

    #[test]
    fn a_restart_holds_requests_all_the_while() {
        let expected = ["hold", "drain", "stop n8n", "start n8n", "await_ready n8n", "release"];
        assert_eq!(titles(&StackCommand::RestartN8n), expected);
    }
}
