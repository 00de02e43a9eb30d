//! Nothing that a stranger sends makes the reader panic, hang or take memory out of proportion.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap like tests")]

use pdf_update::{Builder, Error, Metered, Object, Pdf, Update};
use proptest::prelude::*;

const ID: [u8; 16] = [7; 16];

fn small() -> Vec<u8> {
    let mut b = Builder::new("1.7");
    let root =
        b.add_object(*b"<</Type /Catalog /Pages 2 0 R /AcroForm <</Fields [] /SigFlags 3>>>>");
    b.add_object(*b"<</Type /Pages /Kids [3 0 R] /Count 1>>");
    b.add_object(*b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /T (a\\(b) /H <0aF>>>");
    b.finish(root, None, ID).unwrap()
}

/// The same with a cross-reference stream and an object stream, uncompressed so that mutations reach them.
fn with_streams() -> Vec<u8> {
    let mut file = b"%PDF-1.5\n".to_vec();
    let parts = [
        "<</Type /Catalog /Pages 2 0 R>>",
        "<</Type /Pages /Kids [3 0 R] /Count 1>>",
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 9 9]>>",
    ];
    let second = parts[0].len() + 1;
    let third = second + parts[1].len() + 1;
    let index = format!("1 0 2 {second} 3 {third} ");
    let first = index.len();
    let objects = index + &parts.join(" ");
    let at = file.len();
    let length = objects.len();
    file.extend_from_slice(
        format!("4 0 obj\n<</Type /ObjStm /N 3 /First {first} /Length {length}>>\nstream\n{objects}\nendstream\nendobj\n").as_bytes(),
    );
    let start = file.len();
    file.extend_from_slice(b"5 0 obj\n<</Type /XRef /Size 6 /Root 1 0 R /W [1 2 1] /Index [1 5] /Length 20>>\nstream\n");
    for row in [
        [2, 0, 4, 0],
        [2, 0, 4, 1],
        [2, 0, 4, 2],
        [1, 0, at as u8, 0],
        [1, (start >> 8) as u8, start as u8, 0],
    ] {
        file.extend_from_slice(&row);
    }
    file.extend_from_slice(format!("\nendstream\nendobj\nstartxref\n{start}\n%%EOF\n").as_bytes());
    file
}

/// Does everything that can be done with a file.
fn exercise(file: &[u8]) {
    let file = file.to_vec();
    let Ok(pdf) = Pdf::open(&file) else { return };
    let _ = pdf.first_page();
    for num in 0..pdf.next_number().min(50) {
        if let Ok(Object::Stream(stream)) = pdf.get_number(num) {
            let _ = pdf.raw_stream(&stream);
        }
    }
    let mut update = Update::new(&pdf);
    if let Ok(id) = update.allocate() {
        update.put(id, &Object::Null);
        let _ = update.finish(ID);
    }
}

#[test]
fn the_unharmed_files_are_sound() {
    for file in [small(), with_streams()] {
        let pdf = Pdf::open(&file).unwrap();
        assert!(pdf.first_page().unwrap().1.is_type("Page"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn byte_soup(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        exercise(&[b"%PDF-1.7\n".as_slice(), &bytes, b"\nstartxref\n9\n%%EOF\n"].concat());
        exercise(&bytes);
    }

    #[test]
    fn token_soup(words in proptest::collection::vec(
        proptest::sample::select(vec!["<<", ">>", "[", "]", "(", ")", "<", ">", "/A", "1", "0", "R", "obj", "xref\n",
            "trailer", "stream\n", "endobj", "%", "-", "9999999999", "/Type /XRef", "/Prev", "/W [8 8 8]"]), 0..60)) {
        exercise(&[b"%PDF-1.7\n".as_slice(), words.join(" ").as_bytes(), b"\nstartxref\n9\n%%EOF\n"].concat());
    }

    #[test]
    fn mutated_files(streams in any::<bool>(), edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<u16>())) {
        let mut file = if streams { with_streams() } else { small() };
        for (at, byte) in edits {
            let at = usize::from(at) % file.len();
            file[at] = byte;
        }
        if let Some(cut) = cut {
            let cut = usize::from(cut) % file.len();
            file.drain(cut..(cut + 20).min(file.len()));
        }
        exercise(&file);
    }
}

#[test]
fn claims_of_millions_of_entries_cost_nothing() {
    let lie = "more cross-reference entries than bytes";
    let mut file = b"%PDF-1.5\n".to_vec();
    let start = file.len();
    file.extend_from_slice(b"5 0 obj\n<</Type /XRef /Size 8000000 /Root 1 0 R /W [1 8 8] /Length 4>>\nstream\nabcd\nendstream\nendobj\n");
    file.extend_from_slice(format!("startxref\n{start}\n%%EOF\n").as_bytes());
    assert!(matches!(Pdf::open(&file).map(|_| ()), Err(Error::Broken(what)) if what == lie));

    let mut file =
        b"%PDF-1.5\nxref\n0 8000000\n0000000000 65535 f \ntrailer\n<</Size 1 /Root 1 0 R>>\n"
            .to_vec();
    file.extend_from_slice(b"startxref\n9\n%%EOF\n");
    assert!(matches!(Pdf::open(&file).map(|_| ()), Err(Error::Broken(what)) if what == lie));
}

#[test]
fn an_object_stream_that_needs_itself_is_refused() {
    // Its length is a reference to a reference into the stream itself.
    let mut file = b"%PDF-1.5\n".to_vec();
    let at = file.len();
    file.extend_from_slice(b"4 0 obj\n<</Type /ObjStm /N 1 /First 4 /Length 6 0 R>>\nstream\n1 0 <</Pages 2 0 R>>\nendstream\nendobj\n");
    let link = file.len();
    file.extend_from_slice(b"6 0 obj\n1 0 R\nendobj\n");
    let start = file.len();
    file.extend_from_slice(b"5 0 obj\n<</Type /XRef /Size 7 /Root 1 0 R /W [1 1 1] /Index [1 1 4 1 6 1] /Length 9>>\nstream\n");
    file.extend_from_slice(&[2, 4, 0, 1, at as u8, 0, 1, link as u8, 0]);
    file.extend_from_slice(format!("\nendstream\nendobj\nstartxref\n{start}\n%%EOF\n").as_bytes());
    assert!(matches!(
        Pdf::open(&file).map(|_| ()),
        Err(Error::Broken(_))
    ));
}

#[test]
fn work_is_measured_and_ends() {
    let file = with_streams();
    let open = |work| {
        let metered = Metered::limited(&file, work);
        let pdf = Pdf::open(&metered)?;
        for _ in 0..100 {
            pdf.each_object(|_, _| {})?;
        }
        Ok::<_, Error>(())
    };
    assert!(open(1_000_000).is_ok());
    for work in [0, 100, 10_000] {
        assert!(matches!(open(work), Err(Error::Limit(_))), "{work}");
    }
}

#[test]
fn a_small_cross_reference_stream_does_not_fill_the_memory() {
    use std::io::Write as _;
    let entries = 20_000;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![0; entries * 24]).unwrap();
    let packed = packed.finish().unwrap();
    let mut file = b"%PDF-1.5\n".to_vec();
    file.resize(entries, b' ');
    file.push(b'\n');
    let start = file.len();
    let head = format!(
        "5 0 obj\n<</Type /XRef /Size {entries} /Root 1 0 R /W [8 8 8] /Filter /FlateDecode /Length {}>>\nstream\n",
        packed.len()
    );
    file.extend_from_slice(head.as_bytes());
    file.extend_from_slice(&packed);
    file.extend_from_slice(format!("\nendstream\nendobj\nstartxref\n{start}\n%%EOF\n").as_bytes());
    let outcome = Pdf::open(&file).map(|_| ());
    assert!(matches!(outcome, Err(Error::Limit(_))), "{outcome:?}");
}
