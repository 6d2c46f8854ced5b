//! The `[stack]` section of the agent's configuration: a TOML table -> [`StackSettings`], validated, with its defaults.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use genesis_shared::host::HostName;
use genesis_shared::stack::{ImageRef, Service};
use serde::Deserialize;

use crate::core::stack::{N8N_PORT, StackSettings};

/// What the network is called, and what every container's name begins with.
const NAME: &str = "genesis";
/// Where Docker listens on a stock machine.
const ENGINE_SOCKET: &str = "/var/run/docker.sock";
/// Every address of the machine.
const PUBLISH_IP: &str = "0.0.0.0";
/// The database's port on the loopback; also its own.
const POSTGRES_PORT: u16 = 5432;
/// n8n's schedules where nothing is said.
const TIMEZONE: &str = "UTC";
/// The zone that answers every name with the address in it. Last resort: all its users share one quota of certificates.
const SSLIP: &str = "sslip.io";

/// Where the name comes from by which the droplet is always reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Bootstrap {
    /// A host name of the operator's own zone, given as `host`.
    Zone,
    /// The public address itself, with a certificate for six days.
    Ip,
    /// The address as a name below sslip.io.
    Sslip,
}

/// The table as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStack {
    bootstrap: Option<Bootstrap>,
    host: Option<String>,
    name: Option<String>,
    folder: Option<String>,
    engine_socket: Option<String>,
    #[serde(default)]
    images: BTreeMap<Service, ImageRef>,
    publish_ip: Option<String>,
    http_port: Option<u16>,
    https_port: Option<u16>,
    n8n_port: Option<u16>,
    postgres_port: Option<u16>,
    memory_mb: Option<u64>,
    acme_directory: Option<String>,
    acme_ca_file: Option<String>,
    timezone: Option<String>,
}

/// A value that cannot be used: its key, itself, what would do.
pub(super) type Unusable = (&'static str, String, &'static str);

impl RawStack {
    /// Validates the table and fills its defaults in.
    pub(super) fn settings(self, data_dir: &Path, droplet_ip: Option<&str>) -> Result<StackSettings, Unusable> {
        let public_ip = droplet_ip.map(|text| address("droplet_ip", text)).transpose()?;
        let host = bootstrap_host(self.bootstrap, self.host, public_ip)?;
        let ports = [
            ("stack.http_port", self.http_port.unwrap_or(80)),
            ("stack.https_port", self.https_port.unwrap_or(443)),
            ("stack.n8n_port", self.n8n_port.unwrap_or(N8N_PORT)),
            ("stack.postgres_port", self.postgres_port.unwrap_or(POSTGRES_PORT)),
        ];
        for (n, (key, port)) in ports.iter().enumerate() {
            if *port == 0 || ports[..n].iter().any(|(_, other)| other == port) {
                return Err((*key, port.to_string(), "it must be a port from 1 to 65535 that no other port here is"));
            }
        }
        let publish_ip = self.publish_ip.unwrap_or_else(|| PUBLISH_IP.into());
        address("stack.publish_ip", &publish_ip)?;
        let folder = self.folder.unwrap_or_else(|| data_dir.join("stack").display().to_string());
        let socket = self.engine_socket.unwrap_or_else(|| ENGINE_SOCKET.into());
        Ok(StackSettings {
            name: engine_name(self.name.unwrap_or_else(|| NAME.into()))?,
            folder: absolute("stack.folder", folder)?,
            engine_socket: absolute("stack.engine_socket", socket.trim_start_matches("unix://").to_owned())?,
            images: self.images,
            host,
            public_ip,
            publish_ip,
            http_port: ports[0].1,
            https_port: ports[1].1,
            n8n_port: ports[2].1,
            postgres_port: ports[3].1,
            memory_mb: self.memory_mb,
            acme_directory: self.acme_directory.map(acme_directory).transpose()?,
            acme_ca_file: self.acme_ca_file.map(|path| absolute("stack.acme_ca_file", path)).transpose()?,
            timezone: timezone(self.timezone.unwrap_or_else(|| TIMEZONE.into()))?,
        })
    }
}

fn bootstrap_host(
    bootstrap: Option<Bootstrap>,
    host: Option<String>,
    public_ip: Option<IpAddr>,
) -> Result<String, Unusable> {
    let needs_ip = "it needs droplet_ip, the droplet's public address";
    match (bootstrap.unwrap_or(Bootstrap::Zone), host, public_ip) {
        (Bootstrap::Zone, Some(host), _) => match host.parse::<HostName>() {
            Ok(name) => Ok(name.to_string()),
            Err(_) => Err(("stack.host", host, "it must be a full host name in lower case, such as t1.example.com")),
        },
        (Bootstrap::Zone, None, _) => Err((
            "stack.host",
            String::new(),
            "name a host of your zone, or set stack.bootstrap to \"ip\" or \"sslip\"",
        )),
        (Bootstrap::Ip | Bootstrap::Sslip, Some(host), _) => {
            Err(("stack.host", host, "it follows from droplet_ip with this stack.bootstrap; leave it out"))
        }
        (Bootstrap::Ip, None, None) => Err(("stack.bootstrap", "ip".into(), needs_ip)),
        (Bootstrap::Sslip, None, None) => Err(("stack.bootstrap", "sslip".into(), needs_ip)),
        (Bootstrap::Ip, None, Some(ip)) => Ok(ip.to_string()),
        (Bootstrap::Sslip, None, Some(ip)) => Ok(format!("{}.{SSLIP}", ip.to_string().replace(['.', ':'], "-"))),
    }
}

