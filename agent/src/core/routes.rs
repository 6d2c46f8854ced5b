//! The proxy's configuration as a value: settings and what the journal knows of the stack -> Caddy's JSON.
//!
//! ```text
//!                     proxy's container                                                       n8n's container
//! world -- TLS --> "public" --dial /run/genesis/gate--> n8n.sock --> "inner" --when ready--> n8n:5678
//!                                     ^ link, made and removed by the agent
//!                  "check" 127.0.0.1:9099 --the same way, marked--> "inner" --always--> n8n:5678/rest/settings
//! ```
//!
//! **The gate** is a link to the socket behind which n8n is. While it is there requests pass. While it is missing no
//! connection can be made, so each request waits where it is and tries again, its body unread, until the link is back:
//! from the moment it is removed nothing passes, whatever the proxy has noticed, also after its restart, and nobody has to
//! be alive to hold the requests. One connection per request is made for it, so that none is left open behind a closed
//! gate.
//!
//! **Readiness.** Behind the gate a request waits until n8n really answers: an n8n that is down refuses, one that
//! migrates swallows every request with 200, one that loads answers 404. The check goes through the gate itself; while it
//! is closed n8n counts as not ready, so nothing that waits behind it slips through to an n8n that is just being tried.

use genesis_shared::limits::HELD_REQUEST_S;
use serde_json::{Value, json};

use crate::core::stack::{N8N_PORT, PROXY_FOLDER, StackRow, StackSettings};

/// Names of files in the folder that the proxy shares with the agent: its configuration.
pub const CONFIG_FILE: &str = "caddy.json";
/// The admin interface.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// The link that requests pass through.
pub const GATE: &str = "gate";
/// Where it leads.
pub const GATE_TARGET: &str = "n8n.sock";
/// The authority that the ACME server is to be believed by.
pub const ACME_CA_FILE: &str = "acme-ca.pem";
/// The upstream whose requests are those that n8n has at a moment.
pub const N8N_UPSTREAM: &str = "n8n:5678";

/// Between two tries of a waiting request. Measured: with both numbers as they are here the first answer comes 96 ms
/// after the gate opens (p50; p99 166 ms), the last of 500 after 800 ms; the tries of 500 take a fifth of one core.
const TRY_EVERY: &str = "100ms";
/// Between two looks at whether n8n is ready; it is what a waiting request loses at most beyond [`TRY_EVERY`].
const CHECK_EVERY: &str = "200ms";
/// What n8n may take to answer such a look; on one core it is busy for longer only when it serves nobody anyway.
const CHECK_TIMEOUT: &str = "500ms";
/// Header that marks the look on its way through the gate.
const CHECK_HEADER: &str = "X-Genesis-Check";
/// How long websockets and event streams outlive the configuration under which they began.
const STREAMS_STAY: &str = "24h";
/// Seconds after which a client that was refused may come again.
const RETRY_AFTER_S: u64 = 10;

/// The configuration that the proxy is to run with.
pub fn config(settings: &StackSettings, stack: &StackRow) -> Value {
    let hosts = stack.hosts(settings);
    json!({
        "admin": {"listen": format!("unix/{PROXY_FOLDER}/{ADMIN_SOCKET}|0600"), "config": {"persist": false}},
        "logging": {"logs": {"default": {
            "level": "INFO",
            // It would write five lines a second for as long as requests are held.
            "exclude": ["http.handlers.reverse_proxy.health_checker.active"],
        }}},
        "apps": {
            "http": {"servers": {"public": public(&hosts, stack.suspended), "inner": inner(), "check": check()}},
            "tls": {"automation": {"policies": policies(&hosts, settings)}},
        },
    })
}

fn public(hosts: &[&str], suspended: bool) -> Value {
    let proxy = json!({
        "handler": "reverse_proxy",
        "upstreams": [{"dial": format!("unix/{PROXY_FOLDER}/{GATE}")}],
        "transport": one_connection_each(),
        "load_balancing": waiting(),
        "flush_interval": -1,
        "stream_close_delay": STREAMS_STAY,
    });
    let suspension = answer("service_suspended", "this service is suspended; ask whoever runs it for you", 3_600);
    // Nobody outside may pass for the check.
    let unmark = json!({"handler": "headers", "request": {"delete": [CHECK_HEADER]}});
    let mut server = json!({
        "listen": [":443"],
        "routes": [{
            "match": [{"host": hosts}],
            "handle": [unmark, if suspended { suspension } else { proxy }],
            "terminal": true,
        }],
        "errors": refusal(),
    });
    // Whoever calls an address names no host in the handshake.
    if let Some(address) = hosts.iter().find(|host| is_address(host)) {
        server["tls_connection_policies"] = json!([{"default_sni": address}]);
    }
    server
}

fn inner() -> Value {
    let marked = json!({
        "match": [{"header": {CHECK_HEADER: ["1"]}}],
        // Another spelling of the same name: requests in flight and health are kept by spelling.
        "handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": format!("n8n.:{N8N_PORT}")}]}],
        "terminal": true,
    });
    let proxy = json!({
        "handler": "reverse_proxy",
        "upstreams": [{"dial": N8N_UPSTREAM}],
        "transport": one_connection_each(),
        "load_balancing": waiting(),
        "health_checks": {"active": {
            "uri": "/rest/settings",
            "upstream": "127.0.0.1:9099",
            "interval": CHECK_EVERY,
            "timeout": CHECK_TIMEOUT,
            "expect_status": 200,
            "expect_body": "userManagement",
            "passes": 1,
            "fails": 1,
        }},
        "flush_interval": -1,
        "stream_close_delay": STREAMS_STAY,
    });
    json!({
        "listen": [format!("unix/{PROXY_FOLDER}/{GATE_TARGET}|0600")],
        "automatic_https": {"disable": true},
        // What "public" says of the client is true; without this n8n would see no client at all.
        "trusted_proxies_unix": true,
        "routes": [marked, {"handle": [proxy]}],
        "errors": refusal(),
    })
}

