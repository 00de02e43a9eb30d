//! What a failed PKCS#11 call means: for the value that was asked for, and for the way back.

use cm_core::backend::Fault;
use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

/// What has to be renewed before the call may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cure {
    /// Nothing helps: the call itself is at fault.
    None,
    /// Fewer sessions at once: the token has no room for another one.
    Fewer,
    /// Another session.
    Session,
    /// Other sessions, and the slot searched anew.
    Token,
    /// The library initialised anew.
    Library,
    /// A person: the token refuses the PIN, and another try could block it.
    Person,
}

/// The token is well and doesn't do what it was asked for, today or tomorrow: nobody waits for that.
pub(crate) const LACKS: Fault = Fault::Unfit("the token doesn't do this");

/// A failed call: the cure, whether a value may exist, and the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cure: Cure,
    pub(crate) maybe_made: bool,
    pub(crate) what: &'static str,
    /// What was found, if the call itself is at fault.
    pub(crate) fault: Option<Fault>,
}

impl Failure {
    /// Judges an error. The token's words go to the operator only.
    pub(crate) fn of(what: &'static str, error: &Error) -> Self {
        tracing::warn!(what, %error, "a call of the PKCS#11 token failed");
        Self {
            cure: cure(error),
            maybe_made: maybe_made(error),
            what,
            fault: lacks(error).then_some(LACKS),
        }
    }

    /// A fault of the caller or of the token's answer; no cure.
    pub(crate) fn plain(fault: Fault) -> Self {
        Self {
            cure: Cure::None,
            maybe_made: !fault.nothing_was_made(),
            what: fault.what(),
            fault: Some(fault),
        }
    }

    /// The fault that the module gets when no cure has helped. Whatever ended the last try: if an earlier one may have
    /// made something, nobody can say that nothing was made. That a person is wanted is told at the next call.
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self {
                fault: Some(fault),
                maybe_made,
                ..
            } if !(maybe_made && fault.nothing_was_made()) => fault,
            Self {
                maybe_made: true,
                what,
                ..
            } => Fault::Unknown(what),
            Self {
                cure: Cure::Person,
                what,
                ..
            } => Fault::Locked(what),
            Self { what, .. } => Fault::Unavailable(what),
        }
    }
}

fn cure(error: &Error) -> Cure {
    let Error::Pkcs11(rv, function) = error else {
        return Cure::None;
    };
    match rv {
        // Full: no other session makes room for what stays.
        RvError::DeviceMemory if makes(*function) => Cure::None,
        RvError::PinIncorrect
        | RvError::PinInvalid
        | RvError::PinLenRange
        | RvError::PinExpired
        | RvError::PinLocked
        | RvError::UserPinNotInitialized
        | RvError::UserAnotherAlreadyLoggedIn => Cure::Person,
        RvError::SessionCount => Cure::Fewer,
        RvError::CryptokiNotInitialized => Cure::Library,
        RvError::GeneralError
        | RvError::FunctionFailed
        | RvError::DeviceError
        | RvError::DeviceMemory
        | RvError::DeviceRemoved
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::UserNotLoggedIn
        | RvError::VendorDefined(_)
        | RvError::UnknownErrorCode(_) => Cure::Token,
        RvError::SessionClosed
        | RvError::SessionHandleInvalid
        | RvError::KeyHandleInvalid
        | RvError::ObjectHandleInvalid
        | RvError::WrappingKeyHandleInvalid
        | RvError::UnwrappingKeyHandleInvalid
        | RvError::OperationActive
        | RvError::OperationNotInitialized
        | RvError::HostMemory
        | RvError::Cancel
        | RvError::FunctionCanceled => Cure::Session,
        _ => Cure::None,
    }
}

/// Answers by which a token says that it hasn't the mechanism, curve, size or parameters.
fn lacks(error: &Error) -> bool {
    use RvError::{CurveNotSupported, KeySizeRange, MechanismInvalid, MechanismParamInvalid};
    matches!(
        error,
        Error::Pkcs11(
            MechanismInvalid | MechanismParamInvalid | KeySizeRange | CurveNotSupported,
            Function::SignInit | Function::GenerateKeyPair,
        )
    )
}

