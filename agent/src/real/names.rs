//! Name look-ups, by the machine's own resolvers and without the C library's, which a static binary cannot use.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;

use crate::ports::{EffectError, ErrorKind, Names};

/// The domain name system.
#[derive(Debug, Default)]
pub struct RealNames;

/// For all tries of one look-up.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Names for RealNames {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, EffectError> {
        let failed = |why: String| {
            let message = format!("cannot look {host} up: {why}; are the name servers of this machine in order?");
            EffectError::new(ErrorKind::Transient, "names_unreachable", message)
        };
        // Made anew each time: it is used once in months, and the machine's name servers may have changed.
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        let resolver = resolver.map_err(|e| failed(e.to_string()))?;
        // The last dot keeps the machine's own search domains out.
        match tokio::time::timeout(TIMEOUT, resolver.lookup_ip(format!("{host}."))).await {
            Err(_) => Err(failed(format!("no answer in {} s", TIMEOUT.as_secs()))),
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => Ok(vec![]),
            Ok(Err(error)) => Err(failed(error.to_string())),
        }
    }
}
