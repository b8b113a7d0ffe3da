//! How many connections one address may have, so that one caller does not take all there are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client;

/// Connections by the network they come from. Networks without any are not in it, so that it is bounded by the number of
/// connections.
type Counts = Mutex<HashMap<IpAddr, usize>>;

/// The places of every address.
#[derive(Debug)]
pub(super) struct Places {
    counts: Arc<Counts>,
    most: usize,
    /// Proxies bring the connections of many.
    exempt: Vec<IpAddr>,
}

/// The place of a connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// Nothing for who is not counted.
    held: Option<(IpAddr, Arc<Counts>)>,
}

impl Places {
    /// Gives each address `most` places, and those in `exempt` as many as they like.
    pub(super) fn new(most: usize, exempt: &[IpAddr]) -> Self {
        let exempt = exempt.iter().map(IpAddr::to_canonical).collect();
        Self { counts: Arc::default(), most: most.max(1), exempt }
    }

    /// Returns a place for a connection from this address, `None` when it has all that it may.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Place> {
        let peer = peer.to_canonical();
        if self.exempt.contains(&peer) {
            return Some(Place { held: None });
        }
        let network = client::network(peer);
        let mut counts = lock(&self.counts);
        let n_taken = counts.get(&network).copied().unwrap_or(0);
        if n_taken >= self.most {
            return None;
        }
        counts.insert(network, n_taken + 1);
        Some(Place { held: Some((network, Arc::clone(&self.counts))) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((network, counts)) = &self.held else { return };
        let mut counts = lock(counts);
        match counts.get_mut(network) {
            Some(n_taken) if *n_taken > 1 => *n_taken -= 1,
            _ => {
                counts.remove(network);
            }
        }
    }
}

fn lock(counts: &Counts) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_places_and_takes_none_of_others() {
        let places = Places::new(2, &[]);
        let first = places.take(address("1.1.1.1"));
        let second = places.take(address("::ffff:1.1.1.1"));
        assert!(first.is_some() && second.is_some());
        assert!(places.take(address("1.1.1.1")).is_none());
        assert!(places.take(address("2.2.2.2")).is_some());
        drop(first);
        assert!(places.take(address("1.1.1.1")).is_some(), "one went");
        drop(second);
        assert!(lock(&places.counts).is_empty(), "nobody is remembered who has gone");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let places = Places::new(1, &[]);
        let _held = places.take(address("2001:db8:1:2::1"));
        assert!(places.take(address("2001:db8:1:2:ffff::9")).is_none());
        assert!(places.take(address("2001:db8:1:3::1")).is_some());
    }

    #[test]
    fn a_trusted_proxy_brings_as_many_as_it_likes() {
        let places = Places::new(1, &[address("10.0.0.2")]);
        let held: Vec<Option<Place>> = (0..10).map(|_| places.take(address("10.0.0.2"))).collect();
        assert!(held.iter().all(Option::is_some));
    }
}
