//! Counts the tenant's executions at the hub's pace and puts the counts into the outbox.

use genesis_shared::report::Record;

use super::{Agent, Fatal};
use crate::ports::{Clock, World};

impl<W: World> Agent<W> {
    /// Counts for ever. A report covers the time since the one before; a new life of the agent begins a new span, and
    /// each report says where its span begins.
    pub(super) async fn gauge(&self) -> Result<(), Fatal> {
        let mut since = self.world.clock().now();
        loop {
            self.world.clock().sleep(self.a_little_later(self.pace.get().metrics_interval_s)).await;
            if self.has_space().is_err() {
                continue;
            }
            let now = self.world.clock().now();
            match self.exec().metrics(since).await {
                Ok(metrics) => {
                    self.journal.report(&Record::Metrics(metrics), now)?;
                    self.mail.notify_one();
                    since = now;
                }
                // The next report covers this span too.
                Err(error) => tracing::debug!(code = error.code, "cannot count executions: {error}"),
            }
        }
    }
}
