//! The foreign side: the table of functions that the application gets, and the wrappers in it.

#![expect(
    unsafe_code,
    reason = "a PKCS#11 module is a C interface; this is the one file of the project that has it, and for tests only"
)]
#![expect(
    non_snake_case,
    reason = "functions of PKCS#11 are called by their names"
)]

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use cryptoki_sys as ck;

use crate::control::{self, Action};

/// How often a hanging call looks whether it may go on.
const LOOK: Duration = Duration::from_millis(1);

struct Real {
    /// Keeps the library loaded.
    _library: ck::Pkcs11,
    functions: ck::CK_FUNCTION_LIST,
    spoilt: ck::CK_FUNCTION_LIST,
}

// SAFETY: function pointers and a library handle, never changed after they were made.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

fn real() -> Option<&'static Real> {
    static REAL: OnceLock<Option<Real>> = OnceLock::new();
    REAL.get_or_init(load).as_ref()
}

fn load() -> Option<Real> {
    let path = std::env::var_os(control::MODULE)?;
    // SAFETY: loads the module that the test names; its own initialisers are trusted like the module itself.
    let library = unsafe { ck::Pkcs11::new(path) }.ok()?;
    let get = *library.C_GetFunctionList.as_ref().ok()?;
    let mut list = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for one pointer, which is all that this function writes.
    if unsafe { get(&mut list) } != ck::CKR_OK || list.is_null() {
        return None;
    }
    // SAFETY: the module answered CKR_OK, so that `list` points to its static table.
    let functions = unsafe { *list };
    Some(Real {
        _library: library,
        functions,
        spoilt: ck::CK_FUNCTION_LIST {
            C_GetMechanismList: Some(mechanism_list),
            C_WrapKey: Some(wrap_key),
            C_UnwrapKey: Some(unwrap_key),
            ..spoilt(functions)
        },
    })
}

/// # Safety
/// As PKCS#11 says: `list` is a valid place for one pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut ck::CK_FUNCTION_LIST) -> ck::CK_RV {
    match real() {
        Some(real) if !list.is_null() => {
            // SAFETY: `list` isn't null and the caller vouches for it; the table lives as long as the process and
            // is only read.
            unsafe { *list = std::ptr::from_ref(&real.spoilt).cast_mut() };
            ck::CKR_OK
        }
        _ => ck::CKR_GENERAL_ERROR,
    }
}

/// Does what spoils a call before it. Answers the code that replaces the call, and the one that replaces its answer.
fn before(
    name: &str,
    session: Option<ck::CK_SESSION_HANDLE>,
) -> (Option<ck::CK_RV>, Option<Action>) {
    let action = control::now(name);
    match action {
        Some(Action::Rv(rv)) => (Some(rv), None),
        Some(Action::Hang) => {
            let (_keep, never) = sync_channel::<()>(0);
            let then = control::text();
            while control::is(&then) {
                let _ = never.recv_timeout(LOOK);
            }
            (None, None)
        }
        Some(Action::Crash) => std::process::abort(),
        Some(action @ (Action::Logout | Action::CloseAll | Action::Finalize)) => {
            disturb(action, session);
            (None, None)
        }
        other => (None, other),
    }
}

fn disturb(action: Action, session: Option<ck::CK_SESSION_HANDLE>) {
    let Some(f) = real().map(|r| r.functions) else {
        return;
    };
    // SAFETY: calls of the real module with a session handle that the application got from it, and places that are
    // valid for what the functions write.
    unsafe {
        match (action, session) {
            (Action::Logout, Some(session)) => {
                f.C_Logout.map(|c| c(session));
            }
            (Action::CloseAll, Some(session)) => {
                let mut info: ck::CK_SESSION_INFO = std::mem::zeroed();
                f.C_GetSessionInfo.map(|c| c(session, &mut info));
                f.C_CloseAllSessions.map(|c| c(info.slotID));
            }
            (Action::Finalize, _) => {
                f.C_Finalize.map(|c| c(std::ptr::null_mut()));
            }
            _ => {}
        }
    }
}

