//! Preparing and embedding over files of every structure, and what is refused.

use std::process::Command;

use crate::common::{OpenSsl, append, document, document_with, options, prepare_to, qpdf, sign};
use core_types::HashAlg;
use pades::{Coverage, Level, PadesError, Prepared, SignatureKind, signatures};
use pdf_update::Pdf;

fn code(result: pades::Result<Vec<u8>>) -> &'static str {
    result.expect_err("must be refused").code()
}

/// The same document in every structure that must be signed.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let plain = document();
    let mut out = vec![("plain".to_owned(), plain.clone())];
    for args in [
        &["--object-streams=generate"][..],
        &["--linearize"],
        &["--linearize", "--object-streams=generate"],
        &["--qdf"],
    ] {
        out.extend(qpdf(args, &plain).map(|file| (args.join(" "), file)));
    }
    let form = document_with("/AcroForm <</Fields [] /DA (/F1 0 Tf)>>", "/Annots []", &[]);
    out.push(("direct form and annotations".to_owned(), form));
    let parts = ["<</Fields 7 0 R>>", "[]", "[]"];
    let indirect = document_with("/AcroForm 6 0 R", "/Annots 8 0 R", &parts);
    out.push(("indirect form, fields and annotations".to_owned(), indirect));
    out
}

// shows: I-4.2.1-sca-assembles
#[test]
fn every_structure_is_signed_with_the_original_untouched() {
    for (name, file) in corpus() {
        let signed = sign(&file, &options()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            signed[..file.len()],
            file[..],
            "{name}: the original bytes come first"
        );
        let found = signatures(&signed).unwrap();
        let [one] = &found[..] else {
            panic!("{name}: {found:?}")
        };
        assert_eq!(one.coverage, Coverage::EntireFile, "{name}");
        assert_eq!(one.kind, SignatureKind::Signature);
        assert_eq!(
            (one.field_name.as_str(), one.sub_filter.as_str()),
            ("Signature1", "ETSI.CAdES.detached")
        );
        assert_eq!(one.contents, crate::common::dummy_cms());
        assert_eq!(one.claimed_name.as_deref(), Some("捺印 花子"));
        assert_eq!(one.claimed_time.as_deref(), Some("D:20261122050512+00'00'"));
        assert_eq!(one.modifications.level, Level::None);

        let twice = sign(&signed, &options()).unwrap();
        let found = signatures(&twice).unwrap();
        let [first, second] = &found[..] else {
            panic!("{name}: {found:?}")
        };
        assert_eq!(
            (first.coverage, second.coverage),
            (Coverage::EntireRevision, Coverage::EntireFile),
            "{name}"
        );
        assert_eq!(
            first.modifications.unexplained,
            Vec::<String>::new(),
            "{name}"
        );
        assert_eq!(first.modifications.level, Level::FormFilling, "{name}");
        assert_eq!(first.modifications.fields, ["Signature2"], "{name}");
        assert_eq!(first.changes_allowed(), Some(true));
        qpdf_check(&twice);
    }
}

fn qpdf_check(file: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("check.pdf");
    std::fs::write(&path, file).unwrap();
    if let Ok(done) = Command::new("qpdf").arg("--check").arg(&path).output() {
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stdout)
        );
    }
}

#[test]
fn the_digests_are_those_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pdf");
    let file = document();
    for hash in HashAlg::ALL {
        let (prepared, output) =
            prepare_to(&path, &file, &pades::PrepareOptions { hash, ..options() }).unwrap();
        assert_eq!(prepared.original_digest, hash.digest(&file));
        prepared
            .clone()
            .embed(&output, &crate::common::dummy_cms())
            .unwrap();
        let signed = std::fs::read(&path).unwrap();
        assert_eq!(
            signatures(&signed).unwrap()[0]
                .digest(&signed, hash)
                .unwrap(),
            prepared.digest
        );
        let [a, b, c, d] = prepared.byte_range.map(|n| n as usize);
        assert_eq!(
            hash.digest(&[&signed[a..b], &signed[c..c + d]].concat()),
            prepared.digest
        );
    }
}

