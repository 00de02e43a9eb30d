//! Every event there is: type, outcome, who is responsible, whom it is about, and its members.

use core_types::{
    ClientId, Digest32, FactorId, KeyAlg, KeyId, Level, PersonId, SigAlg, UnixTime, VoucherId,
};
use serde::Serialize;

use super::{Code, Outcome, Subject};

events! {
    // --- environment, audit function, parameters ---

    /// A zone's process is ready.
    ServiceStarted = "service.started", Success, by(service), about() {
        /// Version of the program.
        version: Code,
        /// Digest of the settings it started with.
        settings: Digest32,
    }
    /// A zone's process ends in order.
    ServiceStopped = "service.stopped", Success, by(service), about() {}
    /// The audit function writes from here on.
    AuditStarted = "audit.started", Success, by(service), about() {}
    /// The audit function ends in order.
    AuditStopped = "audit.stopped", Success, by(service), about() {}
    /// A parameter of the audit function has another value than at the last start.
    AuditParameterChanged = "audit.parameter-changed", Success, by(service), about() {
        /// Which.
        parameter: Code,
        /// Digest of the new value.
        value: Digest32,
    }
    /// Another setting has another value than at the last start.
    ParameterChanged = "parameter.changed", Success, by(service), about() {
        /// Which.
        parameter: Code,
        /// Digest of the new value.
        value: Digest32,
    }
    /// The clock's state changed.
    ClockState = "clock.state", Success, by(service), about() {
        /// Such as `synchronised`, `unsynchronised`, `stepped`.
        state: Code,
    }
    /// A condition that an operator must look at.
    Alarm = "alarm", Failure, by(service), about() {
        /// Which.
        what: Code,
    }

    // --- cryptographic module ---

    /// A signing key was made.
    KeyGenerated = "key.generated", Success, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its only user.
        owner: PersonId,
        /// Kind of key.
        alg: KeyAlg,
        /// SHA-256 of the SubjectPublicKeyInfo.
        spki: Digest32,
        /// Digest of the act that led here.
        act: Digest32,
    }
    /// A signing key that was made elsewhere came in.
    KeyImported = "key.imported", Success, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its only user.
        owner: PersonId,
        /// Kind of key.
        alg: KeyAlg,
        /// SHA-256 of the SubjectPublicKeyInfo.
        spki: Digest32,
        /// The guideline's case of origin.
        origin: Code,
        /// Digest of the act with which the owner agreed.
        act: Digest32,
    }
    /// A signing key leaves, sealed to a receiver; a logged exception at level 1.
    KeyHandedOver = "key.handed-over", Intent, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// Thumbprint of the receiver's key.
        receiver: Digest32,
        /// Digest of the owner's act.
        act: Digest32,
    }
    /// A certification request was admitted for signing, once in the life of the key.
    KeyCertificationRequested = "key.csr-signed", Intent, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// SHA-256 of the CertificationRequestInfo.
        request: Digest32,
    }
    /// An order to sign was admitted; the key is used next.
    KeyUsed = "key.used", Intent, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// Algorithm.
        alg: SigAlg,
        /// Number of digests.
        count: u32,
        /// Digest of the approved act.
        act: Digest32,
        /// Name of the order.
        order: Digest32,
        /// Step of the act.
        step: u32,
        /// Number of the order within the step.
        attempt: u32,
    }
    /// A signing key was destroyed.
    KeyDestroyed = "key.destroyed", Success, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// Why.
        reason: Code,
        /// Digest of the act or notice that decided it.
        act: Option<Digest32>,
    }
    /// A signing key came out of a backup, set forward to what the log until then says: from here on this log says it.
    KeyRestored = "key.restored", Success, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// Signatures made or ordered until then.
        signatures: u64,
        /// A certification request was signed.
        csr: bool,
        /// It was handed over.
        handed_over: bool,
        /// A value was wrong.
        wrong: bool,
        /// It is destroyed, and stays so.
        destroyed: bool,
    }
    /// The device has erased its copy of a destroyed key.
    KeyErased = "key.erased", Success, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
    }
    /// A signing key was stopped.
    KeySuspended = "key.suspended", Success, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// Why.
        reason: Code,
    }
    /// A stopped key may be used again.
    KeyResumed = "key.resumed", Success, by(person owner), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// Digest of the act.
        act: Digest32,
    }
    /// A key can't be used any more, for good; the module is ordered to destroy it.
    KeyEnded = "key.ended", Intent, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// Why.
        reason: Code,
        /// Digest of the act or notice that says so.
        by: Option<Digest32>,
    }
    /// A registered authority's notice about a certificate was heeded.
    NoticeHeeded = "notice.heeded", Success, by(authority authority), about(one owner) {
        /// Digest of the notice.
        notice: Digest32,
        /// Digest of the authority's key.
        authority: Digest32,
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// What it means for the key.
        effect: Code,
        /// Digest of the evidence.
        evidence: Digest32,
    }
    /// A notice about a certificate was refused.
    NoticeRefused = "notice.refused", Failure, by(unknown), about() {
        /// Digest of what was brought.
        notice: Digest32,
        /// Why.
        reason: Code,
    }
    /// The module vouched for the SAM's keys.
    StatementSigned = "cm.statement-signed", Success, by(service), about() {
        /// Thumbprint of the act key.
        act_key: Digest32,
    }
    /// An order was admitted.
    OrderAdmitted = "cm.order-admitted", Success, by(service), about() {
        /// Its name.
        order: Digest32,
        /// What it asks for.
        what: Code,
    }
    /// An order was refused.
    OrderRefused = "cm.order-refused", Failure, by(service), about() {
        /// Its name, when it is authentic.
        order: Option<Digest32>,
        /// Why.
        reason: Code,
    }
    /// The module wraps keys under a new wrapping key from here on.
    WrappingChanged = "cm.wrapping-changed", Success, by(service), about() {}
    /// All keys are under the new wrapping key; the old ones are destroyed.
    WrappingRetired = "cm.wrapping-retired", Success, by(service), about() {
        /// Keys that were wrapped anew.
        keys: u64,
        /// Wrapping keys destroyed.
        retired: u32,
    }
    /// A backup of the module's keys was made.
    BackupMade = "cm.backup-made", Success, by(service), about() {
        /// Its name.
        backup: Digest32,
        /// Rows in it.
        rows: u64,
        /// SHA-256 over them.
        digest: Digest32,
    }
    /// Keys were restored from a backup, with the shares of several persons.
    BackupRestored = "cm.backup-restored", Success, by(service), about() {
        /// Its name.
        backup: Digest32,
        /// Keys that are usable again.
        keys: u64,
        /// Keys that were destroyed since the backup and stay so.
        refused: u64,
        /// Keys made since the backup.
        lost: u64,
    }
    /// Two officers enabled or disabled the module.
    ModuleSwitched = "cm.switched", Success, by(service), about() {
        /// Its number.
        serial: u64,
        /// `enabled` or `disabled`.
        to: Code,
        /// Thumbprint of the first officer's key.
        officer: Digest32,
        /// Thumbprint of the second officer's key.
        second: Digest32,
    }
    /// Two officers had a key of the provider made or ended.
    CeremonyHeld = "cm.ceremony-held", Success, by(service), about() {
        /// Digest of what they approved.
        ceremony: Digest32,
        /// `seal`, `log` or `destroy`.
        what: Code,
        /// Thumbprint of the first officer's key.
        officer: Digest32,
        /// Thumbprint of the second officer's key.
        second: Digest32,
    }
    /// Settings of the module or its policy changed.
    ModuleSettings = "cm.settings", Success, by(service), about() {
        /// Digest of the settings.
        settings: Digest32,
    }

    // --- request and act ---

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

    // --- SAD and signature ---

    /// Signature activation data was issued: the act was bound to a token.
    SadBound = "sad.bound", Success, by(client client), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Client.
        client: ClientId,
        /// Person.
        person: PersonId,
        /// Digest of the token.
        grant: Digest32,
    }
    /// Signature activation data was used up; the order to the module follows.
    SadConsumed = "sad.consumed", Intent, by(client client), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Client.
        client: ClientId,
        /// Person.
        person: PersonId,
        /// Key.
        key: KeyId,
        /// Step within the act.
        step: u32,
        /// Number of items taken.
        items: u32,
        /// Digest of the call.
        call: Digest32,
    }
    /// Signature activation data was renewed; the old token is dead.
    SadRenewed = "sad.renewed", Success, by(client client), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Client.
        client: ClientId,
        /// Person.
        person: PersonId,
        /// Step from here on.
        step: u32,
        /// Digest of the new token.
        grant: Digest32,
    }
    /// Signature activation data ran out unused, or was revoked.
    SadEnded = "sad.ended", Success, by(service), about(maybe person) {
        /// Digest of the act.
        act: Digest32,
        /// Person.
        person: Option<PersonId>,
        /// Why.
        reason: Code,
    }
    /// A call with signature activation data was refused.
    SadRefused = "sad.refused", Failure, by(maybe_client client), about(maybe person) {
        /// Digest of the act, when it is known.
        act: Option<Digest32>,
        /// Client.
        client: Option<ClientId>,
        /// Person.
        person: Option<PersonId>,
        /// Why.
        reason: Code,
    }
    /// Signatures were made and verified, and leave next.
    SignatureMade = "signature.made", Success, by(person person), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Client.
        client: ClientId,
        /// Person.
        person: PersonId,
        /// Key.
        key: KeyId,
        /// SHA-256 of the certificate.
        certificate: Digest32,
        /// Algorithm.
        alg: SigAlg,
        /// Step within the act.
        step: u32,
        /// Number of values.
        count: u32,
        /// SHA-256 over the values in order.
        values: Digest32,
        /// Digest of the evidence.
        evidence: Digest32,
    }
    /// No signature came out.
    SignatureFailed = "signature.failed", Failure, by(person person), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Client.
        client: ClientId,
        /// Person.
        person: PersonId,
        /// Key.
        key: KeyId,
        /// SHA-256 of the certificate.
        certificate: Digest32,
        /// Algorithm.
        alg: SigAlg,
        /// Why; `lost` when the outcome is unknown.
        reason: Code,
    }
    /// A value from the module didn't verify; it was destroyed.
    SignatureWrong = "signature.wrong", Failure, by(service), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Person.
        person: PersonId,
        /// Key, which is stopped.
        key: KeyId,
    }
    /// Values made before were handed out again to the identical call.
    SignatureRepeated = "signature.repeated", Success, by(client client), about(one person) {
        /// Digest of the act.
        act: Digest32,
        /// Client.
        client: ClientId,
        /// Person.
        person: PersonId,
        /// Digest of the call.
        call: Digest32,
    }

    // --- enrolment ---

    /// A registration authority, or the SSA below level 2, invited a person.
    VoucherMade = "voucher.made", Success, by(authority authority), about() {
        /// Voucher.
        voucher: VoucherId,
        /// Digest of the inviting authority's key.
        authority: Digest32,
        /// Highest level it may lead to.
        ceiling: Level,
    }
    /// A voucher was redeemed.
    VoucherUsed = "voucher.used", Success, by(person person), about(one person) {
        /// Voucher.
        voucher: VoucherId,
        /// Person.
        person: PersonId,
    }
    /// A voucher was refused.
    VoucherRefused = "voucher.refused", Failure, by(unknown), about() {
        /// Voucher, when it is known.
        voucher: Option<VoucherId>,
        /// Why.
        reason: Code,
    }
    /// A person was enrolled.
    Enrolled = "person.enrolled", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// First factor.
        factor: FactorId,
        /// Its method.
        method: Code,
        /// Digest of the enrol act.
        act: Digest32,
        /// Digest of the evidence.
        evidence: Digest32,
    }
    /// A factor was added.
    FactorAdded = "factor.added", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Factor.
        factor: FactorId,
        /// Its method.
        method: Code,
        /// Digest of the act.
        act: Digest32,
        /// Digest of the evidence.
        evidence: Digest32,
    }
    /// A factor was removed.
    FactorRemoved = "factor.removed", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Factor.
        factor: FactorId,
        /// Digest of the act.
        act: Digest32,
    }
    /// The PIN of a factor was changed.
    FactorChanged = "factor.changed", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Factor.
        factor: FactorId,
        /// Digest of the act.
        act: Digest32,
    }
    /// A locked factor counts again.
    FactorUnlocked = "factor.unlocked", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Factor.
        factor: FactorId,
        /// Digest of the act.
        act: Digest32,
    }
    /// A registration ended: its keys are destroyed, its factors removed.
    RegistrationEnded = "registration.ended", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// The voucher that began it.
        voucher: VoucherId,
        /// Why.
        reason: Code,
        /// Digest of the act.
        act: Digest32,
    }
    /// A request to change a key's state, factors or a registration was accepted.
    ChangeAsked = "change.asked", Success, by(service), about(one person) {
        /// Digest that names the request.
        request: Digest32,
        /// Person asked to approve.
        person: PersonId,
        /// What is asked for.
        what: Code,
    }
    /// A certificate was bound to its key, which is active from here on.
    CertificateAccepted = "certificate.accepted", Success, by(service), about(one person) {
        /// Key.
        key: KeyId,
        /// Person.
        person: PersonId,
        /// SHA-256 of the certificate.
        certificate: Digest32,
    }
    /// A certificate was refused.
    CertificateRefused = "certificate.refused", Failure, by(service), about() {
        /// Key.
        key: KeyId,
        /// Why.
        reason: Code,
    }

    // --- accounts, clients, access ---

    /// An account was made.
    AccountMade = "account.made", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
    }
    /// Somebody logged in.
    LoginSucceeded = "login.succeeded", Success, by(person person), about(one person) {
        /// Person.
        person: PersonId,
        /// Method.
        method: Code,
    }
    /// A login failed.
    LoginFailed = "login.failed", Failure, by(maybe_person person), about(maybe person) {
        /// Person, when the account exists.
        person: Option<PersonId>,
        /// Method.
        method: Code,
        /// Why.
        reason: Code,
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
    }
    /// A client didn't authenticate.
    ClientRefused = "client.refused", Failure, by(maybe_client client), about() {
        /// Client, when it is registered.
        client: Option<ClientId>,
        /// Why.
        reason: Code,
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
}