fn address(key: &'static str, text: &str) -> Result<IpAddr, Unusable> {
    text.parse().map_err(|_| (key, text.to_owned(), "it must be an IP address"))
}

fn absolute(key: &'static str, path: String) -> Result<String, Unusable> {
    if Path::new(&path).is_absolute() { Ok(path) } else { Err((key, path, "it must be an absolute path")) }
}

/// The engine's own rule for names of containers and networks.
fn engine_name(name: String) -> Result<String, Unusable> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fits =
        (1..=40).contains(&name.len()) && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(is_plain);
    let expected = "it must be 1 to 40 of A-Z a-z 0-9 . _ -, starting with a letter or digit";
    if fits { Ok(name) } else { Err(("stack.name", name, expected)) }
}

fn acme_directory(url: String) -> Result<String, Unusable> {
    let fits = url == "internal" || url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
    let expected = "it must begin with https://, or be \"internal\" for the proxy's own authority";
    if fits { Ok(url) } else { Err(("stack.acme_directory", url, expected)) }
}

fn timezone(name: String) -> Result<String, Unusable> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(is_plain);
    if fits { Ok(name) } else { Err(("stack.timezone", name, "it must be a time zone such as Europe/Berlin")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, ip: Option<&str>) -> Result<StackSettings, Unusable> {
        toml::from_str::<RawStack>(text).unwrap().settings(Path::new("/var/lib/genesis"), ip)
    }
    fn key(text: &str, ip: Option<&str>) -> &'static str {
        parse(text, ip).unwrap_err().0
    }

    #[test]
    fn fills_in_defaults() {
        let settings = parse(r#"host = "t1.example.com""#, Some("192.0.2.7")).unwrap();
        assert_eq!((settings.name.as_str(), settings.folder.as_str()), ("genesis", "/var/lib/genesis/stack"));
        assert_eq!((settings.http_port, settings.https_port, settings.n8n_port), (80, 443, 5678));
        assert_eq!(settings.acme_directory, None, "which means Let's Encrypt");
        assert_eq!(settings.public_ip, Some("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn reads_every_setting() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let text = format!(
            "host = \"t1.example.com\"\nname = \"t\"\nfolder = \"/srv/t\"\nengine_socket = \"unix:///run/d.sock\"\n\
             publish_ip = \"127.0.0.1\"\nhttp_port = 1\nhttps_port = 2\nn8n_port = 3\npostgres_port = 4\n\
             memory_mb = 972\nacme_directory = \"https://ca.test/dir\"\nacme_ca_file = \"/ca.pem\"\n\
             timezone = \"Europe/Berlin\"\n[images]\nn8n = \"n8nio/n8n:2.8.4@{digest}\"\n"
        );
        let settings = parse(&text, None).unwrap();
        assert_eq!(settings.engine_socket, "/run/d.sock");
        assert_eq!(settings.images[&Service::N8n].repository(), "n8nio/n8n");
        assert_eq!((settings.memory_mb, settings.postgres_port), (Some(972), 4));
        assert_eq!(settings.acme_directory.as_deref(), Some("https://ca.test/dir"));
    }

    #[test]
    fn the_bootstrap_name_has_three_sources() {
        let ip = Some("192.0.2.7");
        assert_eq!(parse("host = \"t.example\"\nbootstrap = \"zone\"", ip).unwrap().host, "t.example");
        assert_eq!(parse("bootstrap = \"ip\"", ip).unwrap().host, "192.0.2.7");
        assert_eq!(parse("bootstrap = \"sslip\"", ip).unwrap().host, "192-0-2-7.sslip.io");
    }

    #[test]
    fn names_the_key_that_is_wrong() {
        assert_eq!(key("", None), "stack.host");
        assert_eq!(key("bootstrap = \"ip\"", None), "stack.bootstrap");
        assert_eq!(key("bootstrap = \"ip\"\nhost = \"t.example\"", Some("192.0.2.7")), "stack.host");
        assert_eq!(key("host = \"T.example\"", None), "stack.host");
        assert_eq!(key("host = \"t.example\"", Some("here")), "droplet_ip");
        for (line, expected) in [
            ("folder = \"stack\"", "stack.folder"),
            ("name = \"a b\"", "stack.name"),
            ("publish_ip = \"x\"", "stack.publish_ip"),
            ("n8n_port = 443", "stack.n8n_port"),
            ("http_port = 0", "stack.http_port"),
            ("acme_directory = \"http://ca.test\"", "stack.acme_directory"),
            ("timezone = \"\"", "stack.timezone"),
        ] {
            assert_eq!(key(&format!("host = \"t.example\"\n{line}"), None), expected);
        }
    }
}
