//! What each method takes and answers.

use super::{Auth, Kind, Member, Method, may, must};

pub(super) fn methods(v1: bool) -> Vec<Method> {
    use Auth::{Basic, Nobody, Token};
    use Kind::{AllBytes, Bytes, Flag, Number, Text};
    let (hashes, algorithm) = match v1 {
        true => ("hash", "hashAlgo"),
        false => ("hashes", "hashAlgorithmOID"),
    };
    let method = |name, summary, clause, auth, request, answers| Method {
        name,
        summary,
        clause,
        auth,
        request,
        answers,
        free: false,
    };
    let client_data = || may("clientData", Text);
    let certificates = || may("certificates", Kind::Word(&["none", "single", "chain"]));
    let granted = || vec![must("SAD", Text), may("expiresIn", Number)];
    let mut list = vec![may("userID", Text), client_data()];
    let mut listed = vec![must("credentialIDs", Kind::Texts)];
    if v1 {
        // What can't be a number counts as none.
        list.extend([may("maxResults", Kind::Free), may("pageToken", Text)]);
        listed.push(may("nextPageToken", Text));
    } else {
        list.extend([
            may("credentialInfo", Flag),
            certificates(),
            may("certInfo", Flag),
            may("authInfo", Flag),
            may("onlyValid", Flag),
            may("lang", Text),
        ]);
        let mut entry = credential(v1);
        entry.push(must("credentialID", Text));
        listed.extend([
            may("credentialInfos", Kind::Objects(entry)),
            may("onlyValid", Flag),
        ]);
    }
    let mut authorize = vec![
        must("credentialID", Text),
        must("numSignatures", Number),
        must(hashes, AllBytes),
        may("description", Text),
        may("renewableFor", Number),
        client_data(),
    ];
    match v1 {
        true => authorize.extend([may("PIN", Text), may("OTP", Text)]),
        false => authorize.extend([
            must(algorithm, Text),
            may("hashType", Kind::Word(&["dtbsr", "sdr"])),
            must(
                "authData",
                Kind::Objects(vec![must("id", Text), may("value", Text)]),
            ),
        ]),
    }
    let pending = || (202, vec![must("handle", Text), may("sicRequest", Text)]);
    let when = match v1 {
        true => Vec::new(),
        false => vec![
            may("operationMode", Kind::Word(&["S", "A"])),
            may("validity_period", Number),
            may("response_uri", Text),
        ],
    };
    let mut all = vec![
        method(
            "info",
            "What the service is and offers",
            "11.1",
            Nobody,
            vec![may("lang", Text)],
            vec![(200, info(v1))],
        ),
        method(
            "auth/login",
            "Service authorization by name and password; offered if the operator has a contract for it",
            "11.2",
            Basic,
            vec![
                may("refresh_token", Text),
                may("rememberMe", Flag),
                client_data(),
            ],
            vec![(
                200,
                vec![
                    must("access_token", Text),
                    may("refresh_token", Text),
                    must("expires_in", Number),
                ],
            )],
        ),
        method(
            "auth/revoke",
            "Revokes a token",
            "11.3",
            Token,
            vec![
                must("token", Text),
                may(
                    "token_type_hint",
                    Kind::Word(&["access_token", "refresh_token"]),
                ),
                client_data(),
            ],
            vec![(204, Vec::new())],
        ),
        method(
            "credentials/list",
            "Credentials of the user",
            "11.6",
            Token,
            list,
            vec![(200, listed)],
        ),
        method(
            "credentials/info",
            "One credential",
            "11.7",
            Token,
            vec![
                must("credentialID", Text),
                certificates(),
                may("certInfo", Flag),
                may("authInfo", Flag),
                may("lang", Text),
                client_data(),
            ],
            vec![(200, credential(v1))],
        ),
        method(
            "credentials/authorize",
            "Authorization with collected secrets, or out of band",
            "11.8",
            Token,
            authorize,
            match v1 {
                true => vec![(200, granted())],
                false => vec![(200, granted()), pending()],
            },
        ),
        method(
            "credentials/sendOTP",
            "Has a one-time code sent to the signer, for a credential whose OTP is online",
            "11.12",
            Token,
            vec![must("credentialID", Text), client_data()],
            vec![(204, Vec::new())],
        ),
        method(
            "credentials/extendTransaction",
            "The next SAD of an authorization with signatures left",
            "11.11",
            Token,
            vec![
                must("credentialID", Text),
                may("SAD", Text),
                may(hashes, AllBytes),
                may(algorithm, Text),
                client_data(),
            ],
            vec![(200, granted())],
        ),
        method(
            "signatures/signHash",
            "Signs what was authorized",
            "11.13",
            Token,
            vec![
                must("credentialID", Text),
                Member("SAD", Text, v1),
                must(hashes, AllBytes),
                may(algorithm, Text),
                must("signAlgo", Text),
                may("signAlgoParams", Bytes),
                client_data(),
            ]
            .into_iter()
            .chain(when)
            .collect(),
            vec![(200, values(v1))],
        ),
        method(
            "signatures/timestamp",
            "A time-stamp token; offered if the operator has an authority for it",
            "11.16",
            Token,
            vec![
                must("hash", Bytes),
                must("hashAlgo", Text),
                may("nonce", Text),
                client_data(),
            ],
            vec![(200, vec![must("timestamp", Bytes)])],
        ),
    ];
    if !v1 {
        all.push(method(
            "signatures/signPolling",
            "Values of a signHash that didn't wait",
            "11.15",
            Token,
            vec![must("requestID", Text), may("userID", Text), client_data()],
            vec![
                (200, values(true)),
                (
                    202,
                    vec![must("error", Text), may("error_description", Text)],
                ),
            ],
        ));
        all.push(Method {
            free: true,
            ..method(
                "signatures/receipt",
                "The evidence of a signature, for the application that got it",
                "",
                Token,
                vec![must("credentialID", Text), must("signature", Bytes)],
                vec![(200, Vec::new())],
            )
        });
        let entry = |content: Vec<Member>| {
            let mut members = content;
            members.extend([
                must("signature_format", Kind::Word(&["C", "P", "X", "J"])),
                may("conformance_level", Text),
                must("signAlgo", Text),
                may("signAlgoParams", Bytes),
                may("signed_envelope_property", Text),
                may("signed_props", Kind::Free),
            ]);
            Kind::Objects(members)
        };
        all.push(method(
            "signatures/signDoc",
            "Signs documents, or digests of them, in a format; offered if the operator runs a worker for it",
            "11.14",
            Token,
            vec![
                must("credentialID", Text),
                may("SAD", Text),
                may("documents", entry(vec![must("document", Bytes)])),
                may(
                    "documentDigests",
                    entry(vec![must("hashes", AllBytes), may("hashAlgorithmOID", Text)]),
                ),
                may("operationMode", Kind::Word(&["S", "A"])),
                may("returnValidationInfo", Flag),
                client_data(),
            ],
            vec![(
                200,
                vec![
                    may("DocumentWithSignature", AllBytes),
                    may("SignatureObject", AllBytes),
                ],
            )],
        ));
        let mut created: Vec<Member> = credential(v1);
        // All of it comes with `credentialInfo`.
        created.iter_mut().for_each(|member| member.2 = false);
        created.push(must("credentialID", Text));
        all.push(method(
            "credentials/create",
            "Tells that the signer had a credential made; offered if the operator says of which kinds",
            "11.4",
            Token,
            vec![
                must(
                    "credentialCreationRequest",
                    Kind::Object(vec![
                        may("certificatePolicy", Text),
                        may("subjectData", Kind::Free),
                    ]),
                ),
                may("credentialInfo", Flag),
                certificates(),
                may("certInfo", Flag),
                may("authInfo", Flag),
                client_data(),
            ],
            vec![(201, created)],
        ));
        all.push(method(
            "credentials/delete",
            "Tells that the signer had a credential deleted",
            "11.5",
            Token,
            vec![
                must(
                    "credentialDeletionRequest",
                    Kind::Object(vec![
                        must("credentialID", Text),
                        may("revoke", Flag),
                        may("revocationReason", Number),
                    ]),
                ),
                client_data(),
            ],
            vec![(204, Vec::new())],
        ));
        all.push(method(
            "credentials/getChallenge",
            "Has the challenge of an authentication object sent to the signer",
            "11.10",
            Token,
            vec![must("credentialID", Text), must("authObjectID", Text)],
            vec![(204, Vec::new())],
        ));
        all.push(method(
            "credentials/authorizeCheck",
            "Asks for an authorization that the signer decides elsewhere",
            "11.9",
            Token,
            vec![must("handle", Text)],
            vec![(200, granted()), pending()],
        ));
    }
    all
}

