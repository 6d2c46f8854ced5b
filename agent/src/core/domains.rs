//! Host names beside the configured one: a command and the stack as it is -> the stack as it is to be.

use std::collections::BTreeMap;

use genesis_shared::desired::DesiredDomains;
use genesis_shared::host::HostName;
use genesis_shared::limits::DOMAINS_MAX;
use genesis_shared::stack::{AddDomains, RemoveDomains, StackCommand};

use crate::core::stack::{StackRow, StackSettings};
use crate::core::swap::StackStep;

/// The code and the words of a refusal.
pub type Refusal = (&'static str, String);

/// The one step of a command for host names; `None` for any other.
///
/// # Errors
/// Those of [`add`] and [`remove`].
pub fn step(command: &StackCommand, settings: &StackSettings, stack: &StackRow) -> Option<Result<StackStep, Refusal>> {
    if let StackCommand::AddDomains(wish) = command {
        Some(add(wish, settings, stack))
    } else if let StackCommand::RemoveDomains(wish) = command {
        Some(remove(wish, settings, stack))
    } else {
        None
    }
}

/// The step that makes these host names lead to n8n, too.
///
/// # Errors
/// `too_many_domains`: there would be more than [`DOMAINS_MAX`].
pub fn add(wish: &AddDomains, settings: &StackSettings, stack: &StackRow) -> Result<StackStep, Refusal> {
    let mut wanted = stack.clone();
    for host in wish.hosts.iter().filter(|host| host.as_str() != settings.host) {
        wanted.domains.entry(host.to_string()).or_insert(false);
    }
    if let Some(primary) = &wish.primary {
        // The configured name is the primary one where no other is.
        wanted.domains.iter_mut().for_each(|(host, is_primary)| *is_primary = host == primary.as_str());
    }
    let count = wanted.domains.len();
    if count > DOMAINS_MAX {
        let message = format!("this droplet would have {count} host names beside its own, {DOMAINS_MAX} are accepted");
        return Err(("too_many_domains", message));
    }
    let is_new = |host: &&HostName| host.as_str() != settings.host && !stack.domains.contains_key(host.as_str());
    let check = wish.hosts.iter().filter(is_new).cloned().collect();
    Ok(StackStep::PutDomains { stack: wanted, hosts: wish.hosts.clone(), check })
}

/// The step that takes these host names away.
///
/// # Errors
/// `bootstrap_domain`: the configured name, which always leads to n8n; `unknown_domain`: one that is not there.
pub fn remove(wish: &RemoveDomains, settings: &StackSettings, stack: &StackRow) -> Result<StackStep, Refusal> {
    let mut wanted = stack.clone();
    for host in &wish.hosts {
        if host.as_str() == settings.host {
            let message = format!("{host} is the name by which this droplet is always reached; it cannot be removed");
            return Err(("bootstrap_domain", message));
        }
        if wanted.domains.remove(host.as_str()).is_none() {
            return Err(("unknown_domain", format!("{host} was never added here; `status` lists what is")));
        }
    }
    Ok(StackStep::PutDomains { stack: wanted, hosts: wish.hosts.clone(), check: vec![] })
}

/// The step that makes exactly these host names lead to n8n beside the configured one.
pub fn set(wish: &DesiredDomains, settings: &StackSettings, stack: &StackRow) -> StackStep {
    let wanted = wish.hosts.iter().filter(|host| host.as_str() != settings.host);
    let wanted: BTreeMap<_, _> = wanted.map(|host| (host.to_string(), wish.primary.as_ref() == Some(host))).collect();
    let is_new = |host: &&HostName| host.as_str() != settings.host && !stack.domains.contains_key(host.as_str());
    let check = wish.hosts.iter().filter(is_new).cloned().collect();
    // What was stored was read from a command, so it is a host name.
    let gone = stack.domains.keys().filter(|host| !wanted.contains_key(*host)).filter_map(|host| host.parse().ok());
    let hosts = wish.hosts.iter().cloned().chain(gone).collect();
    StackStep::PutDomains { stack: StackRow { domains: wanted, ..stack.clone() }, hosts, check }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::stack::settings_for_tests;

    fn hosts(names: &[&str]) -> Vec<HostName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }
    fn added(names: &[&str], primary: Option<&str>, stack: &StackRow) -> Result<(StackRow, Vec<HostName>), Refusal> {
        let wish = AddDomains { hosts: hosts(names), primary: primary.map(|name| name.parse().unwrap()) };
        let step = add(&wish, &settings_for_tests(), stack)?;
        let StackStep::PutDomains { stack, check, .. } = step else { panic!("{step:?}") };
        Ok((stack, check))
    }

    #[test]
    fn a_new_primary_name_takes_the_place_of_the_one_before_which_stays() {
        let (one, check) = added(&["a.example", "b.example"], Some("a.example"), &StackRow::default()).unwrap();
        assert_eq!(check, hosts(&["a.example", "b.example"]));
        assert_eq!(one.primary_host(&settings_for_tests()), "a.example");
        let (two, check) = added(&["b.example", "c.example"], Some("b.example"), &one).unwrap();
        assert_eq!(check, hosts(&["c.example"]), "only what is new is looked up");
        assert_eq!(two.primary_host(&settings_for_tests()), "b.example");
        assert_eq!(two.domains.len(), 3);
    }

    #[test]
    fn the_configured_name_is_never_stored_beside_itself_and_can_be_primary_again() {
        let own = settings_for_tests().host;
        let (one, _) = added(&["a.example"], Some("a.example"), &StackRow::default()).unwrap();
        let (two, _) = added(&[&own], Some(&own), &one).unwrap();
        assert_eq!(two.primary_host(&settings_for_tests()), own);
        assert!(!two.domains.contains_key(&own));
    }

    #[test]
    fn refuses_to_remove_the_configured_name_and_what_is_not_there() {
        let (settings, stack) = (settings_for_tests(), StackRow::default());
        let refused = |name: &str| remove(&RemoveDomains { hosts: hosts(&[name]) }, &settings, &stack).unwrap_err().0;
        assert_eq!(refused(&settings.host), "bootstrap_domain");
        assert_eq!(refused("a.example"), "unknown_domain");
    }

    #[test]
    fn the_names_of_a_desired_state_are_all_that_there_are_then() {
        let (settings, own) = (settings_for_tests(), settings_for_tests().host);
        let (one, _) = added(&["a.example", "b.example"], Some("a.example"), &StackRow::default()).unwrap();
        let wish = DesiredDomains { hosts: hosts(&["b.example", "c.example", &own]), primary: None };
        let StackStep::PutDomains { stack, hosts: told, check } = set(&wish, &settings, &one) else { unreachable!() };
        assert_eq!(stack.hosts(&settings), [own.as_str(), "b.example", "c.example"]);
        assert_eq!(stack.primary_host(&settings), own, "no other is named");
        assert_eq!(check, hosts(&["c.example"]), "only what is new is looked up");
        assert_eq!(told, hosts(&["b.example", "c.example", &own, "a.example"]), "the one that goes is told, too");
    }

    #[test]
    fn refuses_more_names_than_certificates_can_be_had_for() {
        let mut stack = StackRow::default();
        for n in 0..DOMAINS_MAX {
            stack = added(&[&format!("h{n}.example")], None, &stack).unwrap().0;
        }
        assert_eq!(added(&["one.example"], None, &stack).unwrap_err().0, "too_many_domains");
    }
}
