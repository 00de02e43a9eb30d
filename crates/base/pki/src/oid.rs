//! Object identifiers in dotted form, under the names of the standards that define them.

/// id-data (RFC 5652 §4).
pub const DATA: &str = "1.2.840.113549.1.7.1";
/// id-signedData (RFC 5652 §5).
pub const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
/// id-ct-TSTInfo (RFC 3161 §2.4.2).
pub const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";

/// contentType attribute (RFC 5652 §11.1).
pub const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
/// messageDigest attribute (RFC 5652 §11.2).
pub const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
/// signingTime attribute (RFC 5652 §11.3).
pub const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
/// countersignature attribute (RFC 5652 §11.4).
pub const COUNTER_SIGNATURE: &str = "1.2.840.113549.1.9.6";
/// CMSAlgorithmProtection attribute (RFC 6211).
pub const ALGORITHM_PROTECTION: &str = "1.2.840.113549.1.9.52";
/// signingCertificate, SHA-1 (RFC 2634 §5.4).
pub const SIGNING_CERTIFICATE: &str = "1.2.840.113549.1.9.16.2.12";
/// signingCertificateV2 (RFC 5035 §3).
pub const SIGNING_CERTIFICATE_V2: &str = "1.2.840.113549.1.9.16.2.47";
/// content-hints (RFC 2634 §2.9).
pub const CONTENT_HINTS: &str = "1.2.840.113549.1.9.16.2.4";
/// commitment-type-indication (RFC 5126 §5.11.1).
pub const COMMITMENT_TYPE: &str = "1.2.840.113549.1.9.16.2.16";
/// signature-policy-identifier (RFC 5126 §5.8.1).
pub const SIGNATURE_POLICY: &str = "1.2.840.113549.1.9.16.2.15";
/// mime-type (EN 319 122-1 §5.2.5).
pub const MIME_TYPE: &str = "0.4.0.1733.2.1";
/// signature-time-stamp (RFC 5126 §6.1.1).
pub const SIGNATURE_TIME_STAMP: &str = "1.2.840.113549.1.9.16.2.14";

/// rsaEncryption (RFC 8017 A.1).
pub const RSA: &str = "1.2.840.113549.1.1.1";
/// id-RSASSA-PSS (RFC 8017 A.2.3).
pub const RSA_PSS: &str = "1.2.840.113549.1.1.10";
/// id-mgf1 (RFC 8017 A.2.1).
pub const MGF1: &str = "1.2.840.113549.1.1.8";
/// id-ecPublicKey (RFC 5480 §2.1.1).
pub const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
/// SHA-1, only inside OCSP's CertID and the old signingCertificate attribute, which prove nothing by it.
pub const SHA1: &str = "1.3.14.3.2.26";

/// subjectKeyIdentifier (RFC 5280 §4.2.1.2).
pub const SUBJECT_KEY_ID: &str = "2.5.29.14";
/// keyUsage (RFC 5280 §4.2.1.3).
pub const KEY_USAGE: &str = "2.5.29.15";
/// subjectAltName (RFC 5280 §4.2.1.6).
pub const SUBJECT_ALT_NAME: &str = "2.5.29.17";
/// basicConstraints (RFC 5280 §4.2.1.9).
pub const BASIC_CONSTRAINTS: &str = "2.5.29.19";
/// cRLNumber (RFC 5280 §5.2.3).
pub const CRL_NUMBER: &str = "2.5.29.20";
/// reasonCode of a CRL entry (RFC 5280 §5.3.1).
pub const CRL_REASON: &str = "2.5.29.21";
/// certificatePolicies (RFC 5280 §4.2.1.4).
pub const CERT_POLICIES: &str = "2.5.29.32";
/// cRLDistributionPoints (RFC 5280 §4.2.1.13).
pub const CRL_DISTRIBUTION: &str = "2.5.29.31";
/// authorityKeyIdentifier (RFC 5280 §4.2.1.1).
pub const AUTHORITY_KEY_ID: &str = "2.5.29.35";
/// extKeyUsage (RFC 5280 §4.2.1.12).
pub const EXT_KEY_USAGE: &str = "2.5.29.37";
/// authorityInfoAccess (RFC 5280 §4.2.2.1).
pub const AUTHORITY_INFO: &str = "1.3.6.1.5.5.7.1.1";
/// id-ad-ocsp (RFC 5280 §4.2.2.1).
pub const AD_OCSP: &str = "1.3.6.1.5.5.7.48.1";
/// id-ad-caIssuers (RFC 5280 §4.2.2.1).
pub const AD_CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";

/// id-kp-serverAuth (RFC 5280 §4.2.1.12).
pub const KP_SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
/// id-kp-clientAuth (RFC 5280 §4.2.1.12).
pub const KP_CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
/// id-kp-emailProtection (RFC 5280 §4.2.1.12).
pub const KP_EMAIL_PROTECTION: &str = "1.3.6.1.5.5.7.3.4";
/// id-kp-documentSigning (RFC 9336).
pub const KP_DOCUMENT_SIGNING: &str = "1.3.6.1.5.5.7.3.36";
/// Document signing as Microsoft named it before RFC 9336 did.
pub const KP_MS_DOCUMENT_SIGNING: &str = "1.3.6.1.4.1.311.10.3.12";
/// Document signing as Adobe named it before RFC 9336 did.
pub const KP_ADOBE_DOCUMENT_SIGNING: &str = "1.2.840.113583.1.1.5";
/// anyExtendedKeyUsage (RFC 5280 §4.2.1.12).
pub const KP_ANY: &str = "2.5.29.37.0";
/// id-kp-timeStamping (RFC 3161 §2.3).
pub const KP_TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
/// id-kp-OCSPSigning (RFC 6960 §4.2.2.2).
pub const KP_OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";

/// id-pkix-ocsp-basic (RFC 6960 §4.2.1).
pub const OCSP_BASIC: &str = "1.3.6.1.5.5.7.48.1.1";
/// id-pkix-ocsp-nonce (RFC 9654).
pub const OCSP_NONCE: &str = "1.3.6.1.5.5.7.48.1.2";
/// id-pkix-ocsp-nocheck (RFC 6960 §4.2.2.2.1).
pub const OCSP_NO_CHECK: &str = "1.3.6.1.5.5.7.48.1.5";
/// id-ri-ocsp-response: an OCSP response in `SignedData.crls` (RFC 5940 §2).
pub const RI_OCSP_RESPONSE: &str = "1.3.6.1.5.5.7.16.2";

/// commonName.
pub const COMMON_NAME: &str = "2.5.4.3";
/// countryName.
pub const COUNTRY: &str = "2.5.4.6";
/// organizationName.
pub const ORGANIZATION: &str = "2.5.4.10";
/// organizationalUnitName.
pub const ORGANIZATIONAL_UNIT: &str = "2.5.4.11";
/// serialNumber of a subject.
pub const SERIAL_NUMBER: &str = "2.5.4.5";
