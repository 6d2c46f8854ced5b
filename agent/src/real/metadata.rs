//! The provider's metadata service: the droplet's public address, read strictly, and the rule that keeps containers away
//! from it.
//!
//! The service answers whoever asks from this machine, and user-data stays readable there for the droplet's whole life. What
//! containers send is forwarded, what the machine itself sends is not: two rules of the routing table let the machine ask on
//! and refuse everybody else, whatever becomes of the firewall's tables when Docker or ufw load theirs anew. The kernel
//! forgets them at a reboot, so they are put back at each start of the agent. Containers in the network of the host are not
//! kept away; the stack has none.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where every provider's metadata service is.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// DigitalOcean's path of the first public address (its metadata API, version 1).
const PATH: &str = "/metadata/v1/interfaces/public/0/ipv4/address";
/// For connecting, and for each part of the answer; the service is on the same host.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Status line, headers and an address.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;
/// Within the data folder: the address as it was read first, for starts at which the service does not answer.
const ADDRESS_FILE: &str = "public-ip";
/// Before the kernel's own rules, which begin at 32766; the machine's own packets first.
const RULE_OWN: &str = "16901";
const RULE_OTHERS: &str = "16902";

/// Why the metadata service cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// No answer, and none from before.
    #[error("the metadata service at {ADDRESS} does not answer")]
    Silent(#[source] std::io::Error),
    /// An answer that is no public IPv4 address and nothing else.
    #[error("the metadata service answered {0:?} where a public address should be")]
    Answer(String),
}

/// The droplet's public address.
///
/// # Errors
/// Every [`MetadataError`].
pub fn public_ip(data_dir: &Path) -> Result<Ipv4Addr, MetadataError> {
    let file = data_dir.join(ADDRESS_FILE);
    match ask(SocketAddr::from((ADDRESS, 80))) {
        Ok(answer) => {
            let ip = address_in(&answer)?;
            if let Err(error) = std::fs::write(&file, ip.to_string()) {
                // It is needed only when the service is silent; the data folder may be made later.
                tracing::debug!("cannot keep the public address in {}: {error}", file.display());
            }
            Ok(ip)
        }
        Err(silence) => {
            let kept = std::fs::read_to_string(&file).ok();
            let kept = kept.and_then(|text| parse(text.as_bytes()));
            kept.ok_or(MetadataError::Silent(silence))
        }
    }
}

fn ask(service: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&service, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // Version 1.0: no chunks, and the connection ends with the answer.
    write!(stream, "GET {PATH} HTTP/1.0\r\nHost: {ADDRESS}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The address in a whole answer of the service.
fn address_in(answer: &[u8]) -> Result<Ipv4Addr, MetadataError> {
    let no = || MetadataError::Answer(String::from_utf8_lossy(&answer[..answer.len().min(120)]).into_owned());
    let text = std::str::from_utf8(answer).map_err(|_| no())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(no)?;
    let status = head.lines().next().unwrap_or_default();
    let is_good = status.starts_with("HTTP/1.") && status.split(' ').nth(1) == Some("200");
    parse(body.as_bytes()).filter(|_| is_good).ok_or_else(no)
}

/// Exactly one address, with at most one line break behind it; none that cannot be reached from elsewhere.
fn parse(body: &[u8]) -> Option<Ipv4Addr> {
    let text = std::str::from_utf8(body).ok()?;
    let ip: Ipv4Addr = text.strip_suffix('\n').unwrap_or(text).parse().ok()?;
    let is_public = !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || ip.is_multicast());
    is_public.then_some(ip)
}

/// Keeps everybody but the machine itself away from the service. Idempotent.
///
/// # Errors
/// What `ip` says, for the log.
pub fn block() -> Result<(), String> {
    let service = format!("{ADDRESS}/32");
    let own = ["iif", "lo", "to", &service, "lookup", "main"];
    let others = ["to", &service, "prohibit"];
    for (priority, rule) in [(RULE_OWN, &own[..]), (RULE_OTHERS, &others[..])] {
        let there = ip(&["rule", "show", "pref", priority])?;
        if there.trim().is_empty() {
            ip(&[&["rule", "add", "pref", priority], rule].concat())?;
        }
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<String, String> {
    let ran = Command::new("ip").arg("-4").args(args).output().map_err(|e| format!("cannot run ip: {e}"))?;
    match ran.status.success() {
        true => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
        false => Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&ran.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.0 {status}\r\nServer: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn reads_an_address_and_nothing_else() {
        for body in ["192.0.2.7", "192.0.2.7\n"] {
            assert_eq!(address_in(&answer("200 OK", body)).unwrap(), Ipv4Addr::new(192, 0, 2, 7));
        }
        let bodies = [
            "",
            "\n",
            " 192.0.2.7",
            "192.0.2.7 ",
            "192.0.2.7\n\n",
            "192.0.2.7\r\n",
            "192.0.2.7\n192.0.2.8",
            "192.0.2",
            "192.0.2.007",
            "192.0.2.7/24",
            "2001:db8::7",
            "10.0.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "$(reboot)",
            "192.0.2.7\u{0}",
            "١٩٢.0.2.7",
        ];
        for body in bodies {
            assert!(address_in(&answer("200 OK", body)).is_err(), "{body:?}");
        }
        assert!(address_in(&answer("404 Not Found", "192.0.2.7")).is_err());
        assert!(address_in(b"192.0.2.7").is_err());
        assert!(address_in(b"HTTP/1.0 200 OK\r\n\r\n\xff").is_err());
    }

    #[test]
    fn asks_as_the_service_expects_and_gives_up_on_one_that_hangs() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let service = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(&answer("200 OK", "192.0.2.7")).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        assert_eq!(address_in(&ask(service).unwrap()).unwrap(), Ipv4Addr::new(192, 0, 2, 7));
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /metadata/v1/interfaces/public/0/ipv4/address HTTP/1.0\r\n"), "{request}");
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(ask(silent.local_addr().unwrap()).is_err());
    }
}
