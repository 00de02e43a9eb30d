//! Files of every structure: read, updated, and looked at by `qpdf --check` where it is installed.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap like tests")]

use std::process::Command;

use pdf_update::{Builder, Dict, Error, Object, Pdf, Prefix, Source, Update, XrefForm};

const ID: [u8; 16] = *b"0123456789abcdef";

/// A document of `pages` pages with a line of text each.
fn document(pages: usize) -> Vec<u8> {
    let mut b = Builder::new("1.7");
    let root = b.reserve();
    let tree = b.reserve();
    let font = b.add_object(*b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>");
    let mut kids = Vec::new();
    for n in 0..pages {
        let content = b.add_stream(
            Dict::new(),
            format!("BT /F1 24 Tf 72 700 Td (Page {n}) Tj ET").as_bytes(),
        );
        kids.push(Object::Ref(b.add_object(format!(
            "<</Type /Page /Parent {} 0 R /MediaBox [0 0 595 842] /Contents {} 0 R /Resources <</Font <</F1 {} 0 R>>>>>>",
            tree.num, content.num, font.num
        ))));
    }
    let mut text = format!("<</Type /Pages /Count {pages} /Kids ").into_bytes();
    Object::Array(kids).write(&mut text);
    text.extend_from_slice(b">>");
    b.set_object(tree, text);
    b.set_object(root, format!("<</Type /Catalog /Pages {} 0 R>>", tree.num));
    b.finish(root, None, ID).unwrap()
}

/// Runs `qpdf` over `file`; `None` when it is not installed.
fn qpdf(args: &[&str], file: &[u8]) -> Option<Vec<u8>> {
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

fn qpdf_check(file: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("check.pdf");
    std::fs::write(&path, file).unwrap();
    if let Ok(done) = Command::new("qpdf").arg("--check").arg(&path).output() {
        let text = String::from_utf8_lossy(&done.stdout).into_owned()
            + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{text}");
    }
}

/// Adds a key to the catalog and a new object, and returns the whole new file.
fn update(file: &[u8]) -> Vec<u8> {
    let source = file.to_vec();
    let pdf = Pdf::open(&source).unwrap();
    let mut update = Update::new(&pdf);
    let note = update.allocate().unwrap();
    update.put(note, &Object::text("覚え書き"));
    let catalog = pdf
        .catalog()
        .unwrap()
        .with("NatsuinNote", Object::Ref(note));
    update.put(pdf.root(), &Object::Dict(catalog));
    let appendix = update.finish(*b"another one, yes").unwrap();
    assert_eq!(appendix.start, file.len() as u64);
    [file, &appendix.bytes].concat()
}

fn check_update(file: &[u8], form: XrefForm) {
    let updated = update(&update(file));
    qpdf_check(&updated);
    let pdf = Pdf::open(&updated).unwrap();
    assert_eq!(pdf.xref_form(), form);
    let note = pdf
        .lookup(&pdf.catalog().unwrap(), "NatsuinNote")
        .unwrap()
        .unwrap();
    assert_eq!(note.as_text().unwrap(), "覚え書き");
    let (_, page) = pdf.first_page().unwrap();
    assert!(page.is_type("Page"));
    // Every object of the file can be read, and the old revision is still what it was.
    for num in 1..pdf.next_number() {
        pdf.get_number(num).unwrap();
    }
    let prefix = Prefix::new(&updated, file.len() as u64);
    let old = Pdf::open(&prefix).unwrap();
    assert!(old.catalog().unwrap().get("NatsuinNote").is_none());
    assert_eq!(pdf.section_offsets()[2..], old.section_offsets()[..]);
    let ids = pdf.trailer().get("ID").unwrap().as_array().unwrap();
    if let Some(Object::Array(before)) = old.trailer().get("ID") {
        assert_eq!(ids[0], before[0], "the first part of /ID never changes");
    }
    assert_eq!(ids[1].as_str().unwrap(), b"another one, yes");
}

#[test]
fn a_table_file_is_updated_with_a_table() {
    check_update(&document(3), XrefForm::Table);
    // Without a line end behind the end marker.
    let mut bare = document(1);
    assert_eq!(bare.pop(), Some(b'\n'));
    check_update(&bare, XrefForm::Table);
}

#[test]
fn stream_files_and_linearized_files_are_updated_in_kind() {
    let plain = document(40);
    for (args, form) in [
        (&["--object-streams=generate"][..], XrefForm::Stream),
        (
            &["--linearize", "--object-streams=disable"][..],
            XrefForm::Table,
        ),
        (
            &["--linearize", "--object-streams=generate"][..],
            XrefForm::Stream,
        ),
        (
            &["--object-streams=generate", "--compress-streams=n"][..],
            XrefForm::Stream,
        ),
    ] {
        if let Some(file) = qpdf(args, &plain) {
            check_update(&file, form);
        }
    }
}

#[test]
fn encrypted_files_are_refused_by_name() {
    for args in [
        &["--encrypt", "", "owner", "256", "--"][..],
        &["--encrypt", "u", "o", "256", "--"][..],
    ] {
        if let Some(file) = qpdf(args, &document(1)) {
            assert!(matches!(
                Pdf::open(&file).map(|_| ()),
                Err(Error::Encrypted)
            ));
        }
    }
}

#[test]
fn other_files_and_cut_files_are_refused_by_name() {
    let file = document(3);
    for other in [&b""[..], b"%PDF", b"PK\x03\x04 a zip file", b"\0\0\0\0\0\0"] {
        assert!(matches!(
            Pdf::open(&other.to_vec()).map(|_| ()),
            Err(Error::NotAPdf)
        ));
    }
    for cut in [5, 100, file.len() / 2, file.len() - 8] {
        assert!(
            matches!(
                Pdf::open(&file[..cut].to_vec()).map(|_| ()),
                Err(Error::Truncated)
            ),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_wrong_cross_reference_is_refused_not_repaired() {
    let file = document(2);
    let word = b"startxref\n";
    let start = file.windows(10).rposition(|w| w == word).unwrap() + 10;
    let mut wrong = file.clone();
    wrong[start] = if wrong[start] == b'9' { b'8' } else { b'9' };
    assert!(matches!(
        Pdf::open(&wrong).map(|_| ()),
        Err(Error::Broken(_))
    ));
    // Bytes put in near the start, so that all offsets are too small.
    let shifted = [&file[..15], b"%ab\n", &file[15..]].concat();
    assert!(Pdf::open(&shifted).is_err());
}

#[test]
fn an_object_that_is_another_than_the_table_says_is_refused() {
    let file = document(1);
    let at = file.windows(6).position(|w| w == b"5 0 ob").unwrap();
    let mut wrong = file.clone();
    wrong[at] = b'6';
    let pdf = Pdf::open(&wrong).unwrap();
    assert!(matches!(pdf.get_number(5), Err(Error::Broken(_))));
    assert!(matches!(pdf.first_page(), Err(Error::Broken(_))));
}

#[test]
fn circles_of_sections_and_of_pages_end() {
    let file = document(1);
    let offset = Pdf::open(&file).unwrap().section_offsets()[0];
    let at = file.windows(6).rposition(|w| w == b"/Size ").unwrap();
    let looped = [
        &file[..at],
        format!("/Prev {offset}\n").as_bytes(),
        &file[at..],
    ]
    .concat();
    let circle = "the cross-reference sections form a circle";
    assert!(matches!(Pdf::open(&looped).map(|_| ()), Err(Error::Broken(what)) if what == circle));

    let mut b = Builder::new("1.7");
    let root = b.add_object(*b"<</Type /Catalog /Pages 2 0 R>>");
    b.add_object(*b"<</Type /Pages /Kids [2 0 R] /Count 1>>");
    let circle = b.finish(root, None, ID).unwrap();
    assert!(matches!(
        Pdf::open(&circle).unwrap().first_page(),
        Err(Error::Broken(_))
    ));
}

#[test]
fn prev_zero_ends_the_chain_and_lying_sizes_are_not_believed() {
    let mut b = Builder::new("1.4");
    let root = b.add_object(*b"<</Type /Catalog /Pages 2 0 R>>");
    b.add_object(*b"<</Type /Pages /Kids [3 0 R] /Count 1>>");
    b.add_object(*b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 9 9]>>");
    let file = b.finish(root, None, ID).unwrap();
    let cut = file.windows(7).rposition(|w| w == b"/Size 4").unwrap();
    let lying = [&file[..cut], b"/Size 2\n/Prev 0", &file[cut + 7..]].concat();
    let pdf = Pdf::open(&lying).unwrap();
    assert_eq!(pdf.section_offsets().len(), 1);
    assert_eq!(pdf.next_number(), 4);
}

#[test]
fn hybrid_files_are_read_through_both_forms() {
    // A table that hides objects 4 and 5, and a stream that names them.
    let mut file = b"%PDF-1.5\n".to_vec();
    let mut offsets = Vec::new();
    for text in [
        "1 0 obj\n<</Type /Catalog /Pages 2 0 R /Extra 4 0 R>>\nendobj\n",
        "2 0 obj\n<</Type /Pages /Kids [3 0 R] /Count 1>>\nendobj\n",
        "3 0 obj\n<</Type /Page /Parent 2 0 R /MediaBox [0 0 9 9]>>\nendobj\n",
        "5 0 obj\n<</Type /ObjStm /N 1 /First 4 /Length 12>>\nstream\n4 0 (hidden)\nendstream\nendobj\n",
    ] {
        offsets.push(file.len());
        file.extend_from_slice(text.as_bytes());
    }
    let stream_at = file.len();
    let rows = [
        [2_u8, 0, 5, 0],
        [1, (offsets[3] >> 8) as u8, offsets[3] as u8, 0],
    ]
    .concat();
    file.extend_from_slice(
        b"6 0 obj\n<</Type /XRef /Size 7 /W [1 2 1] /Index [4 2] /Length 8>>\nstream\n",
    );
    file.extend_from_slice(&rows);
    file.extend_from_slice(b"\nendstream\nendobj\n");
    let table_at = file.len();
    file.extend_from_slice(b"xref\n0 4\n0000000000 65535 f \n");
    for offset in &offsets[..3] {
        file.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes());
    }
    let trailer = format!(
        "trailer\n<</Size 7 /Root 1 0 R /XRefStm {stream_at}>>\nstartxref\n{table_at}\n%%EOF\n"
    );
    file.extend_from_slice(trailer.as_bytes());

    let pdf = Pdf::open(&file).unwrap();
    assert!(pdf.is_hybrid());
    let extra = pdf
        .lookup(&pdf.catalog().unwrap(), "Extra")
        .unwrap()
        .unwrap();
    assert_eq!(extra.as_str().unwrap(), b"hidden");
}

/// Counts what is read.
struct Counting<'a>(&'a std::fs::File, std::cell::Cell<u64>);

impl Source for Counting<'_> {
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let n = self.0.read_at(buf, offset)?;
        self.1.set(self.1.get() + n as u64);
        Ok(n)
    }
}

#[test]
fn of_a_gigabyte_only_what_is_needed_is_read() {
    use std::io::{Seek, SeekFrom, Write};
    // A content stream of one gigabyte, as a hole in the file.
    const HOLE: u64 = 1 << 30;
    let mut file = tempfile::tempfile().unwrap();
    let head = format!(
        "%PDF-1.7\n1 0 obj\n<</Type /Catalog /Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type /Pages /Kids [3 0 R] /Count 1>>\n\
         endobj\n3 0 obj\n<</Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R>>\nendobj\n\
         4 0 obj\n<</Length {HOLE}>>\nstream\n"
    );
    file.write_all(head.as_bytes()).unwrap();
    file.seek(SeekFrom::Current(i64::try_from(HOLE).unwrap()))
        .unwrap();
    file.write_all(b"\nendstream\nendobj\n").unwrap();
    let xref_at = file.stream_position().unwrap();
    let mut tail = "xref\n0 5\n0000000000 65535 f \n".to_owned();
    for n in 1..5 {
        tail.push_str(&format!(
            "{:010} 00000 n \n",
            head.find(&format!("{n} 0 obj")).unwrap()
        ));
    }
    tail.push_str(&format!(
        "trailer\n<</Size 5 /Root 1 0 R>>\nstartxref\n{xref_at}\n%%EOF\n"
    ));
    file.write_all(tail.as_bytes()).unwrap();

    let counting = Counting(&file, std::cell::Cell::new(0));
    let pdf = Pdf::open(&counting).unwrap();
    let (page, dict) = pdf.first_page().unwrap();
    let mut update = Update::new(&pdf);
    update.put(page, &Object::Dict(dict.with("Rotate", Object::Int(90))));
    let appendix = update.finish(ID).unwrap();
    assert_eq!(appendix.start, file.size().unwrap());
    assert!(matches!(pdf.get_number(4).unwrap(), Object::Stream(_)));
    assert!(
        counting.1.get() < 64 << 10,
        "{} bytes were read",
        counting.1.get()
    );
}
