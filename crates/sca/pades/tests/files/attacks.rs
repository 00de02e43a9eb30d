//! Changes after signing that must be seen, and those that are part of signing.

use crate::common::{append, document, document_with, options, sign};
use pades::{Coverage, Evaluated, FoundSignature, Level, signatures};

fn first(file: &[u8]) -> FoundSignature {
    signatures(&file.to_vec()).unwrap().remove(0)
}

fn named(file: &[u8], field: &str) -> FoundSignature {
    let all = signatures(&file.to_vec()).unwrap();
    all.into_iter().find(|s| s.field_name == field).unwrap()
}

fn signed() -> Vec<u8> {
    sign(&document(), &options()).unwrap()
}

#[test]
fn changed_content_fonts_pages_and_catalog_are_seen() {
    let file = signed();
    for (num, text) in [
        (4, "<</Length 3>>\nstream\nq Q\nendstream"),
        (
            4,
            "<</Length 39>>\nstream\nBT /F1 24 Tf 72 700 Td (contract) Tj ET\nendstream",
        ),
        (5, "<</Type /Font /Subtype /Type1 /BaseFont /Symbol>>"),
        (
            3,
            "<</Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] /Contents 4 0 R>>",
        ),
        (
            3,
            "<</Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R /Annots [7 0 R]>>",
        ),
        (2, "<</Type /Pages /Kids [3 0 R 3 0 R] /Count 2>>"),
        (
            1,
            "<</Type /Catalog /Pages 2 0 R /AcroForm 8 0 R /OpenAction 3 0 R>>",
        ),
        (7, "null"),
    ] {
        let one = first(&append(&file, &[(num, text)]));
        assert_eq!(one.coverage, Coverage::EntireRevision);
        assert_eq!(one.modifications.evaluated, Evaluated::Full);
        assert_eq!(one.modifications.level, Level::Other, "object {num}");
        assert_eq!(one.changes_allowed(), Some(false));
    }
}

#[test]
fn a_change_that_is_undone_again_is_seen() {
    let file = signed();
    let original = "<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>";
    let changed = append(
        &file,
        &[(5, "<</Type /Font /Subtype /Type1 /BaseFont /Symbol>>")],
    );
    let undone = append(&changed, &[(5, original)]);
    assert_eq!(first(&undone).modifications.level, Level::Other);
    assert_eq!(
        first(&append(&file, &[(5, original)])).modifications.level,
        Level::None
    );
}

#[test]
fn a_missing_object_that_is_supplied_later_is_seen() {
    // The signed page shows a form that does not exist yet: the shadow of things to come.
    let prepared = document_with("", "/Thumb 40 0 R", &[]);
    let file = sign(&prepared, &options()).unwrap();
    let one = first(&append(
        &file,
        &[(40, "<</Length 0>>\nstream\n\nendstream")],
    ));
    assert_eq!(one.modifications.level, Level::Other);
    assert_eq!(
        first(&append(&file, &[(41, "(nobody asks for this)")]))
            .modifications
            .level,
        Level::LtaUpdates
    );
}

#[test]
fn new_annotations_and_other_fields_are_seen() {
    let file = signed();
    let source = file.clone();
    let pdf = pdf_update::Pdf::open(&source).unwrap();
    let (_, page) = pdf.first_page().unwrap();
    let mut text = Vec::new();
    let mut annots = page.get("Annots").unwrap().as_array().unwrap().to_vec();
    annots.push(pdf_update::Object::Ref(pdf_update::ObjId::new(20)));
    pdf_update::Object::Dict(
        page.clone()
            .with("Annots", pdf_update::Object::Array(annots)),
    )
    .write(&mut text);
    let page_text = String::from_utf8(text).unwrap();
    let note = "<</Type /Annot /Subtype /FreeText /Rect [0 0 500 500] /Contents (covers all)>>";
    assert_eq!(
        first(&append(&file, &[(3, &page_text), (20, note)]))
            .modifications
            .level,
        Level::Other
    );
}

