//! A steady stream of webhook calls, each with an id of its own, and what became of each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::{JoinHandle, LocalSet};

/// What became of one call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Since the stream began.
    pub sent_at: Duration,
    /// Until the whole answer was there.
    pub took: Duration,
    /// The status, or why there is none.
    pub outcome: Result<u16, String>,
    /// Whether the answer said when to come again.
    pub retry_after: bool,
}

impl Call {
    /// Whether its caller knows what to do: it was done, or is to be tried again later.
    pub fn is_answered(&self) -> bool {
        self.outcome == Ok(200) || (self.outcome == Ok(503) && self.retry_after)
    }
}

/// The stream. It needs a [`LocalSet`] to run in.
pub struct Traffic {
    calls: Rc<RefCell<BTreeMap<String, Call>>>,
    under_way: Rc<RefCell<u64>>,
    driver: JoinHandle<()>,
    started: Instant,
}

impl Traffic {
    /// Begins to send `rate` calls a second to `url`. Ids begin with `name`.
    #[allow(clippy::disallowed_methods, reason = "what callers wait for is measured, not simulated")]
    pub fn start(client: reqwest::Client, url: String, name: &str, rate: u32) -> Self {
        let calls = Rc::new(RefCell::new(BTreeMap::new()));
        let under_way = Rc::new(RefCell::new(0));
        let started = Instant::now();
        let (all, open, name) = (Rc::clone(&calls), Rc::clone(&under_way), name.to_owned());
        let driver = tokio::task::spawn_local(async move {
            let mut every = tokio::time::interval(Duration::from_secs(1) / rate);
            for n in 0_u64.. {
                every.tick().await;
                let (client, url, id) = (client.clone(), url.clone(), format!("{name}-{n}"));
                let (all, open) = (Rc::clone(&all), Rc::clone(&open));
                *open.borrow_mut() += 1;
                tokio::task::spawn_local(async move {
                    let sent_at = started.elapsed();
                    let body = json!({"id": id}).to_string();
                    let sent = client.post(url).header("content-type", "application/json").body(body).send().await;
                    let mut retry_after = false;
                    let outcome = match sent {
                        Ok(answer) => {
                            let status = answer.status().as_u16();
                            retry_after = answer.headers().contains_key("retry-after");
                            answer.bytes().await.map(|_| status).map_err(|error| format!("{error:?}"))
                        }
                        Err(error) => Err(format!("{error:?}")),
                    };
                    let took = started.elapsed().saturating_sub(sent_at);
                    all.borrow_mut().insert(id, Call { sent_at, took, outcome, retry_after });
                    *open.borrow_mut() -= 1;
                });
            }
        });
        Self { calls, under_way, driver, started }
    }

    /// Since the stream began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Stops sending, waits for every answer and gives them all.
    pub async fn finish(self) -> BTreeMap<String, Call> {
        self.driver.abort();
        crate::stack::patiently("every call to be answered", || async {
            (*self.under_way.borrow() == 0).then_some(())
        })
        .await;
        self.calls.take()
    }
}

/// Runs something that uses [`Traffic`].
pub async fn with_traffic<T>(work: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(work).await
}
