//! A PKCS#11 module that misbehaves on order, for tests only: it forwards every call to the real module, except for
//! those that its control file spoils.
//!
//! Environment: `NATSUIN_FAULTS_MODULE`, the real module; `NATSUIN_FAULTS`, the control file, read at every call. Each
//! of its lines spoils calls of one function, or of all (`*`):
//!
//! ```text
//! FUNCTION ACTION [TIMES]
//! C_SignInit rv:0xb3 1      answer with this CK_RV instead of calling
//! C_Sign     late:0x30 1    call, and answer with this CK_RV all the same
//! C_Sign     hang           don't call before the control file changes
//! C_Sign     flip 1         call, and change a bit of the value
//! C_GetTokenInfo flags:0x20000  call, and add these flags to the answer
//! C_GenerateRandom stuck    call, and give the same bytes every time
//! C_SignInit logout 1       log out first, then call
//! C_SignInit closeall 1     close all sessions of the token first, then call
//! C_SignInit finalize 1     stop the real library first, then call
//! C_Sign     crash 1        end the process
//! ```
//!
//! A module that has AES key wrap with padding (RFC 5649) under its newer name only has it under both here, since the binding
//! of the tested code can't say the newer one.
//!
//! Lines without TIMES hold until the file changes. It must never know keys, orders or the crates that it tests.

pub mod control;
mod forward;
pub mod softhsm;
