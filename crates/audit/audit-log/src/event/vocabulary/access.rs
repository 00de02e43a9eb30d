//! Accounts, clients, access.

macro_rules! access_events {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! { $($rest)*; $($before)*

    /// An account was made.
    AccountMade = "account.made", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
    }
    /// Who makes an account accepted the terms of use.
    TermsAccepted = "account.terms-accepted", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// SHA-256 of the version's text.
        version: Digest32,
    }
    /// Somebody logged in.
    LoginSucceeded = "login.succeeded", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Method.
        method: Code,
        /// Digest that names the session, when one begins.
        session: Option<Digest32>,
        /// Where the person called from.
        from: Place,
        /// Digest of the credential's id, as at `login.method-added`; nothing for a password.
        credential: Option<Digest32>,
    }
    /// A login failed.
    LoginFailed = "login.failed", Failure, by(maybe_person person), about(maybe person) {
        /// Person, when the account exists.
        person: Option<PersonId>,
        /// Method.
        method: Code,
        /// Why.
        reason: Code,
        /// Where the call came from, when the account exists.
        from: Place,
    }
    /// Logins were tried while nobody was let try: one entry for all of a waiting time.
    LoginWaited = "login.waited", Failure, by(maybe_person person), about(maybe person) {
        /// Person, when the account exists and is still being tried.
        person: Option<PersonId>,
        /// Number of tries, none of which was compared with anything.
        tries: u64,
    }
    /// A login is locked after failures.
    LoginLocked = "login.locked", Failure, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Until when.
        until: UnixTime,
    }
    /// A way to log in was added.
    LoginMethodAdded = "login.method-added", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Method.
        method: Code,
        /// Digest of the credential's id.
        id: Digest32,
    }
    /// A way to log in was removed.
    LoginMethodRemoved = "login.method-removed", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Method.
        method: Code,
        /// Digest of the credential's id.
        id: Digest32,
    }
    /// Somebody logged out, or the session ended.
    LoggedOut = "login.ended", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Why.
        reason: Code,
        /// Digest that names the session.
        session: Option<Digest32>,
    }
    /// A person was sent to the approval page with a client's request.
    AuthorizationSent = "authorization.sent", Success, by(person person), about(one person) {
        /// Digest that names the request, in the SAM's log too.
        request: Digest32,
        /// Client that asks.
        client: ClientId,
        /// Person.
        person: PersonId,
        /// Key it is about.
        key: KeyId,
        /// Digest that names the session.
        session: Option<Digest32>,
        /// Where the person called from.
        from: Place,
    }
    /// A person came back from the approval page having approved, and the client gets its code.
    AuthorizationGranted = "authorization.granted", Success, by(person person), about(one person) {
        /// Digest that names the request, in the SAM's log too; nothing for what needs no approval.
        request: Option<Digest32>,
        /// Client that gets the code.
        client: ClientId,
        /// Person.
        person: PersonId,
        /// Key it is about.
        key: Option<KeyId>,
        /// Digest that names the session.
        session: Option<Digest32>,
        /// Where the person called from.
        from: Place,
    }
    /// A client didn't authenticate.
    ClientRefused = "client.refused", Failure, by(maybe_client client), about() {
        /// Client, when it is registered.
        client: Option<ClientId>,
        /// Why.
        reason: Code,
    }
    /// An officer registered or changed a client.
    ClientChanged = "client.changed", Success, by(peer peer), about() {
        /// Client.
        client: ClientId,
        /// Name in the officer's certificate.
        peer: PeerId,
        /// Officer.
        officer: OfficerId,
        /// What: `added`, `set`, `rotated`, `suspended`, `resumed`.
        change: Code,
        /// Digest of its contract from here on.
        contract: Digest32,
    }
    /// A client registered itself with a publisher's statement about its software.
    ClientRegisteredItself = "client.registered-itself", Success, by(client client), about() {
        /// Client.
        client: ClientId,
        /// Digest of the publisher's name.
        publisher: Digest32,
        /// Digest of the statement.
        statement: Digest32,
    }
    /// A client that had registered itself is gone: it got no token in time, or its person has many and others came.
    ClientGaveWay = "client.gave-way", Success, by(client client), about() {
        /// Client.
        client: ClientId,
    }
    /// Somebody tried to manage clients who may not, or not so.
    ClientChangeRefused = "client.change-refused", Failure, by(peer peer), about() {
        /// Name in the caller's certificate.
        peer: PeerId,
    }
    /// An access token was issued.
    TokenIssued = "token.issued", Success, by(client client), about(one person) {
        /// Client.
        client: ClientId,
        /// Person.
        person: PersonId,
        /// Scope.
        scope: Code,
        /// Digest of the token.
        token: Digest32,
    }
    /// An access token was issued to a client for itself.
    ClientTokenIssued = "token.issued-client", Success, by(client client), about() {
        /// Client.
        client: ClientId,
        /// Scope.
        scope: Code,
        /// Digest of the token.
        token: Digest32,
    }
    /// A token was revoked.
    TokenRevoked = "token.revoked", Success, by(client client), about() {
        /// Client.
        client: ClientId,
        /// Digest of the token.
        token: Digest32,
    }
    /// An endpoint was refused.
    AccessDenied = "access.denied", Failure, by(maybe_client client), about(maybe person) {
        /// Route.
        endpoint: Code,
        /// Client.
        client: Option<ClientId>,
        /// Person.
        person: Option<PersonId>,
        /// Why.
        reason: Code,
    }
    /// Calls were refused whose caller is nobody known, or was refused too often to be named each time: one entry for all within a
    /// minute of the one before.
    AccessUnknown = "access.unknown", Failure, by(service), about() {
        /// Route.
        endpoint: Code,
        /// The client that they said to be, if it is registered and its failures are too many to be named each time.
        client: Option<ClientId>,
        /// Number of calls.
        tries: u64,
    }
        }
    };
}