#[test]
fn the_security_store_is_no_change_of_content() {
    let file = signed();
    let store = "<</Type /DSS /Certs [21 0 R]>>";
    let source = file.clone();
    let pdf = pdf_update::Pdf::open(&source).unwrap();
    let mut text = Vec::new();
    let catalog = pdf
        .catalog()
        .unwrap()
        .with("DSS", pdf_update::Object::Ref(pdf_update::ObjId::new(20)));
    pdf_update::Object::Dict(catalog).write(&mut text);
    let catalog = String::from_utf8(text).unwrap();
    let stream = "<</Length 2>>\nstream\n0\x00\nendstream";
    let one = first(&append(&file, &[(1, &catalog), (20, store), (21, stream)]));
    assert_eq!(one.modifications.unexplained, Vec::<String>::new());
    assert_eq!(one.modifications.level, Level::LtaUpdates);
    let odd = "<</Type /DSS /Certs [21 0 R] /Extra (x)>>";
    assert_eq!(
        first(&append(&file, &[(1, &catalog), (20, odd), (21, stream)]))
            .modifications
            .level,
        Level::Other
    );
}

/// A signed page whose content claims more bytes than the file has, and an update that supplies them.
fn content_completed_later() -> (Vec<u8>, Vec<u8>) {
    let shown = "BT /F1 24 Tf 72 700 Td (Pay 100) Tj ET";
    let content = format!("<</Length {:08}>>\nstream\n{shown}\nendstream", shown.len());
    let honest = document_with("", "", &[]);
    let honest = append(&honest, &[(4, &content)]);
    let signed = sign(&honest, &options()).unwrap();
    let start = find(&signed, shown.as_bytes());
    let rest = "1 1 1 rg 0 0 595 842 re f 0 g BT /F1 24 Tf 72 700 Td (Pay 999999) Tj ET";
    let filler = format!("<</Length {}>>\nstream\n{rest}\nendstream", rest.len());
    let appended = append(&signed, &[(50, &filler)]);
    let length = find(&appended, format!("{rest}\nendstream").as_bytes()) + rest.len() - start;
    let claim = |file: &[u8]| {
        patch(
            file,
            &format!("/Length {:08}", shown.len()),
            &format!("/Length {length:08}"),
        )
    };
    (claim(&signed), claim(&appended))
}

fn find(file: &[u8], what: &[u8]) -> usize {
    file.windows(what.len()).position(|w| w == what).unwrap()
}

