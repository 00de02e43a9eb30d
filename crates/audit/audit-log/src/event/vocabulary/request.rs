//! Requests, acts, and proofs over them.

macro_rules! request_events {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! { $($rest)*; $($before)*

    /// Data to be signed was accepted from a client.
    RequestPrepared = "request.prepared", Success, by(client client), about(one person) {
        /// Digest that names the request.
        request: Digest32,
        /// Client.
        client: ClientId,
        /// Person asked to sign.
        person: PersonId,
        /// Key.
        key: KeyId,
        /// Number of items.
        items: u32,
    }
    /// Data to be signed was refused.
    RequestRefused = "request.refused", Failure, by(maybe_client client), about(maybe person) {
        /// Client.
        client: Option<ClientId>,
        /// Person.
        person: Option<PersonId>,
        /// Why.
        reason: Code,
    }
    /// The person opened the request: an act was made and shown.
    RequestOpened = "request.opened", Success, by(person person), about(one person) {
        /// Digest that names the request.
        request: Digest32,
        /// Person.
        person: PersonId,
        /// Digest of the act.
        act: Digest32,
    }
    /// An act was made for approval.
    ActMinted = "act.minted", Success, by(service), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Kind of act, such as `sign` or `enrol`.
        what: Code,
        /// Person.
        person: PersonId,
        /// Key it is about.
        key: Option<KeyId>,
        /// Number of items.
        items: u32,
        /// Level of the key.
        level: Level,
    }
    /// The person's proof over the act was good.
    SapAuthenticated = "sap.authenticated", Success, by(person person), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Person.
        person: PersonId,
        /// Factor used.
        factor: FactorId,
        /// Method, such as `passkey`.
        method: Code,
    }
    /// A proof was refused.
    SapRefused = "sap.refused", Failure, by(maybe_person person), about(maybe person) {
        /// Digest of the act, when it is known.
        act: Option<Digest32>,
        /// Person, when known.
        person: Option<PersonId>,
        /// Method.
        method: Option<Code>,
        /// Why.
        reason: Code,
    }
    /// A proof with a guessable secret is about to be checked; counted before anything is compared.
    SapAttempt = "sap.attempt", Intent, by(person person), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Person.
        person: PersonId,
        /// Failures so far.
        fails: u32,
    }
    /// A factor is locked after failures.
    FactorLocked = "factor.locked", Failure, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Factor.
        factor: FactorId,
        /// Until when.
        until: UnixTime,
    }
    /// A one-time code for this key and client went to its owner, by the SAM's courier.
    CodeSent = "code.sent", Intent, by(client client), about(one person) {
        /// Person.
        person: PersonId,
        /// Key.
        key: KeyId,
        /// Client that asked.
        client: ClientId,
        /// `mail` or `phone`.
        way: Code,
    }
    /// A one-time code didn't go out; nobody can use it.
    CodeNotSent = "code.not-sent", Failure, by(service), about(one person) {
        /// Person.
        person: PersonId,
        /// Key.
        key: KeyId,
        /// Client that asked.
        client: ClientId,
    }
    /// The act was approved.
    ActApproved = "act.approved", Success, by(person person), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Person.
        person: PersonId,
        /// Digest of the proof without its secrets.
        proof: Digest32,
        /// Digest of the evidence.
        evidence: Digest32,
        /// The right ends then.
        sign_until: UnixTime,
    }
    /// The person refused the act.
    ActRefused = "act.refused", Success, by(person person), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Person.
        person: PersonId,
    }
    /// An act ended without use: superseded, expired, or after too many tries.
    ActEnded = "act.ended", Success, by(service), about(maybe person) {
        /// Digest of the act.
        act: Digest32,
        /// Person.
        person: Option<PersonId>,
        /// Why.
        reason: Code,
    }
        }
    };
}
