//! Environment, audit function, parameters.

macro_rules! service_events {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! { $($rest)*; $($before)*

    /// A zone's process is ready.
    ServiceStarted = "service.started", Success, by(service), about() {
        /// Version of the program.
        version: Code,
        /// Digest of the settings it started with.
        settings: Digest32,
    }
    /// The zone's store came out of a backup of the whole service; recorded at the first start after it.
    StoreRestored = "service.restored", Success, by(service), about() {
        /// Name of the backup.
        backup: Digest32,
        /// Name of the stores that it was restored into.
        target: Digest32,
        /// Thumbprint of the key of the operator who restored it.
        operator: Digest32,
        /// Thumbprint of the key of the officer who approved that.
        officer: Digest32,
        /// SHA-256 of both approvals with their reasons: the operator's, a line feed, the officer's.
        approvals: Digest32,
    }
    /// The zone's store says that it came out of a backup, and nobody who may approve that did.
    StoreRestoredUnapproved = "service.restored-unapproved", Failure, by(service), about() {
        /// Name of the backup as the store says; zeros when it says none.
        backup: Digest32,
        /// What is missing.
        reason: Code,
    }
    /// A backup of the zone's store was made, by a program beside it.
    StoreBackedUp = "service.backed-up", Success, by(service), about() {
        /// Name of the backup.
        backup: Digest32,
        /// Thumbprint of the key that signed it.
        signer: Digest32,
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
        /// Digest of the value before.
        before: Digest32,
        /// Digest of the new value.
        value: Digest32,
    }
    /// Somebody read entries: an auditor's program, an officer, or a command at the zone's machine.
    AuditRead = "audit.read", Success, by(peer reader), about() {
        /// Who: the name in a certificate, an officer's account, or the node as which a command writes.
        reader: PeerId,
        /// How: `bundle`, `search`, `follow`, `export`, `evidence`, `alerts`, `state`, `approvals`.
        what: Code,
        /// Digest of what was asked for.
        query: Digest32,
        /// Number of entries.
        entries: u32,
    }
    /// Somebody who may not read the log tried to.
    AuditReadRefused = "audit.read-refused", Failure, by(peer reader), about() {
        /// Who.
        reader: PeerId,
    }
    /// Which person an alias in the entries was is forgotten.
    PersonForgotten = "audit.person-forgotten", Success, by(service), about() {
        /// The alias.
        alias: Digest32,
        /// Digest of the proposal's document, which names the person by a commitment; or of the checkpoint up to which a log
        /// was brought that names persons of whom the store knows nothing.
        by: Digest32,
    }
    /// Entries were deleted after archiving; an archive that was checked has every one of them.
    LogDeleted = "audit.log-deleted", Success, by(service), about() {
        /// First place.
        from: u64,
        /// The place behind the last.
        size: u64,
        /// Digest that names the archive.
        archive: Digest32,
        /// Digest of the proposal's document.
        proposal: Digest32,
        /// An officer who approved it.
        officer: OfficerId,
        /// The other one.
        second: OfficerId,
        /// Digest over this and all deletions before.
        chain: Digest32,
    }
    /// A store from an older backup got the entries back that it lacked, from an export that the witness knows.
    LogReplayed = "audit.log-replayed", Success, by(service), about() {
        /// Entries that the store had.
        from: u64,
        /// Entries that it has now, without this one.
        size: u64,
    }
    /// A witness of the log has stayed away too long.
    WitnessAway = "audit.witness-away", Failure, by(service), about() {
        /// Which, as a digest of its name and key.
        witness: Digest32,
    }
    /// A witness that had stayed away cosigns again.
    WitnessBack = "audit.witness-back", Success, by(service), about() {
        /// Which, as a digest of its name and key.
        witness: Digest32,
    }
    /// A configuration was obeyed that hadn't been before.
    SettingsAdopted = "settings.adopted", Success, by(service), about() {
        /// Its number.
        serial: u64,
        /// Digest of what was signed.
        manifest: Digest32,
        /// How many have to sign the next one.
        need: u32,
        /// Digest of the thumbprints of those who may.
        signers: Digest32,
        /// Digest of the file of signatures, which is evidence: manifest, reason and who agreed.
        evidence: Digest32,
        /// Until when it could be obeyed for the first time.
        until: UnixTime,
        /// Thumbprint of a key that signed it.
        first: Option<Digest32>,
        /// Thumbprint of another one.
        second: Option<Digest32>,
    }
    /// A policy is in force that wasn't before: its version names this one for good.
    PolicyInForce = "settings.policy-in-force", Success, by(service), about() {
        /// Its version, which acts have.
        version: u64,
        /// Digest of its canonical text.
        policy: Digest32,
    }
    /// A configuration was not obeyed; the service doesn't start.
    SettingsRefused = "settings.refused", Failure, by(service), about() {
        /// Digest of the files' digests.
        files: Digest32,
        /// Why.
        reason: Code,
    }
    /// An issue of the FIDO metadata counts from here on, and none before it of those that lead to its root.
    MetadataAdopted = "attestation.metadata", Success, by(service), about() {
        /// Its number.
        number: u64,
        /// SHA-256 of the root certificate to which its signer leads.
        root: Digest32,
        /// SHA-256 of the file.
        file: Digest32,
        /// When a newer one should exist.
        until: UnixTime,
    }
    /// What the page of signers or of officers consists of, by the settings: a monitor holds what is served against it.
    PagesDeclared = "pages.declared", Success, by(service), about() {
        /// Whose: `signers`, `officers`.
        whose: Code,
        /// SHA-256 of the list of the files' digests, which is evidence.
        evidence: Digest32,
        /// How many files.
        files: u32,
    }
    /// Sealed rows changed in a way that is no event of its own; the entry's `rows` name them.
    RowsChanged = "rows.changed", Success, by(service), about() {
        /// Why, such as `try-forgiven`.
        why: Code,
    }
    /// Another setting has another value than at the last start.
    ParameterChanged = "parameter.changed", Success, by(service), about() {
        /// Which.
        parameter: Code,
        /// Digest of the value before.
        before: Digest32,
        /// Digest of the new value.
        value: Digest32,
    }
    /// The clock's state changed.
    ClockState = "clock.state", Success, by(service), about() {
        /// Such as `synchronised`, `unsynchronised`, `stepped`.
        state: Code,
    }
    /// What a source of time says, or why it says nothing, changed.
    ClockSource = "clock.source", Success, by(service), about() {
        /// Its name in the settings.
        source: PeerId,
        /// Such as `agrees`, `false`, `silent`.
        state: Code,
    }
    /// A condition that an operator must look at.
    Alarm = "alarm", Failure, by(service), about() {
        /// Which.
        what: Code,
    }
        }
    };
}
