//! How many connections each address holds, so that no single one takes all the places.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The addresses with a connection; as many entries as connections at most.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place that is held until it is dropped.
#[derive(Debug)]
pub struct Place {
    address: IpAddr,
    of: Addresses,
}

/// The address to count by. Whoever has an IPv6 address has 64 bits of them.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Addresses {
    /// A place for one more connection from `address`, if it has fewer than `max`.
    pub fn enter(&self, address: IpAddr, max: usize) -> Option<Place> {
        let address = counted(address);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { address, of: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_gives_it_back() {
        let addresses = Addresses::default();
        let enter = |address: &str| addresses.enter(address.parse().unwrap(), 2);
        let (one, two) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some() && enter("192.0.2.1").is_none(), "the same address, written otherwise");
        assert!(enter("192.0.2.2").is_some());
        drop(one);
        let again = enter("192.0.2.1");
        assert!(again.is_some());
        let (six, seven) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(six.is_some() && seven.is_some() && enter("2001:db8::ffff:3").is_none(), "one network of a customer");
        assert!(enter("2001:db8:0:1::1").is_some());
        drop((two, again, six, seven));
        assert!(addresses.0.lock().unwrap().is_empty(), "nothing stays behind");
    }
}