/// What poppler shows of a file.
fn shown(file: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shown.pdf");
    std::fs::write(&path, file).unwrap();
    let done = std::process::Command::new("pdftotext")
        .args([path.as_os_str(), "-".as_ref()])
        .output()
        .expect("pdftotext of poppler is needed");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn a_signed_stream_that_appended_bytes_complete_is_seen() {
    let (signed, changed) = content_completed_later();
    assert!(shown(&signed).contains("Pay 100"));
    assert!(shown(&changed).contains("Pay 999999"));
    let one = first(&changed);
    assert_eq!(one.coverage, Coverage::EntireRevision);
    assert_eq!(one.modifications.level, Level::Other, "{one:?}");
    assert_eq!(one.changes_allowed(), Some(false));
    // Nobody gets such a file signed.
    assert_eq!(sign(&signed, &options()).unwrap_err().code(), "pdf-broken");
}

#[test]
fn a_file_with_an_object_behind_its_end_is_not_signed() {
    let file = document_with("", "/Thumb 6 0 R", &["null"]);
    let entry = |at: usize| format!("{at:010} 00000 n ");
    let at = find(&file, b"6 0 obj");
    let dangling = patch(&file, &entry(at), &entry(file.len() + 100));
    assert_eq!(
        sign(&dangling, &options()).unwrap_err().code(),
        "pdf-broken"
    );
}

/// An update that adds a signature field over the page; `field` are its entries besides the type.
fn with_field(file: &[u8], field: &str, objects: &[(u32, &str)]) -> Vec<u8> {
    let source = file.to_vec();
    let pdf = pdf_update::Pdf::open(&source).unwrap();
    let id = pdf_update::Object::Ref(pdf_update::ObjId::new(30));
    let add = |list: Option<&pdf_update::Object>| {
        let list = list.and_then(|l| l.as_array()).unwrap_or_default();
        pdf_update::Object::Array([list, std::slice::from_ref(&id)].concat())
    };
    let text = |dict: pdf_update::Dict| {
        let mut text = Vec::new();
        pdf_update::Object::Dict(dict).write(&mut text);
        String::from_utf8(text).unwrap()
    };
    let catalog = pdf.catalog().unwrap();
    let form_id = catalog.get("AcroForm").unwrap().as_ref().unwrap();
    let form = pdf.get(form_id).unwrap().as_dict().unwrap().clone();
    let form = text(form.clone().with("Fields", add(form.get("Fields"))));
    let (page_id, page) = pdf.first_page().unwrap();
    let page = text(page.clone().with("Annots", add(page.get("Annots"))));
    let field = format!("<</Type /Annot /Subtype /Widget /FT /Sig /T (New) /P 3 0 R {field}>>");
    let mut all = vec![
        (form_id.num, form.as_str()),
        (page_id.num, &page),
        (30, &field),
    ];
    all.extend(objects);
    append(file, &all)
}

const OVER: &str = "/Rect [0 0 595 842] /F 4 /AP <</N 31 0 R>>";
const COVER: (u32, &str) = (
    31,
    "<</Type /XObject /Subtype /Form /BBox [0 0 595 842] /Length 30>>\nstream\n1 1 1 rg 0 0 595 842 re f     \nendstream",
);
const VALUE: (u32, &str) = (
    32,
    "<</Type /Sig /SubFilter /ETSI.CAdES.detached /ByteRange [0 1 2 3] /Contents <3000>>>",
);

#[test]
fn a_box_laid_over_a_signed_page_needs_a_signature_that_is_reported() {
    let file = signed();
    let level = |field: &str, objects: &[(u32, &str)]| {
        first(&with_field(&file, field, objects))
            .modifications
            .level
    };
    assert_eq!(level("/Rect [0 0 0 0] /F 132", &[]), Level::LtaUpdates);
    assert_eq!(level(OVER, &[COVER]), Level::Other);
    // The same in a widget of its own.
    let kid = format!("<</Type /Annot /Subtype /Widget /Parent 30 0 R {OVER}>>");
    assert_eq!(level("/Kids [33 0 R]", &[COVER, (33, &kid)]), Level::Other);
    // Something that is no signature, or one that anybody can have made.
    for value in [
        "(value)",
        "<</Type /Sig>>",
        "<</Type /DocTimeStamp /ByteRange [0 1 2 3]>>",
        "<</Type /Sig /SubFilter /ETSI.RFC3161 /ByteRange [0 1 2 3]>>",
    ] {
        let outcome = level(&format!("{OVER} /V 32 0 R"), &[COVER, (32, value)]);
        assert_eq!(outcome, Level::Other, "{value}");
    }
    let signed_box = with_field(&file, &format!("{OVER} /V 32 0 R"), &[COVER, VALUE]);
    assert_eq!(
        named(&signed_box, "Signature1").modifications.level,
        Level::FormFilling
    );
    assert!(matches!(
        named(&signed_box, "New").coverage,
        Coverage::Broken(_)
    ));
    // Actions, and borders that are drawn without an appearance.
    for more in [
        "/A <</S /URI /URI (x)>>",
        "/AA <<>>",
        "/BS <</W 500>>",
        "/Parent 3 0 R",
    ] {
        let outcome = level(&format!("/Rect [0 0 0 0] {more}"), &[]);
        assert_eq!(outcome, Level::Other, "{more}");
    }
}

#[test]
fn a_certified_page_gets_no_new_box_and_an_empty_box_no_new_look() {
    let field =
        "<</FT /Sig /T (Seller) /Type /Annot /Subtype /Widget /P 3 0 R /Rect [9 9 99 50] /F 4>>";
    let empty = document_with(
        "/AcroForm 7 0 R",
        "/Annots [6 0 R]",
        &[field, "<</Fields [6 0 R]>>"],
    );
    let buyer = pades::PrepareOptions {
        field_name: Some("Buyer".to_owned()),
        ..options()
    };
    let file = sign(&empty, &buyer).unwrap();
    let grown = |more: &str| {
        field
            .replace(">>", &format!(" {more}>>"))
            .replace("(Seller)  ", "(Seller) ")
    };
    let level = |more: &str, objects: &[(u32, &str)]| {
        let text = grown(more);
        let mut all = vec![(6, text.as_str())];
        all.extend(objects);
        named(&append(&file, &all), "Buyer").modifications.level
    };
    assert_eq!(level("/AP <</N 31 0 R>>", &[COVER]), Level::Other);
    assert_eq!(level("/Ff 1", &[]), Level::FormFilling);
    let stamp = (32, "<</Type /DocTimeStamp /ByteRange [0 1 2 3]>>");
    assert_eq!(
        level("/AP <</N 31 0 R>> /V 32 0 R", &[COVER, stamp]),
        Level::Other
    );
    assert_eq!(
        level("/AP <</N 31 0 R>> /V 32 0 R", &[COVER, VALUE]),
        Level::FormFilling
    );

    let author = "<</FT /Sig /T (Author) /V 7 0 R>>";
    let certification = "<</Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached /ByteRange [0 1 2 3] \
         /Contents <3000> /Reference [<</Type /SigRef /TransformMethod /DocMDP /TransformParams <</P 2>>>>]>>";
    let certified = document_with(
        "/AcroForm 8 0 R /Perms <</DocMDP 7 0 R>>",
        "",
        &[author, certification, "<</Fields [6 0 R]>>"],
    );
    let file = sign(&certified, &options()).unwrap();
    let new = |field: &str| {
        named(&with_field(&file, field, &[COVER, VALUE]), "Signature1").changes_allowed()
    };
    assert_eq!(new("/Rect [0 0 0 0] /V 32 0 R"), Some(true));
    assert_eq!(new(&format!("{OVER} /V 32 0 R")), Some(false));
}

/// Replaces text of the same length everywhere.
fn patch(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = file
        .windows(from.len())
        .position(|w| w == from.as_bytes())
        .unwrap();
    [&file[..at], to.as_bytes(), &file[at + to.len()..]].concat()
}

#[test]
fn wrapped_and_malformed_ranges_are_broken() {
    let file = signed();
    let [_, a, b, c] = first(&file).byte_range;
    let range = format!("[0 {a} {b} {c}");
    for wrong in [
        format!("[0 {} {b} {c}", a - 1),
        format!("[0 {a} {} {}", b + 1, c - 1),
        format!("[1 {a} {b} {c}"),
        format!("[0 {a} {b} -{c}"),
        format!("[0 {a} {b} {}", c + 1),
        format!("[0 {a} {b} 99999999999999999999"),
        "[".to_owned(),
    ] {
        let width = range.len().max(wrong.len());
        let one = first(&patch_range(&file, &range, &wrong, width));
        assert!(
            matches!(one.coverage, Coverage::Broken(_)),
            "{wrong}: {one:?}"
        );
        assert!(one.digest(&file, core_types::HashAlg::Sha256).is_err());
    }
    // Less than the revision.
    let short = format!("[0 {a} {b} {}", c - 8);
    let one = first(&patch_range(&file, &range, &short, range.len()));
    assert!(matches!(one.coverage, Coverage::Partial(_)), "{one:?}");
    assert_eq!(one.changes_allowed(), None);
}

/// Puts another range in place of `old`, using the spaces that follow it.
fn patch_range(file: &[u8], old: &str, new: &str, width: usize) -> Vec<u8> {
    patch(file, &format!("{old:<width$}"), &format!("{new:<width$}"))
}

#[test]
fn something_behind_the_value_is_broken() {
    let file = signed();
    let end = usize::try_from(first(&file).byte_range[2]).unwrap();
    for (at, byte) in [(end - 2, b'1'), (end - 2, b'x'), (end - 2, b'>')] {
        let mut wrong = file.clone();
        wrong[at] = byte;
        assert!(signatures(&wrong).map_or(true, |s| matches!(s[0].coverage, Coverage::Broken(_))));
    }
}

#[test]
fn bytes_without_a_revision_are_seen() {
    let file = signed();
    let one = first(&[&file[..], b"4 0 obj (evil) endobj\n"].concat());
    assert_eq!(one.modifications.level, Level::Other);
    assert_eq!(
        first(&[&file[..], b"\n"].concat()).modifications.level,
        Level::None
    );
}

#[test]
fn a_file_that_does_not_build_on_the_signed_revision_is_partial() {
    // The same objects at the same places, but a table that starts anew.
    let file = signed();
    let pdf = pdf_update::Pdf::open(&file).unwrap();
    let mut tail = format!("xref\n0 {}\n0000000000 65535 f \n", pdf.next_number());
    for num in 1..pdf.next_number() {
        match pdf.entry(num).unwrap() {
            Some(pdf_update::Entry::At { offset, .. }) => {
                tail.push_str(&format!("{offset:010} 00000 n \n"));
            }
            other => panic!("{other:?}"),
        }
    }
    let (size, start) = (pdf.next_number(), file.len());
    tail.push_str(&format!(
        "trailer\n<</Size {size} /Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n"
    ));
    let anew = [&file[..], tail.as_bytes()].concat();
    for wrong in [append(&append(&anew, &[]), &[]), anew] {
        let one = first(&wrong);
        assert!(matches!(one.coverage, Coverage::Partial(_)), "{one:?}");
    }
}

#[test]
fn a_signature_that_its_own_revision_does_not_know_is_partial() {
    // Revision 1 hides a signature dictionary that no field holds; revision 2 brings it out.
    let base = document_with("/AcroForm <</Fields []>>", "", &[]);
    let pdf = pdf_update::Pdf::open(&base).unwrap();
    let mut update = pdf_update::Update::new(&pdf);
    let hidden = update.allocate().unwrap();
    let head = "<</Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached /ByteRange [0 ";
    let blank = " ".repeat(40);
    let text = format!("{head}{blank}] /Contents <3003020105>>>");
    update.put_raw(hidden, text.clone().into_bytes());
    let mut appendix = update.finish([3; 16]).unwrap();
    let body = appendix.body_of(hidden.num).unwrap();
    let gap = body + text.find("<3003").unwrap();
    let (a, b) = (base.len() + gap, base.len() + gap + 12);
    let range = format!("{a} {b} {}", base.len() + appendix.bytes.len() - b);
    let at = body + head.len();
    appendix.bytes[at..at + 40].copy_from_slice(format!("{range:<40}").as_bytes());
    let signed = [&base[..], &appendix.bytes].concat();
    let shown = append(
        &signed,
        &[
            (
                1,
                "<</Type /Catalog /Pages 2 0 R /AcroForm <</Fields [7 0 R]>>>>",
            ),
            (7, "<</FT /Sig /T (Late) /V 6 0 R>>"),
        ],
    );
    let one = first(&shown);
    assert_eq!(one.contents, [0x30, 3, 2, 1, 5]);
    assert_eq!(
        one.coverage,
        Coverage::Partial("the signed revision does not hold this signature")
    );
}

#[test]
fn a_removed_or_replaced_signature_is_still_found() {
    let file = signed();
    for change in [
        (7, "<</FT /Sig /T (Signature1)>>"),
        (6, "<</Type /Sig>>"),
        (8, "<</Fields []>>"),
    ] {
        let all = signatures(&append(&file, &[change])).unwrap();
        let whole = all.iter().find(|s| s.coverage == Coverage::EntireRevision);
        assert_eq!(
            whole.unwrap().modifications.level,
            Level::Other,
            "{change:?}"
        );
    }
}

#[test]
fn a_certification_allows_no_more_than_it_says() {
    let file = signed();
    let mut one = first(&sign(&file, &options()).unwrap());
    assert_eq!((one.doc_mdp, one.changes_allowed()), (None, Some(true)));
    one.doc_mdp = Some(1);
    assert_eq!(one.changes_allowed(), Some(false));
}

#[test]
fn small_files_that_make_much_work_are_refused() {
    let kids = format!("<</FT /Sig /T (A) /Kids [{}]>>", "3 0 R ".repeat(200_001));
    let file = document_with("/AcroForm <</Fields [6 0 R]>>", "", &[&kids]);
    assert_eq!(
        sign(&file, &options()).unwrap_err().code(),
        "pdf-too-complex"
    );

    // Hundreds of fields that name one signature.
    let file = signed();
    let fields: Vec<String> = (0..201)
        .map(|n| format!("<</FT /Sig /T (F{n}) /V 6 0 R>>"))
        .collect();
    let list: Vec<String> = (100..301).map(|n| format!("{n} 0 R")).collect();
    let form = format!("<</Fields [{}]>>", list.join(" "));
    let mut objects = vec![(8, form.as_str())];
    objects.extend((100..).zip(fields.iter().map(String::as_str)));
    let many = append(&file, &objects);
    assert_eq!(signatures(&many).unwrap_err().code(), "pdf-too-complex");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_edit_of_signed_bytes_makes_it_panic(edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
            thread_local!(static FILE: Vec<u8> = sign(&signed(), &options()).unwrap());
            let mut file = FILE.with(Clone::clone);
            for (at, byte) in edits {
                let at = usize::from(at) % file.len();
                file[at] = byte;
            }
            let _ = signatures(&file);
            let _ = sign(&file, &options());
        }
    }
}
