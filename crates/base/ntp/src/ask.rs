//! Asking several servers, again and again.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use core_types::{PeerId, Random};
use tokio::net::{UdpSocket, lookup_host};
use tokio::task::JoinSet;

use crate::agree::{Bound, agree};
use crate::machine::FineClock;
use crate::packet::{NoAnswer, Sample, read, request};

/// The port of NTP.
const PORT: u16 = 123;
/// Sources that are asked at most.
const MOST: usize = 16;
/// Fewer can't outvote a liar.
const LEAST: usize = 3;
/// Rounds that a source is spared when it asks for less: 2, 4, 8 and at most 16.
const MOST_SPARED: u32 = 16;

/// A server that is asked.
#[derive(Debug, Clone)]
pub struct Source {
    /// What it is called in logs and on pages.
    pub name: PeerId,
    /// Host, or host and port.
    pub address: String,
}

/// The sources, and what is remembered of them between rounds.
#[derive(Debug)]
pub struct Sources {
    sources: Vec<Known>,
    deadline: Duration,
}

#[derive(Debug)]
struct Known {
    source: Source,
    /// How long it is left alone next time it asks for that.
    spare: u32,
    /// Rounds for which it is left alone now.
    left: u32,
    denied: bool,
}

/// What came of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Between what the clock's error lies; nothing when there is no agreement.
    pub bound: Option<Bound>,
    /// What each source said, in the order of the settings.
    pub said: Vec<(PeerId, Result<Sample, NoAnswer>)>,
}

impl Asked {
    /// The state of each source in a word, and what it said of our clock in microseconds: `agrees`, `false` for one that the
    /// majority contradicts, `no-majority` where nobody can tell, or why it said nothing.
    pub fn states(&self) -> impl Iterator<Item = (&PeerId, &'static str, Option<i64>)> {
        self.said
            .iter()
            .map(|(name, said)| match (said, self.bound) {
                (Err(none), _) => (name, none.code(), None),
                (Ok(sample), None) => (name, "no-majority", Some(sample.offset)),
                (Ok(sample), Some(bound)) if bound.allows(*sample) => {
                    (name, "agrees", Some(sample.offset))
                }
                (Ok(sample), Some(_)) => (name, "false", Some(sample.offset)),
            })
    }
}

impl Sources {
    /// These sources, each with `deadline` for its answer.
    ///
    /// # Errors
    /// What is wrong with them, in a sentence: fewer than three, more than sixteen, or one twice.
    pub fn new(sources: Vec<Source>, deadline: Duration) -> Result<Self, &'static str> {
        if sources.len() < LEAST {
            return Err("a liar among fewer than three sources of time can't be told");
        }
        if sources.len() > MOST {
            return Err("more than sixteen sources of time are of no use");
        }
        let mut addresses = HashSet::new();
        if !sources.iter().all(|s| addresses.insert(full(&s.address))) {
            return Err("two sources of time have the same address");
        }
        let known = |source| Known {
            source,
            spare: 1,
            left: 0,
            denied: false,
        };
        Ok(Self {
            sources: sources.into_iter().map(known).collect(),
            deadline,
        })
    }

    /// Asks all of them at once, but for those that asked to be left alone. Takes no longer than the deadline.
    pub async fn ask(&mut self, clock: &Arc<dyn FineClock>, random: &dyn Random) -> Asked {
        let mut said: Vec<Result<Sample, NoAnswer>> = Vec::new();
        let mut asking = JoinSet::new();
        for (i, known) in self.sources.iter_mut().enumerate() {
            if let Some(spared) = known.spared() {
                said.push(Err(spared));
                continue;
            }
            said.push(Err(NoAnswer::Silent));
            let mut nonce = [0; 8];
            random.fill(&mut nonce);
            let nonce = u64::from_be_bytes(nonce);
            let (clock, deadline) = (clock.clone(), self.deadline);
            let address = full(&known.source.address);
            asking.spawn(async move { (i, one(address, nonce, clock.as_ref(), deadline).await) });
        }
        let mut answers = asking.join_all().await;
        answers.sort_unstable_by_key(|(i, _)| *i);
        let mut taken = HashSet::new();
        for (i, (address, answer)) in answers {
            // Two names of one server are one voice.
            let again = address.is_some_and(|a| !taken.insert((a.ip().to_canonical(), a.port())));
            said[i] = if again { Err(NoAnswer::Same) } else { answer };
            self.sources[i].heed(&said[i]);
        }
        let samples: Vec<_> = said.iter().filter_map(|s| s.ok()).collect();
        let names = self.sources.iter().map(|known| known.source.name.clone());
        Asked {
            bound: agree(&samples, self.sources.len()),
            said: names.zip(said).collect(),
        }
    }
}

impl Known {
    /// Why it isn't asked in this round.
    fn spared(&mut self) -> Option<NoAnswer> {
        if self.denied {
            return Some(NoAnswer::Denied);
        }
        self.left = self.left.checked_sub(1)?;
        Some(NoAnswer::Slower)
    }

