//! What other people's validators say of our signatures.

use std::path::Path;
use std::process::Command;

use core_types::KeyAlg;
use natsuin::sample;

use crate::kit::{Story, python, run, text};

/// ByteRange and DER of the only signature.
fn signature(pdf: &[u8]) -> ([usize; 4], Vec<u8>) {
    let find = |what: &[u8]| pdf.windows(what.len()).rposition(|w| w == what).unwrap();
    let at = find(b"/ByteRange");
    let range = String::from_utf8_lossy(&pdf[at..at + 80]).into_owned();
    let inside = range.split('[').nth(1).unwrap().split(']').next().unwrap();
    let numbers: Vec<usize> = inside
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    let range: [usize; 4] = numbers.try_into().unwrap();
    let hex = &pdf[range[1] + 1..range[2] - 1];
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    let mut der: Vec<u8> = hex
        .chunks(2)
        .map(|c| digit(c[0]) << 4 | digit(c[1]))
        .collect();
    // The rest of the room is zeros; the length stands in the DER itself.
    let length = usize::from(der[2]) << 8 | usize::from(der[3]);
    assert_eq!(der[1], 0x82, "a CMS of 256 to 65535 bytes");
    der.truncate(length + 4);
    (range, der)
}

// shows: I-3.3-key-held-used-on-instruction, I-4.2.1-sca-assembles, I-4.2.2b-choose-data-key-instruct,
// I-5.2.2-activate-and-sign, I-6.1-signer-can-sign
#[tokio::test(flavor = "multi_thread")]
async fn signed_files_are_accepted_by_poppler_pyhanko_openssl_and_qpdf() {
    for key in [KeyAlg::P256, KeyAlg::Rsa3072] {
        let mut story = Story::begin(key).await;
        let original = sample::contract().unwrap();
        let input = story.dir.path().join("契約書.pdf");
        std::fs::write(&input, &original).unwrap();
        let (signed, result) = story.sign(&input, "signed.pdf").await.unwrap();
        assert_eq!(
            result["verification_result"]["verdict"], "passed",
            "{result}"
        );
        assert_eq!(
            std::fs::read(&input).unwrap(),
            original,
            "the original is not touched"
        );
        let pdf = std::fs::read(&signed).unwrap();
        assert_eq!(
            &pdf[..original.len()],
            original,
            "the signature is an incremental update"
        );

        let poppler = text(&run(Command::new("pdfsig").arg(&signed)));
        assert!(poppler.contains("Signature is Valid."), "{poppler}");
        assert!(poppler.contains("Total document signed"), "{poppler}");

        let checker =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/python/validate.py");
        let mut pyhanko = Command::new(python());
        pyhanko.arg(checker).arg(story.anchors()).arg(&signed);
        let said = run(&mut pyhanko);
        assert!(said.status.success(), "{}", text(&said));

        let (range, der) = signature(&pdf);
        let dir = story.dir.path();
        std::fs::write(dir.join("cms.der"), der).unwrap();
        let content = [
            &pdf[range[0]..range[1]],
            &pdf[range[2]..range[2] + range[3]],
        ]
        .concat();
        assert_eq!(range[2] + range[3], pdf.len(), "the whole file is covered");
        std::fs::write(dir.join("content"), content).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args([
            "cms",
            "-verify",
            "-binary",
            "-inform",
            "DER",
            "-purpose",
            "any",
            "-out",
            "/dev/null",
            "-in",
        ]);
        openssl
            .arg(dir.join("cms.der"))
            .arg("-content")
            .arg(dir.join("content"))
            .arg("-CAfile")
            .arg(story.anchors());
        let said = run(&mut openssl);
        assert!(said.status.success(), "{}", text(&said));

        let said = run(Command::new("qpdf").arg("--check").arg(&signed));
        assert!(said.status.success(), "{}", text(&said));
        story.stack.stop().await;
    }
}

/// Pure Ed25519 over the signed attributes (RFC 8419): pyHanko checks the file, OpenSSL the value by itself. Poppler and
/// OpenSSL's CMS of Debian 12 don't know it.
// shows: I-4.2.1-sca-assembles
#[tokio::test(flavor = "multi_thread")]
async fn a_file_signed_with_ed25519_is_accepted_by_pyhanko_and_its_value_by_openssl() {
    let mut story = Story::begin(KeyAlg::Ed25519).await;
    let dir = story.dir.path().to_owned();
    let input = dir.join("契約書.pdf");
    std::fs::write(&input, sample::contract().unwrap()).unwrap();
    let (signed, result) = story.sign(&input, "signed.pdf").await.unwrap();
    assert_eq!(
        result["verification_result"]["verdict"], "passed",
        "{result}"
    );
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/python/validate.py");
    let mut pyhanko = Command::new(python());
    pyhanko.arg(checker).arg(story.anchors()).arg(&signed);
    let said = run(&mut pyhanko);
    assert!(said.status.success(), "{}", text(&said));

    let (_, der) = signature(&std::fs::read(&signed).unwrap());
    let cms = pki::cms::SignedData::parse(&der).unwrap();
    let signer = &cms.signers[0];
    let attrs = signer.signed_attrs.as_ref().unwrap();
    std::fs::write(dir.join("attrs"), attrs).unwrap();
    std::fs::write(dir.join("value"), &signer.signature).unwrap();
    let leaf = cms
        .certificates
        .iter()
        .map(|c| pki::Certificate::parse(c).unwrap());
    let leaf = leaf
        .into_iter()
        .find(|c| pki::key_alg(c.spki()) == Some(KeyAlg::Ed25519));
    std::fs::write(dir.join("key"), leaf.unwrap().spki()).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.current_dir(&dir).args([
        "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", "key", "-in",
        "attrs", "-sigfile", "value",
    ]);
    let said = run(&mut openssl);
    assert!(said.status.success(), "{}", text(&said));
    story.stack.stop().await;
}