fn after(action: Option<Action>, rv: ck::CK_RV) -> ck::CK_RV {
    match action {
        Some(Action::Late(late)) => late,
        _ => rv,
    }
}

/// Wrappers that spoil a call: `session NAME(first, rest…)` for functions of a session, `plain` for the others.
macro_rules! wrappers {
    ($($kind:ident $name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            unsafe extern "C" fn $name($($arg: $type),*) -> ck::CK_RV {
                let Some(call) = real().and_then(|r| r.functions.$name) else {
                    return ck::CKR_FUNCTION_NOT_SUPPORTED;
                };
                let (instead, action) = before(stringify!($name), wrappers!(@session $kind $($arg),*));
                if let Some(rv) = instead {
                    return rv;
                }
                // SAFETY: the arguments are the application's own, passed on as they are.
                after(action, unsafe { call($($arg),*) })
            }
        )*

        fn spoilt(real: ck::CK_FUNCTION_LIST) -> ck::CK_FUNCTION_LIST {
            ck::CK_FUNCTION_LIST {
                C_GetFunctionList: Some(C_GetFunctionList),
                C_GetTokenInfo: Some(C_GetTokenInfo),
                C_Sign: Some(C_Sign),
                C_GenerateRandom: Some(C_GenerateRandom),
                $($name: Some($name),)*
                ..real
            }
        }
    };
    (@session session $first:ident $(, $rest:ident)*) => { Some($first) };
    (@session plain $($arg:ident),*) => { None };
}

wrappers! {
    plain C_Initialize(arguments: *mut c_void);
    plain C_GetSlotList(present: ck::CK_BBOOL, list: *mut ck::CK_SLOT_ID, count: *mut ck::CK_ULONG);
    plain C_OpenSession(slot: ck::CK_SLOT_ID, flags: ck::CK_FLAGS, application: *mut c_void, notify: ck::CK_NOTIFY, session: *mut ck::CK_SESSION_HANDLE);
    session C_CloseSession(session: ck::CK_SESSION_HANDLE);
    session C_GetSessionInfo(session: ck::CK_SESSION_HANDLE, info: *mut ck::CK_SESSION_INFO);
    session C_Login(session: ck::CK_SESSION_HANDLE, user: ck::CK_USER_TYPE, pin: *mut ck::CK_UTF8CHAR, length: ck::CK_ULONG);
    session C_GetAttributeValue(session: ck::CK_SESSION_HANDLE, object: ck::CK_OBJECT_HANDLE, template: *mut ck::CK_ATTRIBUTE, count: ck::CK_ULONG);
    session C_SetAttributeValue(session: ck::CK_SESSION_HANDLE, object: ck::CK_OBJECT_HANDLE, template: *mut ck::CK_ATTRIBUTE, count: ck::CK_ULONG);
    session C_FindObjectsInit(session: ck::CK_SESSION_HANDLE, template: *mut ck::CK_ATTRIBUTE, count: ck::CK_ULONG);
    session C_DestroyObject(session: ck::CK_SESSION_HANDLE, object: ck::CK_OBJECT_HANDLE);
    session C_SignInit(session: ck::CK_SESSION_HANDLE, mechanism: *mut ck::CK_MECHANISM, key: ck::CK_OBJECT_HANDLE);
    session C_GenerateKeyPair(session: ck::CK_SESSION_HANDLE, mechanism: *mut ck::CK_MECHANISM, public: *mut ck::CK_ATTRIBUTE, publics: ck::CK_ULONG, private: *mut ck::CK_ATTRIBUTE, privates: ck::CK_ULONG, public_key: *mut ck::CK_OBJECT_HANDLE, private_key: *mut ck::CK_OBJECT_HANDLE);
    session C_GenerateKey(session: ck::CK_SESSION_HANDLE, mechanism: *mut ck::CK_MECHANISM, template: *mut ck::CK_ATTRIBUTE, count: ck::CK_ULONG, key: *mut ck::CK_OBJECT_HANDLE);
    session C_WrapKey(session: ck::CK_SESSION_HANDLE, mechanism: *mut ck::CK_MECHANISM, with: ck::CK_OBJECT_HANDLE, key: ck::CK_OBJECT_HANDLE, wrapped: *mut ck::CK_BYTE, length: *mut ck::CK_ULONG);
    session C_UnwrapKey(session: ck::CK_SESSION_HANDLE, mechanism: *mut ck::CK_MECHANISM, with: ck::CK_OBJECT_HANDLE, wrapped: *mut ck::CK_BYTE, length: ck::CK_ULONG, template: *mut ck::CK_ATTRIBUTE, count: ck::CK_ULONG, key: *mut ck::CK_OBJECT_HANDLE);
    session C_CreateObject(session: ck::CK_SESSION_HANDLE, template: *mut ck::CK_ATTRIBUTE, count: ck::CK_ULONG, object: *mut ck::CK_OBJECT_HANDLE);
}

