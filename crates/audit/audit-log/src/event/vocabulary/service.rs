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
    /// An auditor's program read entries.
    AuditRead = "audit.read", Success, by(peer reader), about() {
        /// Who.
        reader: PeerId,
        /// How: `bundle`, `search`.
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
    /// A condition that an operator must look at.
    Alarm = "alarm", Failure, by(service), about() {
        /// Which.
        what: Code,
    }
        }
    };
}
