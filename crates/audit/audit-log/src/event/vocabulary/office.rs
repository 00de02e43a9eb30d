//! Officers: how an installation begins, who holds an office, what they propose and approve.

macro_rules! office_events {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! { $($rest)*; $($before)*

    /// The installation began: its first security officers were made together. The first entry of the log.
    OfficeBegan = "office.began", Success, by(service), about() {
        /// Digest of the genesis record, which is evidence.
        evidence: Digest32,
        /// Thumbprint of the recovery key.
        recovery: Digest32,
        /// How many security officers.
        officers: u32,
    }
    /// The installation was opened again with the recovery key.
    OfficeReopened = "office.reopened", Success, by(service), about() {
        /// Digest of what that key signed, which is evidence.
        evidence: Digest32,
        /// How often that has happened.
        serial: u32,
        /// How many security officers.
        officers: u32,
    }
    /// Somebody was appointed to an office.
    OfficerAppointed = "officer.appointed", Success, by(service), about() {
        /// Person.
        officer: OfficerId,
        /// Roles.
        roles: Code,
        /// End of the appointment.
        until: UnixTime,
        /// Digest of the proposal, genesis record or reopening.
        by: Digest32,
    }
    /// Roles, term or training of an officer changed.
    OfficerChanged = "officer.changed", Success, by(service), about() {
        /// Person.
        officer: OfficerId,
        /// Roles from here on.
        roles: Code,
        /// End of the appointment.
        until: UnixTime,
        /// Digest of the proposal.
        by: Digest32,
    }
    /// An officer was removed, with all accounts.
    OfficerDismissed = "officer.dismissed", Success, by(service), about() {
        /// Person.
        officer: OfficerId,
        /// Digest of the proposal.
        by: Digest32,
    }
    /// Appointment or training of an officer ends soon, or has ended.
    OfficerDue = "officer.due", Success, by(service), about() {
        /// Person.
        officer: OfficerId,
        /// The first end of the two.
        until: UnixTime,
    }
    /// Somebody is in office, and no training of theirs is recorded.
    OfficerUntrained = "officer.untrained", Success, by(service), about() {
        /// Person.
        officer: OfficerId,
    }
    /// An account of an officer was made, or invited anew.
    AccountInvited = "officer.invited", Success, by(service), about(one account) {
        /// Account.
        account: PersonId,
        /// Person.
        officer: OfficerId,
        /// Voucher with which its passkey is enrolled.
        voucher: VoucherId,
        /// Digest of the proposal, genesis record or reopening.
        by: Digest32,
    }
    /// Officers approved a new passkey in the place of one that counts. It can be enrolled after a waiting time, unless that one
    /// proves anything until then.
    PasskeyOrdered = "officer.passkey-ordered", Success, by(service), about(one account) {
        /// Account.
        account: PersonId,
        /// Person.
        officer: OfficerId,
        /// End of the waiting time.
        until: UnixTime,
        /// Digest of the proposal.
        by: Digest32,
    }
    /// Somebody who neither asked for the account nor has it said that its passkey is its officer's: it counts from here on.
    AccountConfirmed = "officer.confirmed", Success, by(service), about(one account) {
        /// Account.
        account: PersonId,
        /// Person.
        officer: OfficerId,
        /// Digest of the proposal, which has the passkey's fingerprint.
        by: Digest32,
    }
    /// An officer logged in.
    OfficerLoggedIn = "officer.logged-in", Success, by(person account), about(one account) {
        /// Account.
        account: PersonId,
        /// Person.
        officer: OfficerId,
        /// Digest of the act.
        act: Digest32,
        /// Digest that names the session.
        session: Digest32,
    }
    /// An officer looked at what another zone shows.
    OfficerLooked = "officer.looked", Success, by(person account), about(one account) {
        /// Account.
        account: PersonId,
        /// What: `clients`, `log`.
        what: Code,
        /// What the gateway calls the zone.
        zone: PeerId,
        /// Digest of what was searched.
        query: Digest32,
    }
    /// An officer logged out.
    OfficerLoggedOut = "officer.logged-out", Success, by(person account), about(one account) {
        /// Account.
        account: PersonId,
        /// Person.
        officer: OfficerId,
        /// Digest that names the session.
        session: Digest32,
    }
    /// An officer proposed something. It has no power.
    ProposalMade = "proposal.made", Success, by(person account), about(one account) {
        /// Digest of the proposal's document, which is evidence.
        evidence: Digest32,
        /// What is proposed.
        what: Code,
        /// Account.
        account: PersonId,
        /// Person.
        officer: OfficerId,
    }
    /// An officer approved a proposal.
    ProposalApproved = "proposal.approved", Success, by(person account), about(one account) {
        /// Digest of the proposal's document.
        proposal: Digest32,
        /// Digest of the act.
        act: Digest32,
        /// Account.
        account: PersonId,
        /// Person.
        officer: OfficerId,
        /// How many have approved.
        given: u32,
        /// How many have to.
        needs: u32,
    }
    /// A proposal took effect, or can be taken by whoever carries it out.
    ProposalAdmitted = "proposal.admitted", Success, by(service), about() {
        /// Digest of the proposal's document.
        proposal: Digest32,
        /// What is proposed.
        what: Code,
        /// What became of it: `done`, `waiting`, `approved`.
        state: Code,
    }
    /// An approved proposal was taken, to be carried out.
    ProposalTaken = "proposal.taken", Success, by(person account), about(one account) {
        /// Digest of the proposal's document.
        proposal: Digest32,
        /// Account.
        account: PersonId,
        /// Person.
        officer: OfficerId,
    }
    /// A proposal ended without effect.
    ProposalEnded = "proposal.ended", Success, by(maybe_person account), about(maybe account) {
        /// Digest of the proposal's document.
        proposal: Digest32,
        /// Account of who ended it.
        account: Option<PersonId>,
        /// Why.
        reason: Code,
    }
    /// Officers ended all keys of the tenant: no signature has begun since. What comes of each key is an entry of its own.
    KeysEnded = "key.all-ended", Intent, by(service), about() {
        /// Digest of the proposal's document.
        proposal: Digest32,
        /// How many there were.
        keys: u64,
        /// Because of what: `end-of-service`, `incident`.
        reason: Code,
    }
    /// A call of an officer, or in the name of one, was refused.
    OfficeRefused = "office.refused", Failure, by(maybe_person account), about(maybe account) {
        /// The call.
        call: Code,
        /// Account, when it is known.
        account: Option<PersonId>,
        /// Digest of the proposal's document or of the act.
        about: Option<Digest32>,
        /// Why.
        reason: Code,
    }
    /// A program that watches the logs stopped something.
    GuardStopped = "guard.stopped", Success, by(peer peer), about() {
        /// Name in its certificate.
        peer: PeerId,
        /// What: `key`, `session`.
        what: Code,
        /// The key.
        key: Option<KeyId>,
        /// Digest that names the officer's session.
        session: Option<Digest32>,
    }
    /// Somebody with a certificate of the zones called where they have nothing to do.
    PeerRefused = "access.peer-refused", Failure, by(peer peer), about() {
        /// Name in their certificate.
        peer: PeerId,
        /// Which door: `services`, `gateways`, `office`, `guards`, `module`.
        door: Code,
    }
    /// A program that watches the logs could not stop something.
    GuardRefused = "guard.refused", Failure, by(peer peer), about() {
        /// Name in its certificate.
        peer: PeerId,
        /// Why.
        reason: Code,
    }
    /// Settings were admitted; they take effect at the next start.
    SettingsAdmitted = "settings.admitted", Success, by(service), about() {
        /// Which.
        part: Code,
        /// Their digest.
        value: Digest32,
        /// Digest of the proposal.
        by: Digest32,
    }
    /// An application was registered at the SAM, or registered anew.
    ClientRegistered = "client.registered", Success, by(service), about() {
        /// Client.
        client: ClientId,
        /// How many keys sign its requests.
        keys: u32,
        /// Digest of the proposal.
        by: Digest32,
    }
    /// An application was removed from the SAM's records.
    ClientForgotten = "client.forgotten", Success, by(service), about() {
        /// Client.
        client: ClientId,
        /// Digest of the proposal.
        by: Digest32,
    }

        }
    };
}
