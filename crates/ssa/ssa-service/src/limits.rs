//! How often somebody may call. An address counts until its caller has proved to be a client or a person; from then on
//! these count.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use audit_log::Place;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use core_types::{ClientId, PersonId};
use service_kit::rate::network;
use service_kit::{Peer, Rate, RateLimit};

use crate::clients::Client;
use crate::flow::Bound;
use crate::pages::{self, Visit};
use crate::{Ssa, csc, oauth};

/// When there was no room for a body: others that are being read are over soon.
pub(crate) const FULL: Wait = Wait(5);

/// Seconds until the next call may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) u32);

impl Wait {
    /// Says so in the answer (RFC 9110 §10.2.3).
    pub(crate) fn tell(self, mut response: Response) -> Response {
        let seconds = HeaderValue::from(self.0.max(1));
        response.headers_mut().insert(RETRY_AFTER, seconds);
        response
    }
}

/// The network that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    /// As the middleware found it; a request that didn't come through it counts as one unknown address.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let known = extensions.get::<Self>().copied();
        known.unwrap_or(Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }

    /// For the log; what came to no door of ours has none.
    pub(crate) fn place(self) -> Place {
        match self.0.is_unspecified() {
            true => Place::Unknown,
            false => Place::Address(self.0),
        }
    }

    fn find(extensions: &Extensions, headers: &HeaderMap, proxies: &[IpAddr]) -> Self {
        let peer = extensions.get::<Peer>().map(|peer| peer.addr.ip());
        let mut addr = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        // Each proxy adds at the end whom it heard, so what stands before the last stranger is only what he says.
        let told = headers.get_all("x-forwarded-for").iter();
        let told: Vec<&str> = told
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for hop in told.into_iter().rev() {
            if !proxies.contains(&addr.to_canonical()) {
                break;
            }
            match hop.trim().parse() {
                Ok(next) => addr = next,
                Err(_) => break,
            }
        }
        Self(network(addr))
    }
}

/// What is behind it when somebody fails to prove that they are a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Behind {
    /// Its name, which anybody can say.
    Name,
    /// A signature of its key, or a certificate's handshake.
    Key,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    addresses: RateLimit<IpAddr>,
    clients: RateLimit<ClientId>,
    people: RateLimit<PersonId>,
    user_codes: RateLimit<PersonId>,
    refusals: RateLimit<ClientId>,
    failures: RateLimit<(ClientId, Behind)>,
    registrations: RateLimit<IpAddr>,
    begun: AtomicU32,
}

/// How often a person may type the code of a device.
const USER_CODES: Rate = Rate {
    burst: 5,
    per_minute: 1,
};
/// How many refusals of one client's tokens are entries of their own; how many failures to prove that one is this client, by what is
/// behind them; and how many refused registrations of an address.
const REFUSALS: Rate = Rate {
    burst: 60,
    per_minute: 20,
};
/// Bytes of what is under way for a client, by the number of requests it may have under way.
const BYTES: i64 = 64 << 10;

impl Ssa {
    /// The caller proved to be this client, and maybe that it acts for a person: their calls count, not the address's.
    /// A public client proves nothing by its name alone.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn admit(
        &self,
        origin: Origin,
        client: &Client,
        person: Option<&PersonId>,
    ) -> Result<(), Wait> {
        let (limits, now) = (self.limits(), self.now());
        let rates = self.config().rates;
        limits.addresses.give_back(&origin.0);
        let rate = client.settings.rate.unwrap_or(rates.client);
        limits.clients.take(&client.id, rate, now).map_err(Wait)?;
        match person {
            Some(person) => limits.people.take(person, rates.person, now).map_err(Wait),
            None => Ok(()),
        }
    }
}

