//! Signature activation data and signatures.

macro_rules! signature_events {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! { $($rest)*; $($before)*

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
        }
    };
}
