//! The cryptographic module and its keys.

macro_rules! module_events {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! { $($rest)*; $($before)*

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
        /// Digest of the signer's proof, without its secrets.
        proof: Digest32,
        /// Name of the order.
        order: Digest32,
        /// Step of the act.
        step: u32,
        /// Number of the order within the step.
        attempt: u32,
    }
    /// Certainly no value came of an order; the SAM may order once more.
    KeyGaveNothing = "key.gave-nothing", Failure, by(service), about(one owner) {
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
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
        /// SHA-256 of its SubjectPublicKeyInfo.
        spki: Digest32,
    }
    /// A signing key that the log until then tells of isn't in the backup that was restored: a row of it is none, and no key with
    /// its public half comes in.
    KeyNotRestored = "key.not-restored", Success, by(service), about() {
        /// Key.
        key: KeyId,
        /// SHA-256 of its SubjectPublicKeyInfo, if that log says it.
        spki: Option<Digest32>,
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
    /// A signing key was stopped without its user's proof, on somebody's word.
    KeyStopped = "key.stopped", Success, by(peer peer), about(one owner) {
        /// Who asked: name in the certificate.
        peer: PeerId,
        /// Key.
        key: KeyId,
        /// Its user.
        owner: PersonId,
        /// On what: `login`, `guard`.
        method: Code,
        /// Digest of the evidence.
        evidence: Digest32,
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
    /// Keys of the SAM are known from here on: what its act key signs is an order.
    SamKeyTaken = "cm.sam-key-taken", Success, by(service), about() {
        /// Thumbprint of the act key.
        act_key: Digest32,
        /// Thumbprint of the earlier act key that vouched for it; nothing for the first one, for one that officers let follow, and for what a restore
        /// says again.
        by: Option<Digest32>,
    }
    /// Until then the SAM's next keys are taken without the word of those before.
    SamKeysOpen = "cm.sam-keys-open", Success, by(service), about() {
        /// End.
        until: UnixTime,
    }
    /// The SAM, or whoever has its certificate, gets the key of its rows.
    RowKeyGiven = "cm.row-key-given", Success, by(service), about() {
        /// `made` or `opened`.
        what: Code,
        /// How many this process has given until now.
        count: u64,
    }
    /// So many PINs were hashed for the SAM since the last such entry of this process, of an hour at least.
    PinsHashed = "cm.pins-hashed", Success, by(service), about() {
        /// How many.
        count: u64,
        /// How many more were asked for, beyond what an honest SAM asks for.
        refused: u64,
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
        /// Keys that came back.
        keys: u64,
        /// Keys that were destroyed since the backup and stay so.
        refused: u64,
        /// Keys made since the backup.
        lost: u64,
    }
    /// Two officers had approved that restore, for this store alone.
    RestoreApproved = "cm.restore-approved", Success, by(service), about() {
        /// Digest of what they approved.
        approval: Digest32,
        /// Name of the backup.
        backup: Digest32,
        /// Thumbprint of the first officer's key.
        officer: Digest32,
        /// Thumbprint of the second officer's key.
        second: Digest32,
    }
    /// A log key signed a checkpoint.
    CheckpointSigned = "cm.checkpoint-signed", Success, by(service), about() {
        /// Key.
        key: KeyId,
        /// Number of entries in the tree.
        size: u64,
        /// Root hash.
        root: Digest32,
    }
    /// Two officers enabled or disabled the module, or let it go on after an error.
    ModuleSwitched = "cm.switched", Success, by(service), about() {
        /// Its number.
        serial: u64,
        /// `enabled`, `disabled` or `recovered`.
        to: Code,
        /// Digest of what they approved, their reason in it; the module has kept it.
        approval: Digest32,
        /// Thumbprint of the first officer's key.
        officer: Digest32,
        /// Thumbprint of the second officer's key.
        second: Digest32,
    }
    /// A device or generator was found wrong: the module begins in its error state until somebody ends that.
    ErrorKept = "cm.error-kept", Failure, by(service), about() {
        /// Digest of the error's name, as the module's state tells it.
        error: Digest32,
    }
    /// The module may leave that error.
    ErrorEnded = "cm.error-ended", Success, by(service), about() {
        /// Digest of its name.
        error: Digest32,
        /// By whom: `officers`, of whom `cm.switched` says who, or at level 1 the `administrator`.
        method: Code,
    }
    /// Two officers had a key of the provider made or ended.
    CeremonyHeld = "cm.ceremony-held", Success, by(service), about() {
        /// Digest of what they approved, their reason in it; the module has kept it.
        ceremony: Digest32,
        /// `seal`, `log`, `destroy` or `new-sam`.
        what: Code,
        /// Thumbprint of the first officer's key.
        officer: Digest32,
        /// Thumbprint of the second officer's key.
        second: Digest32,
    }
    /// Another table of approved algorithms is in force from here on.
    AlgorithmsInForce = "cm.algorithms-in-force", Success, by(service), about() {
        /// Its version.
        version: u64,
        /// SHA-256 of its text.
        table: Digest32,
        /// How many officers signed it.
        officers: u64,
    }
    /// These are the module's officers from here on.
    OfficersInForce = "cm.officers-in-force", Success, by(service), about() {
        /// Version of the list; the first one is 1.
        version: u64,
        /// Its name: a digest over the thumbprints of their keys.
        list: Digest32,
        /// How many.
        persons: u64,
        /// Digest of what two officers of the list before approved; nothing where there were none, and for what a restore says again.
        approval: Option<Digest32>,
        /// Thumbprint of the first one's key.
        officer: Option<Digest32>,
        /// Thumbprint of the second one's.
        second: Option<Digest32>,
    }
    /// What the module runs as from here on.
    ModuleSettings = "cm.settings", Success, by(service), about() {
        /// Digest over program and configuration.
        settings: Digest32,
        /// SHA-256 of the program.
        program: Digest32,
        /// SHA-256 of the library that gets the PIN; of several, over theirs one after the other.
        library: Option<Digest32>,
    }
        }
    };
}