    /// A server that wants fewer questions gets fewer, and one that wants none gets none until the program starts anew
    /// (RFC 5905 §7.4).
    fn heed(&mut self, said: &Result<Sample, NoAnswer>) {
        match said {
            Ok(_) => self.spare = 1,
            Err(NoAnswer::Denied) => self.denied = true,
            Err(NoAnswer::Slower) => {
                self.spare = (self.spare * 2).min(MOST_SPARED);
                self.left = self.spare;
            }
            Err(_) => {}
        }
    }
}

/// Host and port. An address of IPv6 stands in brackets when it has a port.
fn full(address: &str) -> String {
    let bare: Result<Ipv6Addr, _> = address.parse();
    match (bare, address.rsplit_once(':')) {
        (Ok(bare), _) => format!("[{bare}]:{PORT}"),
        (Err(_), Some((_, port))) if port.parse::<u16>().is_ok() => address.to_owned(),
        (Err(_), _) => format!("{address}:{PORT}"),
    }
}

/// Asks one, and says which address it has.
async fn one(
    address: String,
    nonce: u64,
    clock: &dyn FineClock,
    deadline: Duration,
) -> (Option<SocketAddr>, Result<Sample, NoAnswer>) {
    let mut found = None;
    // What answers no question of ours must not keep us from the answer that does.
    let mut last = NoAnswer::Silent;
    let asked = talk(&address, nonce, clock, &mut found, &mut last);
    let asked = tokio::time::timeout(deadline, asked).await;
    let said = asked.unwrap_or(match found {
        Some(_) => Err(last),
        None => Err(NoAnswer::Unreachable),
    });
    (found, said)
}

async fn talk(
    address: &str,
    nonce: u64,
    clock: &dyn FineClock,
    found: &mut Option<SocketAddr>,
    last: &mut NoAnswer,
) -> Result<Sample, NoAnswer> {
    let unreachable = |_| NoAnswer::Unreachable;
    let mut all = lookup_host(address).await.map_err(unreachable)?;
    let address = all.next().ok_or(NoAnswer::Unreachable)?;
    *found = Some(address);
    let own: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A port of its own for each question, and only this server's packets: an answer that comes late finds nobody.
    let socket = UdpSocket::bind(own).await.map_err(unreachable)?;
    socket.connect(address).await.map_err(unreachable)?;
    let (sent, begun) = (clock.wall(), clock.passed());
    socket.send(&request(nonce)).await.map_err(unreachable)?;
    let mut bytes = [0; 512];
    loop {
        let n = socket.recv(&mut bytes).await.map_err(unreachable)?;
        let took = clock.passed().saturating_sub(begun);
        match read(&bytes[..n], nonce, sent, took) {
            Err(none @ (NoAnswer::Foreign | NoAnswer::Malformed)) => *last = none,
            said => return said,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, address: &str) -> Source {
        Source {
            name: PeerId::parse(name).unwrap(),
            address: address.to_owned(),
        }
    }

    #[test]
    fn an_address_has_its_port() {
        for (given, meant) in [
            ("ntp.example.jp", "ntp.example.jp:123"),
            ("ntp.example.jp:1123", "ntp.example.jp:1123"),
            ("192.0.2.1", "192.0.2.1:123"),
            ("2001:db8::1", "[2001:db8::1]:123"),
            ("[2001:db8::1]:1123", "[2001:db8::1]:1123"),
        ] {
            assert_eq!(full(given), meant);
        }
    }

    #[test]
    fn fewer_than_three_and_the_same_twice_are_no_sources() {
        let (a, b) = (source("a", "192.0.2.1"), source("b", "192.0.2.2"));
        let new = |list: &[&Source]| {
            let list = list.iter().copied().cloned().collect();
            Sources::new(list, Duration::from_secs(1)).is_ok()
        };
        assert!(!new(&[]));
        assert!(!new(&[&a, &b]));
        assert!(!new(&[&a, &b, &source("c", "192.0.2.1:123")]));
        assert!(new(&[&a, &b, &source("c", "192.0.2.3")]));
        let many: Vec<_> = (0..17)
            .map(|n| source("n", &format!("192.0.2.{n}")))
            .collect();
        assert!(!new(&many.iter().collect::<Vec<_>>()));
    }

    #[test]
    fn who_asks_for_less_is_left_alone_for_longer_each_time() {
        let mut known = Known {
            source: source("a", "192.0.2.1"),
            spare: 1,
            left: 0,
            denied: false,
        };
        for rounds in [2, 4, 8, 16, 16] {
            assert_eq!(known.spared(), None);
            known.heed(&Err(NoAnswer::Slower));
            for _ in 0..rounds {
                assert_eq!(known.spared(), Some(NoAnswer::Slower));
            }
        }
        known.heed(&Ok(Sample {
            offset: 0,
            distance: 1,
        }));
        known.heed(&Err(NoAnswer::Slower));
        assert_eq!(known.left, 2);
        known.heed(&Err(NoAnswer::Denied));
        assert_eq!(known.spared(), Some(NoAnswer::Denied));
    }
}
