//! Documents to sign, and a CMS made by OpenSSL.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use core_types::{HashAlg, UnixTime};
use pades::{PrepareOptions, Prepared, prepare};
use pdf_update::{Builder, Dict};

pub const NOW: UnixTime = UnixTime(1_795_323_912);

/// A one-page document; `catalog` and `page` are more entries, `objects` more objects from number 6 on.
pub fn document_with(catalog: &str, page: &str, objects: &[&str]) -> Vec<u8> {
    let mut b = Builder::new("1.7");
    let root = b.add_object(format!("<</Type /Catalog /Pages 2 0 R {catalog}>>"));
    b.add_object(*b"<</Type /Pages /Kids [3 0 R] /Count 1>>");
    b.add_object(format!(
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources <</Font <</F1 5 0 R>>>> {page}>>"
    ));
    b.add_stream(Dict::new(), b"BT /F1 24 Tf 72 700 Td (Contract) Tj ET");
    b.add_object(*b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>");
    for object in objects {
        b.add_object(*object);
    }
    b.finish(root, None, [1; 16]).unwrap()
}

pub fn document() -> Vec<u8> {
    document_with("", "", &[])
}

pub fn options() -> PrepareOptions {
    PrepareOptions {
        signer_name: "捺印 花子".to_owned(),
        reason: None,
        location: Some("Tokyo".to_owned()),
        signing_time: NOW,
        reserve: pades::reserve(1_200, None),
        field_name: None,
        hash: HashAlg::Sha256,
    }
}

/// Runs `qpdf`; `None` when it is not installed.
pub fn qpdf(args: &[&str], file: &[u8]) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("in.pdf"), dir.path().join("out.pdf"));
    std::fs::write(&from, file).unwrap();
    let done = Command::new("qpdf")
        .args(args)
        .arg(&from)
        .arg(&to)
        .output()
        .ok()?;
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Some(std::fs::read(to).unwrap())
}

pub fn prepare_to(
    path: &Path,
    input: &[u8],
    options: &PrepareOptions,
) -> pades::Result<(Prepared, File)> {
    let output = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    Ok((prepare(&input.to_vec(), &output, options)?, output))
}

/// A signature value that is DER but no CMS; enough for everything that does no cryptography.
pub fn dummy_cms() -> Vec<u8> {
    [&[0x30, 0x82, 0x04, 0x00][..], &[5; 0x400]].concat()
}

/// Signs with a dummy value.
pub fn sign(input: &[u8], options: &PrepareOptions) -> pades::Result<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pdf");
    let (prepared, output) = prepare_to(&path, input, options)?;
    prepared.embed(&output, &dummy_cms())?;
    Ok(std::fs::read(path).unwrap())
}

/// Appends an update that sets `objects` (number and text) by a table, as anybody could.
pub fn append(file: &[u8], objects: &[(u32, &str)]) -> Vec<u8> {
    let source = file.to_vec();
    let pdf = pdf_update::Pdf::open(&source).unwrap();
    let mut update = pdf_update::Update::new(&pdf);
    for (num, text) in objects {
        while pdf.next_number() <= *num && update.allocate().unwrap().num < *num {}
        update.put_raw(pdf_update::ObjId::new(*num), text.as_bytes().to_vec());
    }
    [file, &update.finish([9; 16]).unwrap().bytes].concat()
}

/// A key and a self-signed certificate of OpenSSL.
pub struct OpenSsl {
    dir: tempfile::TempDir,
}

impl OpenSsl {
    /// `None` when OpenSSL is not installed.
    pub fn new() -> Option<Self> {
        let it = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let (key, cert) = (it.path("key.pem"), it.path("cert.pem"));
        let done = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:3072",
                "-nodes",
                "-days",
                "9999",
                "-subj",
                "/CN=Hanako Natsuin",
            ])
            .args([
                "-addext",
                "keyUsage=critical,digitalSignature,nonRepudiation",
            ])
            .args([&"-keyout".into(), &key, &"-out".into(), &cert])
            .output()
            .ok()?;
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        Some(it)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A detached CMS over the two ranges of `file`.
    pub fn cms(&self, file: &[u8], range: [u64; 4]) -> Vec<u8> {
        let part = |from: u64, len: u64| &file[from as usize..(from + len) as usize];
        let content = [part(range[0], range[1]), part(range[2], range[3])].concat();
        std::fs::write(self.path("content"), content).unwrap();
        let done = Command::new("openssl")
            .args([
                "cms", "-sign", "-binary", "-cades", "-outform", "DER", "-md", "sha256",
            ])
            .args([
                &"-in".into(),
                &self.path("content"),
                &"-out".into(),
                &self.path("cms"),
            ])
            .args([
                &"-signer".into(),
                &self.path("cert.pem"),
                &"-inkey".into(),
                &self.path("key.pem"),
            ])
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        std::fs::read(self.path("cms")).unwrap()
    }

    /// Signs `input`.
    pub fn sign(&self, input: &[u8], options: &PrepareOptions) -> Vec<u8> {
        let path = self.path("signed.pdf");
        let (prepared, output) = prepare_to(&path, input, options).unwrap();
        let cms = self.cms(&std::fs::read(&path).unwrap(), prepared.byte_range);
        prepared.embed(&output, &cms).unwrap();
        std::fs::read(path).unwrap()
    }
}
