//! Providers that SSA and SAM both know.

use service_kit::Trouble;

use super::start::Options;

/// At no provider SSA and SAM are one client: there a login and an act differ by nothing but the nonce, which the SSA chooses for
/// a login.
///
/// # Errors
/// [`Trouble`] `bad-config`.
pub(super) fn apart(options: &Options) -> Result<(), Trouble> {
    let shared = options.providers.0.iter().find(|of_sam| {
        let mut logins = options.login_providers.iter();
        logins.any(|of_ssa| (&of_ssa.issuer, &of_ssa.client_id) == (&of_sam.issuer, &of_sam.client))
    });
    match shared {
        None => Ok(()),
        Some(provider) => Err(Trouble::new(
            "bad-config",
            format!("SSA and SAM are one client at {}", provider.issuer),
            "give each a client of its own there: with one in common a login could approve an act",
        )),
    }
}
