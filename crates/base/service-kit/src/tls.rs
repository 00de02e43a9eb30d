//! TLS configurations: TLS 1.3 between zones, TLS 1.2 and 1.3 towards people.

use std::sync::Arc;

use core_types::SecretBytes;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::Trouble;

/// A certificate chain and its private key, both PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Certificates, the own one first.
    pub chain_pem: String,
    /// Private key, PKCS#8.
    pub key_pem: SecretBytes,
}

/// How a listener speaks TLS; for [`crate::serve`].
#[derive(Debug, Clone)]
pub struct Server {
    pub(crate) config: Arc<rustls::ServerConfig>,
    /// Who gets through was vouched for by the CA of the zones: the name in the certificate is the caller's.
    pub(crate) mutual: bool,
}

/// Installs the one cryptographic provider of the process. Called first by every `main`; again is harmless.
pub fn install_provider() {
    // Fails only when a provider is installed already, which is what we want.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn bad(what: &str) -> Trouble {
    Trouble::new(
        "tls-material",
        format!("{what} can't be used for TLS"),
        "check the PEM files named in the configuration; they must hold a certificate chain and its PKCS#8 key",
    )
}

fn certs(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| bad(what))?;
    if list.is_empty() {
        Err(bad(what))
    } else {
        Ok(list)
    }
}

fn roots(pem: &str) -> Result<RootCertStore, Trouble> {
    let mut store = RootCertStore::empty();
    for cert in certs(pem, "the CA certificate")? {
        store.add(cert).map_err(|_| bad("the CA certificate"))?;
    }
    Ok(store)
}

fn parts(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Trouble> {
    let chain = certs(&identity.chain_pem, "the certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose())
        .map_err(|_| bad("the private key"))?;
    Ok((chain, key))
}

/// Server side between zones: TLS 1.3, and a client certificate of `client_ca` is a must.
///
/// # Errors
/// [`Trouble`] when the material can't be used.
pub fn mutual_server(identity: &Identity, client_ca: &str) -> Result<Server, Trouble> {
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(client_ca)?))
        .build()
        .map_err(|_| bad("the CA for client certificates"))?;
    let (chain, key) = parts(identity)?;
    let config = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|_| bad("the server certificate"))?;
    Ok(Server {
        config: Arc::new(config),
        mutual: true,
    })
}

/// Server side towards browsers and clients.
///
/// # Errors
/// [`Trouble`] when the material can't be used.
pub fn public_server(identity: &Identity) -> Result<Server, Trouble> {
    let (chain, key) = parts(identity)?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|_| bad("the server certificate"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Server {
        config: Arc::new(config),
        mutual: false,
    })
}

/// Server side that asks for a client certificate and takes any, or none: it knows that the caller holds the key, and nothing
/// else. Whoever reads [`crate::PeerCertificates`] decides what they are worth. Sessions aren't resumed, so that each
/// connection proves the key anew.
///
/// # Errors
/// [`Trouble`] when the material can't be used.
pub fn asking_server(identity: &Identity) -> Result<Server, Trouble> {
    let (chain, key) = parts(identity)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(Arc::new(AnyHolder(provider)))
        .with_single_cert(chain, key)
        .map_err(|_| bad("the server certificate"))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Server {
        config: Arc::new(config),
        mutual: false,
    })
}

/// Accepts the certificate of whoever holds its key.
#[derive(Debug)]
struct AnyHolder(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyHolder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: clients of several CAs come here, and some bring no certificate of an issuer that isn't named.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Client side: trusts `ca` only, and shows `identity` if there is one.
///
/// # Errors
/// [`Trouble`] when the material can't be used.
pub fn client(ca: &str, identity: Option<&Identity>) -> Result<rustls::ClientConfig, Trouble> {
    let builder = rustls::ClientConfig::builder().with_root_certificates(roots(ca)?);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let (chain, key) = parts(identity)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| bad("the client certificate"))
        }
    }
}
