//! Who is calling: the name in the client certificate of a mutual TLS connection.

use std::net::SocketAddr;
use std::sync::Arc;

/// Identity of the caller, put into each request's extensions by [`crate::serve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// First DNS name of the client certificate that [`crate::tls::mutual_server`] verified; empty on all other listeners.
    pub name: String,
    /// Address of the connection.
    pub addr: SocketAddr,
}

/// Certificates (DER, its own first) that the caller showed in the handshake, put into each request's extensions by
/// [`crate::serve`] if there are any. Behind [`crate::tls::asking_server`] nothing is known of them but that the caller holds
/// the key of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificates(pub Arc<[Vec<u8>]>);

/// First DNS name in a certificate that rustls has verified.
pub(crate) fn name_of(cert: &rustls_pki_types::CertificateDer<'_>) -> Option<String> {
    let cert = webpki::EndEntityCert::try_from(cert).ok()?;
    cert.valid_dns_names().next().map(str::to_owned)
}
