//! A file that is larger than the memory it may take.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::kit::{run, text};

/// Bytes of the file, and what the whole service together with its signer may allocate (`ulimit -d`, KiB).
const FILE: u64 = 400 << 20;
const MEMORY: u64 = 256 << 10;

/// A page with a stream of zeros that takes no room on the disk.
fn write_sparse(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let mut offsets = Vec::new();
    file.write_all(b"%PDF-1.7\n").unwrap();
    for text in [
        "1 0 obj\n<</Type /Catalog /Pages 2 0 R>>\nendobj\n".to_owned(),
        "2 0 obj\n<</Type /Pages /Kids [3 0 R] /Count 1>>\nendobj\n".to_owned(),
        "3 0 obj\n<</Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources <<>>>>\nendobj\n"
            .to_owned(),
        format!("4 0 obj\n<</Length {FILE}>>\nstream\n"),
    ] {
        offsets.push(file.stream_position().unwrap());
        file.write_all(text.as_bytes()).unwrap();
    }
    file.seek(SeekFrom::Current(i64::try_from(FILE).unwrap()))
        .unwrap();
    file.write_all(b"\nendstream\nendobj\n").unwrap();
    let table = file.stream_position().unwrap();
    let rows: String = offsets
        .iter()
        .map(|o| format!("{o:010} 00000 n \n"))
        .collect();
    let end = format!(
        "xref\n0 5\n0000000000 65535 f \n{rows}trailer\n<</Size 5 /Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n"
    );
    file.write_all(end.as_bytes()).unwrap();
}

#[test]
fn a_file_larger_than_the_memory_is_uploaded_signed_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("図面.pdf");
    write_sparse(&file);
    let mut demo = Command::new("bash");
    demo.env("TMPDIR", dir.path())
        .arg("-c")
        .arg(format!("ulimit -d {MEMORY} && exec \"$@\""))
        .arg("bash")
        .arg(env!("CARGO_BIN_EXE_natsuin"))
        .args(["demo", "--json", "--out"])
        .arg(dir.path().join("out"))
        .arg(&file);
    let said = run(&mut demo);
    let shown: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    assert_eq!(shown["ok"], true, "{}", text(&said));
    let signed = dir.path().join("out/図面-signed.pdf");
    assert!(std::fs::metadata(signed).unwrap().len() > FILE);
}
