//! The two JOSE objects Natsuin uses, each with one fixed header: compact JWS with ES256 (RFC 7515, 7518 §3.4)
//! and compact JWE with ECDH-ES on P-256 and A256GCM (RFC 7516, 7518 §4.6). What others sign for OAuth is read by
//! [`ForeignJws`], with the little that has to be negotiated there, and ID tokens by [`openid::identify`].
//!
//! In our own, nothing is negotiated: `alg`, `enc` and `typ` are the caller's constants, a header member that isn't expected
//! is refused, and of a foreign header only `kid` and `epk` are ever used. Knows no message and no zone.

mod foreign;
mod jwe;
mod jwk;
mod jws;
pub mod openid;
#[cfg(test)]
mod wycheproof;

pub use foreign::{FOREIGN_ALGORITHMS, ForeignJws, ForeignKey};
pub use jwe::{JweContext, SealKey, seal};
pub use jwk::Jwk;
pub use jws::{SigningKey, kid_of, verify, verify_bytes};

/// Why a JOSE object was refused. Deliberately coarse: an attacker learns nothing from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoseError {
    /// Not three (JWS) or five (JWE) base64url parts, too long, or the header isn't exactly as prescribed.
    #[error("malformed JOSE object")]
    Malformed,
    /// The key isn't a point on P-256, or private bytes aren't a key.
    #[error("not a usable P-256 key")]
    BadKey,
    /// Signature or authentication tag is wrong, or the key is another one.
    #[error("JOSE object is not authentic")]
    NotAuthentic,
}