fn check() -> Value {
    let through_the_gate = json!({
        "handler": "reverse_proxy",
        "upstreams": [{"dial": format!("unix/{PROXY_FOLDER}/{GATE}")}],
        "transport": one_connection_each(),
        "headers": {"request": {"set": {CHECK_HEADER: ["1"]}}},
    });
    json!({
        "listen": ["127.0.0.1:9099"],
        "automatic_https": {"disable": true},
        "routes": [{"handle": [through_the_gate]}],
    })
}

/// A request that no connection could be made for waits. One that n8n may have taken is never sent a second time, also a
/// GET: many a webhook does something on a GET. Hence the matcher that matches nothing.
fn waiting() -> Value {
    json!({
        "try_duration": format!("{HELD_REQUEST_S}s"),
        "try_interval": TRY_EVERY,
        "retry_match": [{"method": ["NONE"]}],
    })
}

/// A connection that is used again may be closed by the other side in that very moment; Caddy's HTTP client then sends a GET
/// once more by itself. At the gate one that is left open would lead past it.
fn one_connection_each() -> Value {
    json!({"protocol": "http", "keep_alive": {"enabled": false}})
}

fn refusal() -> Value {
    let message = "n8n does not answer at the moment; try again in a few seconds";
    json!({"routes": [{"handle": [answer("n8n_unavailable", message, RETRY_AFTER_S)]}]})
}

/// A 503 that says what is the matter and when to come again.
fn answer(code: &str, message: &str, retry_after_s: u64) -> Value {
    json!({
        "handler": "static_response",
        "status_code": 503,
        "headers": {"Content-Type": ["application/json"], "Retry-After": [retry_after_s.to_string()]},
        "body": json!({"code": code, "message": message}).to_string(),
    })
}

/// Certificates for these hosts and no others, each from the one authority of the settings.
fn policies(hosts: &[&str], settings: &StackSettings) -> Value {
    let issuer = |address: bool| match settings.acme_directory.as_deref() {
        Some("internal") => json!({"module": "internal"}),
        directory => {
            let mut issuer = json!({"module": "acme"});
            if let Some(directory) = directory {
                issuer["ca"] = json!(directory);
            }
            if settings.acme_ca_file.is_some() {
                issuer["trusted_roots_pem_files"] = json!([format!("{PROXY_FOLDER}/{ACME_CA_FILE}")]);
            }
            if address {
                // Let's Encrypt signs addresses for six days and under this profile only.
                issuer["profile"] = json!("shortlived");
            }
            issuer
        }
    };
    let (addresses, names): (Vec<&str>, Vec<&str>) = hosts.iter().partition(|host| is_address(host));
    let policy = |subjects: Vec<&str>, address| json!({"subjects": subjects, "issuers": [issuer(address)]});
    let of = |subjects: Vec<&str>, address| (!subjects.is_empty()).then(|| policy(subjects, address));
    [of(addresses, true), of(names, false)].into_iter().flatten().collect()
}

fn is_address(host: &str) -> bool {
    host.parse::<core::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::stack::settings_for_tests;

    fn issuers(settings: &StackSettings) -> Value {
        config(settings, &StackRow::default())["apps"]["tls"]["automation"]["policies"].clone()
    }

    #[test]
    fn the_bootstrap_name_comes_first_and_only_the_rows_hosts_get_certificates() {
        let mut stack = StackRow::default();
        stack.domains.insert("a.example".into(), true);
        let config = config(&settings_for_tests(), &stack);
        let expected = json!([settings_for_tests().host, "a.example"]);
        assert_eq!(config["apps"]["http"]["servers"]["public"]["routes"][0]["match"][0]["host"], expected);
        assert_eq!(config["apps"]["tls"]["automation"]["policies"][0]["subjects"], expected);
    }

    #[test]
    fn the_settings_choose_who_signs() {
        let mut settings = settings_for_tests();
        assert_eq!(issuers(&settings)[0]["issuers"], json!([{"module": "internal"}]));
        settings.acme_directory = None;
        assert_eq!(issuers(&settings)[0]["issuers"], json!([{"module": "acme"}]));
        settings.acme_directory = Some("https://acme.test/dir".into());
        settings.acme_ca_file = Some("/etc/acme.pem".into());
        let expected = json!([{"module": "acme", "ca": "https://acme.test/dir",
            "trusted_roots_pem_files": ["/run/genesis/acme-ca.pem"]}]);
        assert_eq!(issuers(&settings)[0]["issuers"], expected);
    }

    #[test]
    fn an_address_gets_a_short_lived_certificate_and_is_served_without_a_name() {
        let settings = StackSettings { host: "192.0.2.7".into(), acme_directory: None, ..settings_for_tests() };
        let policies = issuers(&settings);
        assert_eq!(
            policies,
            json!([{"subjects": ["192.0.2.7"], "issuers": [{"module": "acme", "profile": "shortlived"}]}])
        );
        let config = config(&settings, &StackRow::default());
        let policies = &config["apps"]["http"]["servers"]["public"]["tls_connection_policies"];
        assert_eq!(*policies, json!([{"default_sni": "192.0.2.7"}]));
    }
}
