//! The tables of the specification (§11 of both versions, 10.1), as they are served; what differs stands in `docs/design/0034`.

/// Methods and their errors, in the words of version 2; those of version 1 stand behind a bar where they differ, and nothing where
/// a version has none. Status and code stand before the words where they aren't 400 and `invalid_request`.
pub const TABLE: &[(&str, &[&str])] = &[
    (
        "auth/login",
        &[
            "401 invalid_request: Malformed authentication parameter",
            "Malformed username-password",
            "Invalid string parameter: refresh_token",
            "Invalid refresh_token",
            "400 authentication_error: An error occurred during authentication process",
        ],
    ),
    (
        "auth/revoke",
        &[
            "Missing (or invalid type) string parameter token",
            "Invalid string parameter token_type_hint",
            "Invalid string parameter token",
        ],
    ),
    (
        "credentials/list",
        &[
            "userID parameter MUST be null",
            "Invalid parameter userID",
            "Invalid parameter certificates",
            "|Invalid parameter pageToken",
        ],
    ),
    (
        "credentials/info",
        &[
            "Missing (or invalid type) string parameter credentialID",
            "Invalid parameter credentialID",
            "Invalid parameter certificates",
        ],
    ),
    (
        "credentials/authorize",
        &[
            "Missing (or invalid type) string parameter credentialID",
            "Invalid parameter credentialID",
            "The credential identified by credentialID is disabled",
            "Missing (or invalid type) integer parameter numSignatures",
            "Invalid value for parameter numSignatures",
            "Numbers of signatures is too high",
            "400 invalid_authentication_data: The authentication data is invalid|400 invalid_pin: The PIN or the OTP is invalid",
            "|400 invalid_otp: The OTP is invalid",
            "Credential locked|PIN locked",
            "Invalid certificate status",
        ],
    ),
    ("credentials/authorizeCheck", &["Invalid parameter handle"]),
    (
        "credentials/create",
        &[
            "Invalid parameter credentialCreationRequest",
            "Invalid parameter certificatePolicy",
            "Invalid parameter certificates",
        ],
    ),
    (
        "credentials/delete",
        &[
            "Missing (or invalid type) string parameter credentialID",
            "Invalid parameter credentialID",
            "Invalid parameter credentialDeletionRequest",
            "Invalid parameter revocationReason",
            "The certificate isn't revoked: that is its certification authority's, ask there. Without revoke this call tells of the deletion",
        ],
    ),
    (
        "credentials/getChallenge",
        &[
            "Invalid parameter credentialID",
            "Invalid parameter authObjectID",
        ],
    ),
    (
        "credentials/sendOTP",
        &[
            "Missing (or invalid type) string parameter credentialID",
            "Invalid parameter credentialID",
            "OTP locked",
        ],
    ),
    (
        "credentials/extendTransaction",
        &[
            "Missing (or invalid type) string parameter credentialID",
            "Invalid parameter credentialID",
            "Missing (or invalid type) string parameter SAD",
            "Invalid parameter SAD",
            "Invalid Base64 hash string parameter",
        ],
    ),
    (
        "signatures/signHash",
        &[
            "Missing (or invalid type) string parameter SAD",
            "Invalid parameter SAD",
            "Missing (or invalid type) string parameter credentialID",
            "Invalid parameter credentialID",
            "Missing (or invalid type) array parameter hash",
            "Empty hash array",
            "Invalid Base64 hash string parameter",
            "Hash is not authorized by the SAD|Hash is not authorized by the SAD.",
            "Missing (or invalid type) string parameter signAlgo",
            "Invalid parameter signAlgo",
            "Missing (or invalid type) string parameter signAlgoParams",
            "Missing (or invalid type) string parameter hashAlgorithmOID|Missing (or invalid type) string parameter hashAlgo",
            "Invalid parameter hashAlgorithmOID|Invalid parameter hashAlgo",
            "Invalid parameter clientData",
            "Invalid digest value length",
            "SAD expired",
            "Signing certificate is expired|Signing certificate 'O=Natsuin,CN=髙橋 花子' is expired.",
            "Invalid parameter operationMode",
            "Invalid parameter validity_period|",
            "Out of bounds parameter validity_period|",
            "Invalid parameter response_uri|",
        ],
    ),
    (
        "signatures/signDoc",
        &[
            "Invalid object parameter documentDigests",
            "Invalid array parameter documents",
            "Empty documentDigests and documents objects",
            "Both documentDigests and documents parameters passed",
            "Invalid Base64 hashes string parameter",
            "Invalid Base64 documents string parameter",
            "Missing (or invalid type) string parameter signature_format",
            "Invalid parameter signature_format",
            "Invalid parameter conformance_level",
            "Invalid parameter signed_envelope_property",
            "Invalid parameter signed_props: x",
            "documentDigests or documents are not authorized by the SAD: it is for hashes of data to be signed; ask with hashType sdr",
            // As signatures/signHash.
            "Missing (or invalid type) string parameter SAD",
            "Invalid parameter SAD",
            "Missing (or invalid type) string parameter credentialID",
            "Invalid parameter credentialID",
            "Missing (or invalid type) string parameter signAlgo",
            "Invalid parameter signAlgoParams",
            "Invalid parameter hashAlgorithmOID",
            "Invalid parameter clientData",
            "Invalid parameter operationMode",
            "Invalid parameter validity_period",
            "Invalid parameter response_uri",
            "SAD expired",
            // What only the worker can find, passed on; that it does, its own tests show.
            "Invalid parameter signAlgo",
            "Missing (or invalid type) string parameter signAlgoParams",
            "Missing (or invalid type) string parameter hashAlgorithmOID",
            "Invalid digest value length",
            "String parameter hashAlgorithmOID contradicts with signAlgo parameter",
            "Signing certificate is expired",
            "403 invalid_hash: Document or documentDigest does not match authorized hash",
            // Our own: there is no validation data.
            "Invalid parameter returnValidationInfo",
        ],
    ),
    (
        "signatures/signPolling",
        &[
            "202 accepted_request: The request is accepted and not completed yet",
            "Missing (or invalid type) string parameter requestID",
            "Invalid parameter requestID",
            "userID parameter SHALL be null",
            "Invalid parameter userID",
            "Invalid parameter clientData",
        ],
    ),
    (
        "signatures/timestamp",
        &[
            "Missing (or invalid type) string parameter hash",
            "Empty hash parameter",
            "Invalid digest value length",
            "Invalid Base64 hash string parameter",
            "Invalid parameter hashAlgo",
            "Invalid parameter nonce",
        ],
    ),
];