// shows: I-4.2.1-sca-assembles
#[test]
fn poppler_and_openssl_accept_the_signature() {
    let openssl = OpenSsl::new().expect("openssl is needed");
    for (name, file) in corpus() {
        let signed = openssl.sign(&file, &options());
        let twice = openssl.sign(&signed, &options());
        for (file, count) in [(&signed, 1), (&twice, 2)] {
            std::fs::write(openssl.path("check.pdf"), file).unwrap();
            let done = Command::new("pdfsig")
                .arg("-nocert")
                .arg(openssl.path("check.pdf"))
                .output()
                .expect("pdfsig of poppler is needed");
            let text = String::from_utf8_lossy(&done.stdout);
            assert_eq!(
                text.matches("Signature is Valid").count(),
                count,
                "{name}: {text}"
            );
            assert_eq!(
                text.matches("Total document signed").count(),
                1,
                "{name}: {text}"
            );
        }
        let found = signatures(&twice).unwrap();
        let [a, b, c, d] = found[0].byte_range.map(|n| n as usize);
        std::fs::write(
            openssl.path("content"),
            [&twice[a..b], &twice[c..c + d]].concat(),
        )
        .unwrap();
        std::fs::write(openssl.path("cms"), &found[0].contents).unwrap();
        let done = Command::new("openssl")
            .args([
                "cms",
                "-verify",
                "-binary",
                "-inform",
                "DER",
                "-cades",
                "-purpose",
                "any",
                "-out",
                "/dev/null",
            ])
            .args([
                &"-in".into(),
                &openssl.path("cms"),
                &"-content".into(),
                &openssl.path("content"),
            ])
            .args([&"-CAfile".into(), &openssl.path("cert.pem")])
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

#[test]
fn the_only_empty_field_is_filled_and_its_lock_taken_over() {
    let field = "<</FT /Sig /T (Seller) /Type /Annot /Subtype /Widget /P 3 0 R /Rect [9 9 99 50.5] /F 4 /Lock 7 0 R>>";
    let lock = "<</Type /SigFieldLock /Action /Include /Fields [(Price)]>>";
    let parts = [field, lock];
    let file = document_with(
        "/AcroForm <</Fields [6 0 R] /SigFlags 3>>",
        "/Annots [6 0 R]",
        &parts,
    );
    let signed = sign(&file, &options()).unwrap();
    assert_eq!(signatures(&signed).unwrap()[0].field_name, "Seller");
    // The catalog and the page are as they were: only the field changed.
    let pdf = Pdf::open(&signed).unwrap();
    let mut numbers: Vec<u32> = pdf.section_numbers(0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [6, 8, 9], "field, signature, appearance");

    let again = pades::PrepareOptions {
        field_name: Some("Price".to_owned()),
        ..options()
    };
    assert_eq!(code(sign(&signed, &again)), "pdf-field-locked");
    let other = pades::PrepareOptions {
        field_name: Some("Buyer".to_owned()),
        ..options()
    };
    assert!(sign(&signed, &other).is_ok());
    let filled = pades::PrepareOptions {
        field_name: Some("Seller".to_owned()),
        ..options()
    };
    assert_eq!(code(sign(&signed, &filled)), "pdf-field-unusable");
}

#[test]
fn several_empty_fields_need_a_name() {
    let parts = [
        "<</FT /Sig /T (A)>>",
        "<</FT /Sig /T (B)>>",
        "<</FT /Tx /T (C) /V (text)>>",
    ];
    let file = document_with("/AcroForm <</Fields [6 0 R 7 0 R 8 0 R]>>", "", &parts);
    match sign(&file, &options()) {
        Err(PadesError::FieldChoice(names)) => assert_eq!(names, ["A", "B"]),
        other => panic!("{other:?}"),
    }
    for (name, outcome) in [
        ("A", None),
        ("D", None),
        ("C", Some("pdf-field-unusable")),
        ("x.y", Some("pdf-field-unusable")),
    ] {
        let named = pades::PrepareOptions {
            field_name: Some(name.to_owned()),
            ..options()
        };
        assert_eq!(
            sign(&file, &named).err().map(|e| e.code()),
            outcome,
            "{name}"
        );
    }
}

#[test]
fn what_earlier_signers_forbid_is_refused() {
    let certified = |p: &str| {
        let signature = format!(
            "<</Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached /ByteRange [0 1 2 3] /Contents <3000> \
             /Reference [<</Type /SigRef /TransformMethod /DocMDP /TransformParams <</Type /TransformParams {p} /V /1.2>>>>]>>"
        );
        let field = "<</FT /Sig /T (Author) /V 7 0 R>>";
        document_with(
            "/AcroForm <</Fields [6 0 R]>> /Perms <</DocMDP 7 0 R>>",
            "",
            &[field, &signature],
        )
    };
    assert_eq!(code(sign(&certified("/P 1"), &options())), "pdf-no-changes");
    assert_eq!(code(sign(&certified("/P 7"), &options())), "pdf-no-changes");
    assert!(sign(&certified("/P 2"), &options()).is_ok());
    assert!(sign(&certified(""), &options()).is_ok());
    // A lock of a signed field that ends all changes.
    let lock = "<</FT /Sig /T (A) /V <</Type /Sig>> /Lock <</Action /Include /Fields [] /P 1>>>>";
    let file = document_with("/AcroForm <</Fields [6 0 R]>>", "", &[lock]);
    assert_eq!(code(sign(&file, &options())), "pdf-no-changes");
}

#[test]
fn unsuitable_files_are_refused_by_name() {
    assert_eq!(code(sign(b"hello", &options())), "pdf-not-a-pdf");
    assert_eq!(code(sign(&document()[..300], &options())), "pdf-truncated");
    let xfa = document_with("/AcroForm <</Fields [] /XFA []>>", "", &[]);
    assert_eq!(code(sign(&xfa, &options())), "pdf-xfa");
    if let Some(encrypted) = qpdf(&["--encrypt", "", "o", "256", "--"], &document()) {
        assert_eq!(code(sign(&encrypted, &options())), "pdf-encrypted");
    }
    let seeded = "<</FT /Sig /T (A) /SV <</Ff 2 /SubFilter [/adbe.pkcs7.detached]>>>>";
    let file = document_with("/AcroForm <</Fields [6 0 R]>>", "", &[seeded]);
    assert_eq!(code(sign(&file, &options())), "pdf-seed-value");
    let mut hybrid = String::from_utf8_lossy(&append(&document(), &[])).into_owned();
    let at = hybrid.rfind("/Prev").unwrap();
    hybrid.insert_str(at, "/XRefStm 15 ");
    assert!(matches!(
        code(sign(hybrid.as_bytes(), &options())),
        "pdf-broken" | "pdf-hybrid"
    ));
}

#[test]
fn nothing_is_written_for_a_refused_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pdf");
    assert!(prepare_to(&path, &document()[..300], &options()).is_err());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn embedding_checks_size_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pdf");
    let (prepared, output) = prepare_to(&path, &document(), &options()).unwrap();
    let big = vec![0x30; prepared.reserved + 1];
    assert_eq!(
        prepared.clone().embed(&output, &big).unwrap_err().code(),
        "pdf-placeholder-too-small"
    );
    let mut other = prepared.clone();
    other.byte_range[1] -= 1;
    other.byte_range[2] -= 1;
    assert_eq!(
        other
            .embed(&output, &crate::common::dummy_cms())
            .unwrap_err()
            .code(),
        "pdf-output-changed"
    );
    // Deferred: stored, loaded, embedded once.
    let stored = serde_json::to_string(&prepared).unwrap();
    let loaded: Prepared = serde_json::from_str(&stored).unwrap();
    loaded.embed(&output, &crate::common::dummy_cms()).unwrap();
    assert_eq!(
        prepared
            .embed(&output, &crate::common::dummy_cms())
            .unwrap_err()
            .code(),
        "pdf-output-changed"
    );
}