/// Calls that make objects of the token.
fn makes(function: Function) -> bool {
    matches!(
        function,
        Function::GenerateKeyPair | Function::GenerateKey | Function::CreateObject
    )
}

/// Only a call that computes can have made something, and only if its error doesn't say that it never began
/// (PKCS#11 §5.1: *at the time that the function was invoked*).
fn maybe_made(error: &Error) -> bool {
    match error {
        Error::Pkcs11(RvError::DeviceMemory, function) if makes(*function) => false,
        Error::Pkcs11(rv, function) if matches!(function, Function::Sign) || makes(*function) => {
            !matches!(
                rv,
                RvError::SessionHandleInvalid
                    | RvError::OperationNotInitialized
                    | RvError::CryptokiNotInitialized
                    | RvError::UserNotLoggedIn
                    | RvError::TokenNotPresent
                    | RvError::ArgumentsBad
                    | RvError::DataInvalid
                    | RvError::DataLenRange
                    | RvError::MechanismInvalid
                    | RvError::MechanismParamInvalid
                    | RvError::KeySizeRange
                    | RvError::CurveNotSupported
                    | RvError::TemplateInconsistent
                    | RvError::TemplateIncomplete
                    | RvError::AttributeValueInvalid
            )
        }
        Error::Pkcs11(..) => false,
        // A binding that can't make sense of what came back: something did come back.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use cm_core::backend::NO_SUCH_KEY;

    use super::*;

    // shows: T-KEY-MALFUNCTION, T-KEY-ABUSE
    #[test]
    fn nothing_was_made_is_said_only_when_it_is_certain() {
        let class = |rv, function| Failure::of("test", &Error::Pkcs11(rv, function)).into_fault();
        for rv in [
            RvError::DeviceError,
            RvError::SessionClosed,
            RvError::GeneralError,
            RvError::FunctionFailed,
            RvError::DeviceRemoved,
            RvError::UnknownErrorCode(0x8000_0001),
        ] {
            assert!(!class(rv, Function::Sign).nothing_was_made(), "{rv:?}");
            assert!(class(rv, Function::SignInit).nothing_was_made(), "{rv:?}");
        }
        assert!(class(RvError::SessionHandleInvalid, Function::Sign).nothing_was_made());
        for function in [
            Function::GenerateKeyPair,
            Function::GenerateKey,
            Function::CreateObject,
        ] {
            let full = Failure::of("test", &Error::Pkcs11(RvError::DeviceMemory, function));
            assert_eq!((full.cure, full.maybe_made), (Cure::None, false));
            assert!(!class(RvError::DeviceError, function).nothing_was_made());
        }
        assert!(
            !Failure::of("test", &Error::InvalidValue)
                .into_fault()
                .nothing_was_made()
        );
        assert!(matches!(
            class(RvError::PinIncorrect, Function::Login),
            Fault::Locked(_)
        ));
        for (rv, function) in [
            (RvError::MechanismInvalid, Function::SignInit),
            (RvError::MechanismParamInvalid, Function::SignInit),
            (RvError::CurveNotSupported, Function::GenerateKeyPair),
            (RvError::KeySizeRange, Function::GenerateKeyPair),
        ] {
            assert_eq!(class(rv, function), LACKS);
        }
        // An earlier try may have made something; the last one found no key, or was refused the login.
        let missing = Failure::plain(NO_SUCH_KEY);
        let login = Error::Pkcs11(RvError::PinIncorrect, Function::Login);
        for last in [missing, Failure::of("test", &login)] {
            let fault = Failure {
                maybe_made: true,
                ..last
            };
            assert!(!fault.into_fault().nothing_was_made());
        }
        let wrong = Failure::plain(Fault::Broken("a wrong value"));
        assert!(matches!(wrong.into_fault(), Fault::Broken(_)));
    }
}
