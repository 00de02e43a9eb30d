//! A hostile file: reading ends, and what reads well can be extended and still reads well.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pdf_update::{Dict, Object, Pdf, Update};

/// Objects looked at for one file: enough to reach every kind of entry.
const MAX_OBJECTS: u32 = 64;

fuzz_target!(|data: &[u8]| {
    let file = data.to_vec();
    let Ok(pdf) = Pdf::open(&file) else { return };
    for number in 0..pdf.next_number().min(MAX_OBJECTS) {
        if let Ok(Object::Stream(stream)) = pdf.get_number(number) {
            let _ = pdf.raw_stream(&stream);
        }
    }
    for index in 0..pdf.section_offsets().len() {
        let _ = pdf
            .section_numbers(index)
            .take(MAX_OBJECTS as usize)
            .count();
        let _ = pdf.at_section(index).map(|earlier| earlier.catalog());
    }
    let _ = pdf.first_page();

    let mut update = Update::new(&pdf);
    let Ok(id) = update.allocate() else { return };
    update.put(id, &Object::Dict(Dict::default()));
    let Ok(appendix) = update.finish([7; 16]) else {
        return;
    };
    assert_eq!(appendix.start, file.len() as u64);
    let extended = [file.as_slice(), &appendix.bytes].concat();
    let again = Pdf::open(&extended).expect("what we append can be read");
    assert_eq!(again.root(), pdf.root());
    assert_eq!(
        again.get(id).expect("our object"),
        Object::Dict(Dict::default())
    );
});