/// The file with a revision that has its cross-reference in both forms at once (ISO 32000-1, 7.5.8.4).
fn in_two_forms(file: &[u8]) -> Vec<u8> {
    let tail = String::from_utf8_lossy(&file[file.len() - 200..]).into_owned();
    let before = tail.rsplit("startxref").next().unwrap();
    let before = before.split_whitespace().next().unwrap();
    let trailer = file.windows(7).rposition(|w| w == b"trailer").unwrap();
    let trailer = String::from_utf8_lossy(&file[trailer..]).into_owned();
    let entry = |name: &str| {
        let rest = trailer.split(name).nth(1).unwrap();
        rest.split(['/', '>']).next().unwrap().trim().to_owned()
    };
    let (size, root) = (entry("/Size"), entry("/Root"));
    let next: u32 = size.parse().unwrap();
    let mut out = [file, b"\n"].concat();
    let hidden = out.len();
    out.extend_from_slice(format!("{next} 0 obj\n(hidden)\nendobj\n").as_bytes());
    let stream = out.len();
    let row = [
        1,
        (hidden >> 16) as u8,
        (hidden >> 8) as u8,
        hidden as u8,
        0,
    ];
    let head = format!(
        "{} 0 obj\n<</Type /XRef /Size {} /W [1 3 1] /Index [{next} 1] /Length 5>>\nstream\n",
        next + 1,
        next + 2
    );
    out.extend_from_slice(&[head.as_bytes(), &row, b"\nendstream\nendobj\n"].concat());
    let table = out.len();
    let end = format!(
        "xref\n0 1\n0000000000 65535 f \ntrailer\n<</Size {} /Root {root} /Prev {before} /XRefStm {stream}>>\nstartxref\n{table}\n%%EOF\n",
        next + 2
    );
    out.extend_from_slice(end.as_bytes());
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_form_are_signed_or_refused_by_name_and_never_changed() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let dir = story.dir.path().to_owned();
    let plain = dir.join("plain.pdf");
    std::fs::write(&plain, sample::contract().unwrap()).unwrap();
    let variant = |name: &str, options: &[&str]| {
        let path = dir.join(name);
        let said = run(Command::new("qpdf").args(options).arg(&plain).arg(&path));
        assert!(said.status.success(), "{}", text(&said));
        path
    };
    let good = [
        variant("object-streams.pdf", &["--object-streams=generate"]),
        variant("linearized.pdf", &["--linearize"]),
        variant(
            "linearized-streams.pdf",
            &["--linearize", "--object-streams=generate"],
        ),
    ];
    for file in &good {
        let before = std::fs::read(file).unwrap();
        let name = format!("signed-{}", file.file_name().unwrap().to_string_lossy());
        let (once, _) = story.sign(file, &name).await.unwrap();
        let (twice, result) = story.sign(&once, &format!("twice-{name}")).await.unwrap();
        assert_eq!(
            result["verification_result"]["verdict"], "passed",
            "{result}"
        );
        let poppler = text(&run(Command::new("pdfsig").arg(&twice)));
        assert_eq!(
            poppler.matches("Signature is Valid.").count(),
            2,
            "{poppler}"
        );
        assert_eq!(std::fs::read(file).unwrap(), before);
    }
    let encrypted = variant(
        "encrypted.pdf",
        &["--encrypt", "secret", "owner", "256", "--"],
    );
    let truncated = dir.join("truncated.pdf");
    let whole = std::fs::read(&plain).unwrap();
    std::fs::write(&truncated, &whole[..whole.len() / 2]).unwrap();
    let other = dir.join("other.pdf");
    std::fs::write(&other, "not a PDF at all").unwrap();
    let hybrid = dir.join("hybrid.pdf");
    std::fs::write(&hybrid, in_two_forms(&whole)).unwrap();
    let certified = dir.join("certified.pdf");
    let certify = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/python/certify.py");
    let said = run(Command::new(python())
        .arg(certify)
        .arg(&plain)
        .arg(&certified));
    assert!(said.status.success(), "{}", text(&said));
    for (file, why) in [
        (&encrypted, "パスワード"),
        (&truncated, "壊れて"),
        (&other, "PDF"),
        (&hybrid, "目次が二通り"),
        (&certified, "以後の変更と署名を禁じて"),
    ] {
        let before = std::fs::read(file).unwrap();
        let error = story.sign(file, "never.pdf").await.unwrap_err().to_string();
        assert!(error.contains(why), "{}: {error}", file.display());
        assert!(!dir.join("never.pdf").exists());
        assert_eq!(std::fs::read(file).unwrap(), before);
    }
    story.stack.stop().await;
}
