//! Persons, their factors and certificates.

macro_rules! enrolment_events {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! { $($rest)*; $($before)*

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
    /// The certificate of a key is about to end; its owner is told.
    CertificateEnding = "certificate.ending", Success, by(service), about(one person) {
        /// Key.
        key: KeyId,
        /// Person.
        person: PersonId,
        /// When it ends.
        until: UnixTime,
    }
    /// A person was told by mail of what happened to their keys and factors.
    SignerTold = "signer.told", Success, by(service), about(one person) {
        /// Person.
        person: PersonId,
        /// Names the notice.
        notice: Digest32,
        /// Of how many things it tells.
        entries: u32,
    }
    /// A notice to a person wasn't delivered.
    SignerNotTold = "signer.not-told", Failure, by(service), about(one person) {
        /// Person.
        person: PersonId,
        /// Names the notice.
        notice: Digest32,
        /// `not-now`: it is tried again; `given-up`, `refused` or `no-courier`: it isn't.
        reason: Code,
    }
    /// What a CA published about the certificate of a key was heeded.
    RevocationHeeded = "revocation.heeded", Success, by(authority authority), about(one owner) {
        /// SHA-256 of the CA's certificate.
        authority: Digest32,
        /// Key.
        key: KeyId,
        /// Owner.
        owner: PersonId,
        /// `revoked`, `hold` or `released`.
        effect: Code,
        /// Digest of the evidence.
        evidence: Digest32,
    }
    /// What was said to be published about the certificate of a key says nothing about it.
    RevocationRefused = "revocation.refused", Failure, by(service), about() {
        /// Key.
        key: KeyId,
        /// Why.
        reason: Code,
    }
    /// A certificate was refused.
    CertificateRefused = "certificate.refused", Failure, by(service), about() {
        /// Key.
        key: KeyId,
        /// Why.
        reason: Code,
    }
        }
    };
}