/// `now`: the values come with this answer; otherwise they may come later.
fn values(now: bool) -> Vec<Member> {
    use Kind::{AllBytes, Text};
    let mut members = vec![
        Member("signatures", AllBytes, now),
        may(
            "counterSignatures",
            Kind::Object(vec![
                must("signerInfos", AllBytes),
                must("certificates", AllBytes),
            ]),
        ),
    ];
    if !now {
        members.push(may("responseID", Text));
    }
    members
}

fn info(v1: bool) -> Vec<Member> {
    use Kind::{Flag, Text, Texts};
    const AUTH: &[&str] = &[
        "external",
        "TLS",
        "basic",
        "digest",
        "oauth2code",
        "oauth2client",
    ];
    let mut all = vec![
        must("specs", Text),
        must("name", Text),
        may("logo", Text),
        must("region", Text),
        must("lang", Text),
        must("description", Text),
        must("authType", Kind::Words(AUTH)),
        may("oauth2", Text),
        must("methods", Texts),
    ];
    if !v1 {
        let algorithms = vec![must("algos", Texts), may("algoParams", Texts)];
        let formats = vec![
            must("formats", Texts),
            may("envelope_properties", Kind::Free),
        ];
        all.extend([
            may("supportsRar", Flag),
            must("supportedHashTypes", Texts),
            may("asynchronousOperationMode", Flag),
            may("validationInfo", Flag),
            must("signAlgorithms", Kind::Object(algorithms)),
            must("signature_formats", Kind::Object(formats)),
            must("conformance_levels", Texts),
            may("oauth2FAPIsupport", Flag),
            may("jt2aService", Kind::Free),
        ]);
    }
    all
}

