//! One-time codes for signing: the shared generator, and the address that tells an app what its seed is for.

use core_types::SecretBytes;

pub use otp::{SEED, STEP, base32, code, verify};

/// The `otpauth://` URI of a seed; the label says that it is for signing, not for login.
pub fn uri(seed: &SecretBytes, sam: &str, person: &str) -> SecretBytes {
    let mut out = b"otpauth://totp/".to_vec();
    percent(&mut out, sam);
    out.extend_from_slice(b"%20signing:");
    percent(&mut out, person);
    out.extend_from_slice(b"?secret=");
    out.extend_from_slice(base32(seed).expose());
    out.extend_from_slice(b"&issuer=");
    percent(&mut out, sam);
    out.extend_from_slice(b"%20signing&algorithm=SHA1&digits=6&period=30");
    SecretBytes::new(out)
}

fn percent(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_reads_who_the_seed_is_for_and_what_it_does() {
        let uri = uri(&SecretBytes::new(vec![0; 20]), "sam.example", "髙 1~_-");
        let uri = std::str::from_utf8(uri.expose()).unwrap();
        assert_eq!(
            uri,
            "otpauth://totp/sam.example%20signing:%E9%AB%99%201~_-?secret=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
             &issuer=sam.example%20signing&algorithm=SHA1&digits=6&period=30"
        );
    }
}
