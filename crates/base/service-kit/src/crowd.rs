//! Who has the connections of a listener. Each network has a share, wide networks too, and all shares become smaller as fewer are left:
//! whoever has many networks finds that the last connections are for others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::rate::network;

/// Most connections of one listener at a time; more wait in the kernel's queue.
pub(crate) const MAX_CONNECTIONS: usize = 12_288;
/// Most of them from one address (of IPv6 a /64): a proxy or a zone of ours keeps some hundred.
const OF_ONE: usize = 1024;
/// Most of them from one wide network: of IPv4 a /24, of IPv6 a /48, which is what one customer has at most.
const OF_WIDE: usize = 1536;
/// A wide network may have this part of those that are left.
const PART: usize = 4;
/// From here on connections without requests have to go sooner.
const CROWDED: usize = MAX_CONNECTIONS / 2;

/// How many connections there are, and whose.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    one: HashMap<IpAddr, usize>,
    wide: HashMap<IpAddr, usize>,
}

impl Counts {
    /// Takes one for this address, if it may have one more. A proxy of this machine speaks for many and has no share.
    fn admit(&mut self, addr: IpAddr) -> bool {
        let left = MAX_CONNECTIONS.saturating_sub(self.all);
        if left == 0 {
            return false;
        }
        if !is_own(addr) {
            let (one, wide) = (network(addr), wide(addr));
            let of = |counts: &HashMap<IpAddr, usize>, key| counts.get(&key).copied().unwrap_or(0);
            let most = OF_WIDE.min(left.div_ceil(PART));
            if of(&self.one, one) >= OF_ONE || of(&self.wide, wide) >= most {
                return false;
            }
            *self.one.entry(one).or_default() += 1;
            *self.wide.entry(wide).or_default() += 1;
        }
        self.all += 1;
        true
    }

    /// Gives back one that was taken for this address.
    fn leave(&mut self, addr: IpAddr) {
        self.all = self.all.saturating_sub(1);
        if !is_own(addr) {
            less(&mut self.one, network(addr));
            less(&mut self.wide, wide(addr));
        }
    }

    fn crowded(&self) -> bool {
        self.all >= CROWDED
    }
}

fn less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(n) = counts.get_mut(&key) {
        *n -= 1;
        if *n == 0 {
            counts.remove(&key);
        }
    }
}

fn is_own(addr: IpAddr) -> bool {
    addr.to_canonical().is_loopback()
}

/// The wide network that an address belongs to.
fn wide(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80)).into(),
    }
}

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Crowd {
    counts: Mutex<Counts>,
    crowded: watch::Sender<bool>,
}

impl Crowd {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            counts: Mutex::default(),
            crowded: watch::Sender::new(false),
        })
    }

    /// A place for a connection from this address; `None` when its network has its share.
    pub(crate) fn enter(self: &Arc<Self>, addr: IpAddr) -> Option<Place> {
        self.change(|counts| counts.admit(addr)).then(|| Place {
            crowd: self.clone(),
            addr,
        })
    }

    /// Whether connections without requests have to go sooner.
    pub(crate) fn crowded(&self) -> watch::Receiver<bool> {
        self.crowded.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut counts);
        let now = counts.crowded();
        self.crowded
            .send_if_modified(|crowded| std::mem::replace(crowded, now) != now);
        done
    }
}

/// One connection's, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    addr: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.change(|counts| counts.leave(self.addr));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(site: u16, net: u16, host: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, site, net, 0, 0, 0, host).into()
    }

    /// How many this address gets if it takes all it can.
    fn takes(counts: &mut Counts, addr: IpAddr) -> usize {
        (0..MAX_CONNECTIONS)
            .take_while(|_| counts.admit(addr))
            .count()
    }

    #[test]
    fn one_host_with_many_networks_leaves_most_to_others() {
        let mut counts = Counts::default();
        // A /56, host by host and network by network.
        let all: usize = (0..256)
            .map(|net| takes(&mut counts, v6(1, net, net)))
            .sum();
        assert_eq!(all, OF_WIDE);
        assert_eq!(takes(&mut counts, v6(2, 0, 1)), OF_ONE);
        let mut v4 = Counts::default();
        let of = |last| IpAddr::from([192, 0, 2, last]);
        assert_eq!(takes(&mut v4, of(1)), OF_ONE);
        assert_eq!(takes(&mut v4, of(2)), OF_WIDE - OF_ONE);
        assert_eq!(takes(&mut v4, of(3)), 0);
        assert_eq!(takes(&mut v4, "::ffff:192.0.2.4".parse().unwrap()), 0);
        assert_eq!(takes(&mut v4, IpAddr::from([192, 0, 3, 1])), OF_ONE);
    }

    #[test]
    fn many_networks_together_leave_some_to_whoever_comes_next() {
        let mut counts = Counts::default();
        for site in 0..16 {
            for net in 0..4 {
                takes(&mut counts, v6(site, net, 1));
            }
        }
        assert!(counts.crowded());
        let next = takes(&mut counts, v6(1000, 0, 1));
        assert!(next >= 10, "{next}");
        // Who has a share already gets no more, and this machine's proxy gets what is left.
        assert_eq!(takes(&mut counts, v6(0, 5, 1)), 0);
        let own = takes(&mut counts, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(counts.all, MAX_CONNECTIONS);
        assert!(own > 0 && !counts.admit(v6(2000, 0, 1)));
    }

    #[test]
    fn what_is_given_back_is_there_again_and_nothing_is_kept_of_it() {
        let crowd = Crowd::new();
        let crowded = crowd.crowded();
        let own = IpAddr::from([127, 0, 0, 1]);
        let mut places: Vec<_> = (0..CROWDED - 1).filter_map(|_| crowd.enter(own)).collect();
        assert!(!*crowded.borrow());
        places.extend(crowd.enter(v6(1, 0, 1)));
        assert!(*crowded.borrow());
        places.pop();
        assert!(!*crowded.borrow());
        drop(places);
        let counts = crowd.counts.lock().unwrap();
        assert!(counts.all == 0 && counts.one.is_empty() && counts.wide.is_empty());
    }
}