/// Whether the real module has AES key wrap with padding (RFC 5649) under its name of PKCS#11 3.0 only, which the binding of
/// the tested code can't say: then it has it under the older name here.
static RENAMED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn mechanism_list(
    slot: ck::CK_SLOT_ID,
    list: *mut ck::CK_MECHANISM_TYPE,
    count: *mut ck::CK_ULONG,
) -> ck::CK_RV {
    let Some(call) = real().and_then(|r| r.functions.C_GetMechanismList) else {
        return ck::CKR_FUNCTION_NOT_SUPPORTED;
    };
    // SAFETY: the application's own arguments.
    let rv = unsafe { call(slot, list, count) };
    if rv != ck::CKR_OK || list.is_null() || count.is_null() {
        return rv;
    }
    // SAFETY: the module has answered CKR_OK, so that it wrote `count` and as many entries of `list`.
    let told =
        unsafe { std::slice::from_raw_parts_mut(list, usize::try_from(*count).unwrap_or(0)) };
    if !told.contains(&ck::CKM_AES_KEY_WRAP_PAD) {
        for mechanism in told.iter_mut().filter(|m| **m == ck::CKM_AES_KEY_WRAP_KWP) {
            *mechanism = ck::CKM_AES_KEY_WRAP_PAD;
            RENAMED.store(true, Ordering::SeqCst);
        }
    }
    rv
}

/// The mechanism by the name that the real module knows.
///
/// # Safety
/// As PKCS#11 says: `mechanism` is valid for reading, or null.
unsafe fn by_real_name(mechanism: *mut ck::CK_MECHANISM) -> Option<ck::CK_MECHANISM> {
    if mechanism.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for it.
    let mut told = unsafe { *mechanism };
    if told.mechanism == ck::CKM_AES_KEY_WRAP_PAD && RENAMED.load(Ordering::SeqCst) {
        told.mechanism = ck::CKM_AES_KEY_WRAP_KWP;
    }
    Some(told)
}

unsafe extern "C" fn wrap_key(
    session: ck::CK_SESSION_HANDLE,
    mechanism: *mut ck::CK_MECHANISM,
    with: ck::CK_OBJECT_HANDLE,
    key: ck::CK_OBJECT_HANDLE,
    wrapped: *mut ck::CK_BYTE,
    length: *mut ck::CK_ULONG,
) -> ck::CK_RV {
    // SAFETY: the application's own argument.
    let Some(mut mechanism) = (unsafe { by_real_name(mechanism) }) else {
        return ck::CKR_ARGUMENTS_BAD;
    };
    // SAFETY: the application's own arguments, and a mechanism that lives as long as the call.
    unsafe { C_WrapKey(session, &mut mechanism, with, key, wrapped, length) }
}

