//! Words for the audit log.

use audit_log::Code;
use sam_core::Reason;
use sap::proof::Method;

/// The word for a reason.
pub(crate) fn reason(reason: &Reason) -> Code {
    reason.code().into()
}

/// The word for a method.
pub(crate) fn method(method: Method) -> Code {
    match method {
        Method::Passkey => "passkey".into(),
        Method::PinTotp => "pin-totp".into(),
        Method::Device => "device".into(),
        Method::Idp => "idp".into(),
        Method::Collected => "collected".into(),
    }
}
