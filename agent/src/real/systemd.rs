//! The service manager: tells it that the agent is ready, alive, stopping (sd_notify(3)). Without one nothing happens.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where the manager listens.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that started this process, if any.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        let watchdog = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).map(Duration::from_micros);
        Self::new(variable("NOTIFY_SOCKET").as_deref(), watchdog)
    }

    fn new(path: Option<&str>, watchdog: Option<Duration>) -> Self {
        let address = path.and_then(|path| match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(path).ok(),
        });
        Self { socket: address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address))), watchdog }
    }

    /// The agent works.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The agent still works; the manager kills one that does not say so.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// The agent is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// How often [`ServiceManager::alive`] is to be called: three times within what the manager waits.
    pub fn interval(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|watchdog| watchdog / 3)
    }

    fn tell(&self, state: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::warn!("the service manager cannot be told {state:?}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_manager_and_asks_for_three_pings_in_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let service = ServiceManager::new(path.to_str(), Some(Duration::from_secs(30)));
        service.ready();
        service.alive();
        service.stopping();
        let heard = || {
            let mut buffer = [0; 64];
            let length = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!(heard(), "READY=1");
        assert_eq!((heard().as_str(), heard().as_str()), ("WATCHDOG=1", "STOPPING=1"));
        assert_eq!(service.interval(), Some(Duration::from_secs(10)));
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let service = ServiceManager::new(None, Some(Duration::from_secs(30)));
        service.ready();
        assert_eq!(service.interval(), None);
    }
}