unsafe extern "C" fn unwrap_key(
    session: ck::CK_SESSION_HANDLE,
    mechanism: *mut ck::CK_MECHANISM,
    with: ck::CK_OBJECT_HANDLE,
    wrapped: *mut ck::CK_BYTE,
    length: ck::CK_ULONG,
    template: *mut ck::CK_ATTRIBUTE,
    count: ck::CK_ULONG,
    key: *mut ck::CK_OBJECT_HANDLE,
) -> ck::CK_RV {
    // SAFETY: the application's own argument.
    let Some(mut mechanism) = (unsafe { by_real_name(mechanism) }) else {
        return ck::CKR_ARGUMENTS_BAD;
    };
    // SAFETY: the application's own arguments, and a mechanism that lives as long as the call.
    unsafe {
        C_UnwrapKey(
            session,
            &mut mechanism,
            with,
            wrapped,
            length,
            template,
            count,
            key,
        )
    }
}

/// Apart from the others, since what the token says can be changed.
unsafe extern "C" fn C_GetTokenInfo(
    slot: ck::CK_SLOT_ID,
    info: *mut ck::CK_TOKEN_INFO,
) -> ck::CK_RV {
    let Some(call) = real().and_then(|r| r.functions.C_GetTokenInfo) else {
        return ck::CKR_FUNCTION_NOT_SUPPORTED;
    };
    let (instead, action) = before("C_GetTokenInfo", None);
    if let Some(rv) = instead {
        return rv;
    }
    // SAFETY: the application's own arguments.
    let rv = unsafe { call(slot, info) };
    if let (ck::CKR_OK, Some(Action::Flags(more)), false) = (rv, action, info.is_null()) {
        // SAFETY: the module has just written there.
        unsafe { (*info).flags |= more };
    }
    after(action, rv)
}

/// Apart from the others, since only a call that hands out a value counts, and the value can be spoilt.
unsafe extern "C" fn C_Sign(
    session: ck::CK_SESSION_HANDLE,
    data: *mut ck::CK_BYTE,
    data_length: ck::CK_ULONG,
    value: *mut ck::CK_BYTE,
    value_length: *mut ck::CK_ULONG,
) -> ck::CK_RV {
    let Some(call) = real().and_then(|r| r.functions.C_Sign) else {
        return ck::CKR_FUNCTION_NOT_SUPPORTED;
    };
    if value.is_null() {
        // SAFETY: the application's own arguments; it asks for a length only.
        return unsafe { call(session, data, data_length, value, value_length) };
    }
    let (instead, action) = before("C_Sign", Some(session));
    if let Some(rv) = instead {
        return rv;
    }
    // SAFETY: the application's own arguments.
    let rv = unsafe { call(session, data, data_length, value, value_length) };
    if rv == ck::CKR_OK && action == Some(Action::Flip) {
        // SAFETY: the module wrote at least one byte of value there.
        unsafe { *value ^= 1 };
    }
    after(action, rv)
}

/// Apart from the others, since the bytes can be spoilt.
unsafe extern "C" fn C_GenerateRandom(
    session: ck::CK_SESSION_HANDLE,
    data: *mut ck::CK_BYTE,
    length: ck::CK_ULONG,
) -> ck::CK_RV {
    let Some(call) = real().and_then(|r| r.functions.C_GenerateRandom) else {
        return ck::CKR_FUNCTION_NOT_SUPPORTED;
    };
    let (instead, action) = before("C_GenerateRandom", Some(session));
    if let Some(rv) = instead {
        return rv;
    }
    // SAFETY: the application's own arguments.
    let rv = unsafe { call(session, data, length) };
    if rv == ck::CKR_OK && action == Some(Action::Stuck) {
        for place in 0..usize::try_from(length).unwrap_or(0) {
            let byte = u8::try_from(place % 251).unwrap_or(0);
            // SAFETY: the application vouches for `length` bytes, which the module has just written.
            unsafe { *data.add(place) = byte };
        }
    }
    after(action, rv)
}