/// Methods that version 1 doesn't have.
pub const LATER: [&str; 6] = [
    "credentials/authorizeCheck",
    "credentials/create",
    "credentials/delete",
    "credentials/getChallenge",
    "signatures/signDoc",
    "signatures/signPolling",
];

/// What every method says of a call without authorization, but for those that want none or another one.
pub const NO_HEADER: &str = "Malformed authorization header";

/// What any method may say, by the table of common codes: code and status.
pub const COMMON: &[(&str, u16)] = &[
    ("access_denied", 403),
    ("expired_token", 401),
    ("invalid_request", 400),
    ("invalid_token", 401),
    ("not_implemented_method", 501),
    ("server_error", 500),
    ("temporarily_unavailable", 429),
    ("temporarily_unavailable", 503),
    ("unauthorized_client", 403),
];

/// The rows of a version: method and what it says.
pub fn rows(version: u8) -> impl Iterator<Item = (&'static str, &'static str)> {
    let methods = TABLE
        .iter()
        .filter(move |(method, _)| version == 2 || !LATER.contains(method));
    methods
        .flat_map(|(method, rows)| rows.iter().map(move |row| (*method, *row)))
        .map(move |(method, row)| {
            let (v2, v1) = row.split_once('|').unwrap_or((row, row));
            (method, if version == 1 { v1 } else { v2 })
        })
        .filter(|(_, row)| !row.is_empty())
}