fn credential(v1: bool) -> Vec<Member> {
    use Kind::{AllBytes, Date, Number, Text};
    let key = vec![
        must("status", Kind::Word(&["enabled", "disabled"])),
        must("algo", Kind::Texts),
        must("len", Number),
        may("curve", Text),
        may("natsuinOrigin", Kind::Free),
        may("natsuinOneTime", Kind::Flag),
    ];
    let mut cert = vec![
        must(
            "status",
            Kind::Word(&["valid", "expired", "revoked", "suspended"]),
        ),
        may("certificates", AllBytes),
        may("issuerDN", Text),
        may("serialNumber", Text),
        may("subjectDN", Text),
        may("validFrom", Date),
        may("validTo", Date),
    ];
    if !v1 {
        cert.extend([may("policy", Kind::Texts), may("qcStatements", Kind::Texts)]);
    }
    let mut all = vec![
        may("description", Text),
        must("key", Kind::Object(key)),
        must("cert", Kind::Object(cert)),
        must("SCAL", Kind::Word(&["1", "2"])),
        must("multisign", Number),
        may("lang", Text),
        may("jt2aLevel", Kind::Free),
    ];
    match v1 {
        true => {
            let secret = || {
                vec![
                    must("presence", Kind::Word(&["true", "false", "optional"])),
                    may("type", Kind::Word(&["offline", "online"])),
                    may("format", Kind::Word(&["A", "N"])),
                    may("label", Text),
                    may("description", Text),
                    may("ID", Text),
                ]
            };
            all.extend([
                must(
                    "authMode",
                    Kind::Word(&["implicit", "explicit", "oauth2code"]),
                ),
                may("PIN", Kind::Object(secret())),
                may("OTP", Kind::Object(secret())),
            ]);
        }
        false => {
            const KINDS: &[&str] = &[
                "Password",
                "PasswordOOB",
                "ChallengeResponse",
                "ChallengeResponseOOB",
            ];
            let object = vec![
                must("type", Kind::Word(KINDS)),
                must("id", Text),
                may("format", Kind::Word(&["A", "N"])),
                may("generator", Text),
                may("label", Text),
                may("description", Text),
            ];
            let auth = vec![
                must("mode", Kind::Word(&["explicit", "oauth2code"])),
                may("expression", Text),
                must("objects", Kind::Objects(object)),
            ];
            all.push(must("auth", Kind::Object(auth)));
        }
    }
    all
}