impl Ssa {
    /// Counts a code that this person typed.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn admit_user_code(&self, person: &PersonId) -> Result<(), Wait> {
        let typed = &self.limits().user_codes;
        typed.take(person, USER_CODES, self.now()).map_err(Wait)
    }

    /// Whether one more refusal of this client's tokens is an entry of its own: a token that counts no more, or was never its
    /// holder's, fills no log.
    pub(crate) fn names_refusal(&self, client: &ClientId) -> bool {
        let named = &self.limits().refusals;
        named.take(client, REFUSALS, self.now()).is_ok()
    }

    /// Whether one more failure to prove that one is this client is an entry of its own. Anybody can say its name, and silences by
    /// that no refusal of its tokens, nor what its own key was used for.
    pub(crate) fn names_failure(&self, client: &ClientId, behind: Behind) -> bool {
        let named = &self.limits().failures;
        let whose = (client.clone(), behind);
        named.take(&whose, REFUSALS, self.now()).is_ok()
    }

    /// Whether one more registration from there that was refused is an entry of its own.
    pub(crate) fn names_registration(&self, origin: Origin) -> bool {
        let named = &self.limits().registrations;
        named.take(&origin.0, REFUSALS, self.now()).is_ok()
    }

    /// How much may be under way for a client, if it is time to look: a look goes through all of it, and one for each
    /// sixteenth keeps the bound well enough.
    pub(crate) fn bound(&self) -> Option<Bound> {
        let most = self.config().most_pending;
        let begun = self.limits().begun.fetch_add(1, Ordering::Relaxed);
        let most_bytes = i64::from(most) * BYTES;
        begun.is_multiple_of((most / 16).max(1)).then_some(Bound {
            most: most.into(),
            bytes: most_bytes,
        })
    }
}

/// Counts every request against its address, files apart.
pub(crate) async fn by_address(
    State(ssa): State<Ssa>,
    mut request: Request,
    next: Next,
) -> Response {
    let proxies = &ssa.config().proxies;
    let origin = Origin::find(request.extensions(), request.headers(), proxies);
    request.extensions_mut().insert(origin);
    if request.uri().path().starts_with("/static/") {
        return next.run(request).await;
    }
    let request = request.map(|body| ssa.bodies().weigh(origin.0, body));
    let rate = ssa.config().rates.address;
    let taken = ssa.limits().addresses.take(&origin.0, rate, ssa.now());
    match taken {
        Ok(()) => next.run(request).await,
        Err(seconds) => too_often(&ssa, request, Wait(seconds)).await,
    }
}

/// In the words of what was called.
async fn too_often(ssa: &Ssa, request: Request, wait: Wait) -> Response {
    let path = request.uri().path();
    if path.starts_with("/csc/") {
        return csc::too_often(path.starts_with("/csc/v1/"), wait);
    }
    let program = request.method() == Method::POST && oauth::for_programs(path);
    if program || path.starts_with("/.well-known/") {
        return oauth::Refused::Wait(wait).answer(false);
    }
    let (mut parts, _) = request.into_parts();
    match Visit::from_request_parts(&mut parts, ssa).await {
        Ok(visit) => wait.tell(pages::sorry(ssa, &visit, pages::Trouble::TooOften)),
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(peer: &str, told: &[&str], proxies: &[&str]) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(Peer {
            name: String::new(),
            addr: (peer.parse::<IpAddr>().unwrap(), 1).into(),
        });
        let mut headers = HeaderMap::new();
        for value in told {
            headers.append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
        }
        let proxies: Vec<IpAddr> = proxies.iter().map(|p| p.parse().unwrap()).collect();
        Origin::find(&extensions, &headers, &proxies).0.to_string()
    }

    #[test]
    fn a_forwarded_address_counts_only_from_our_own_proxies() {
        let proxies = ["10.0.0.1", "10.0.0.2"];
        assert_eq!(found("192.0.2.9", &["203.0.113.5"], &proxies), "192.0.2.9");
        assert_eq!(found("10.0.0.1", &["203.0.113.5"], &proxies), "203.0.113.5");
        // What the stranger said himself comes first and isn't believed.
        let said = ["198.51.100.1, 203.0.113.5", "10.0.0.2"];
        assert_eq!(found("10.0.0.1", &said, &proxies), "203.0.113.5");
        assert_eq!(
            found("10.0.0.1", &["203.0.113.5, nonsense"], &proxies),
            "10.0.0.1"
        );
        assert_eq!(found("10.0.0.1", &["203.0.113.5"], &[]), "10.0.0.1");
        assert_eq!(found("10.0.0.1", &["2001:db8::1"], &proxies), "2001:db8::");
    }
}
