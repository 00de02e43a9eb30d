//! The Japanese sample contract that `natsuin demo` signs when no file is given.

use anyhow::{Context as _, Result};
use core_types::bytes::hex;
use core_types::sha256;
use pdf_update::{Builder, Dict, ObjId};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider as _};

const TEXT: &str = include_str!("../assets/contract.ja.txt");
const FONT: &[u8] = include_bytes!("../assets/contract-font.ttf");

/// A4 in points, and the text block in it.
const PAGE: (f32, f32) = (595.28, 841.89);
const MARGIN: f32 = 72.0;
const LEADING: f32 = 1.75;

/// Makes the PDF: one page, the font embedded, text that can be searched and read aloud.
///
/// # Errors
/// When the text has a character that the embedded font lacks.
pub fn contract() -> Result<Vec<u8>> {
    let face = Face::load()?;
    let content = page_content(&face)?;
    let mut pdf = Builder::new("1.7");
    let file = pdf.add_stream(Dict::new(), FONT);
    let to_unicode = pdf.add_stream(Dict::new(), face.to_unicode()?.as_bytes());
    let descriptor = pdf.add_object(format!(
        "<< /Type /FontDescriptor /FontName /BIZUDMincho-Regular /Flags 4 /FontBBox [-120 -300 1100 1000] /ItalicAngle 0 \
         /Ascent 880 /Descent -120 /CapHeight 740 /StemV 80 /FontFile2 {} >>",
        reference(file)
    ));
    let cid_font = pdf.add_object(format!(
        "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /BIZUDMincho-Regular /CIDSystemInfo << /Registry (Adobe) \
         /Ordering (Identity) /Supplement 0 >> /FontDescriptor {} /DW 1000 /W [{}] /CIDToGIDMap /Identity >>",
        reference(descriptor),
        face.widths()?
    ));
    let font = pdf.add_object(format!(
        "<< /Type /Font /Subtype /Type0 /BaseFont /BIZUDMincho-Regular /Encoding /Identity-H /DescendantFonts [{}] \
         /ToUnicode {} >>",
        reference(cid_font),
        reference(to_unicode)
    ));
    let content = pdf.add_stream(Dict::new(), content.as_bytes());
    let pages = pdf.reserve();
    let page = pdf.add_object(format!(
        "<< /Type /Page /Parent {} /MediaBox [0 0 {} {}] /Resources << /Font << /F1 {} >> >> /Contents {} >>",
        reference(pages),
        PAGE.0,
        PAGE.1,
        reference(font),
        reference(content)
    ));
    pdf.set_object(
        pages,
        format!("<< /Type /Pages /Kids [{}] /Count 1 >>", reference(page)),
    );
    let root = pdf.add_object(format!(
        "<< /Type /Catalog /Pages {} /Lang (ja) /ViewerPreferences << /DisplayDocTitle true >> >>",
        reference(pages)
    ));
    let title = TEXT.lines().next().unwrap_or_default();
    let info = pdf.add_object(format!(
        "<< /Title <{}> /Producer (Natsuin) >>",
        utf16(title)
    ));
    let mut id = [0; 16];
    id.copy_from_slice(&sha256(&[TEXT.as_bytes()]).0[..16]);
    pdf.finish(root, Some(info), id)
        .context("the sample contract can't be written")
}

fn reference(id: ObjId) -> String {
    format!("{} 0 R", id.num)
}

fn utf16(text: &str) -> String {
    let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    format!("FEFF{}", hex(units).to_uppercase())
}

struct Face {
    font: FontRef<'static>,
}

impl Face {
    fn load() -> Result<Self> {
        Ok(Self {
            font: FontRef::new(FONT).context("the embedded font can't be read")?,
        })
    }

    fn glyph(&self, c: char) -> Result<u32> {
        let glyph = self
            .font
            .charmap()
            .map(c)
            .with_context(|| format!("the embedded font lacks {c:?}"))?;
        Ok(glyph.to_u32())
    }

    /// Width in thousandths of the font size.
    fn width(&self, c: char) -> Result<f32> {
        let metrics = self
            .font
            .glyph_metrics(Size::new(1000.0), LocationRef::default());
        let glyph = self
            .font
            .charmap()
            .map(c)
            .with_context(|| format!("the embedded font lacks {c:?}"))?;
        metrics
            .advance_width(glyph)
            .with_context(|| format!("the embedded font has no width for {c:?}"))
    }

    fn characters() -> Vec<char> {
        let mut all: Vec<char> = TEXT.chars().filter(|c| *c != '\n').collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn widths(&self) -> Result<String> {
        let mut out = String::new();
        for c in Self::characters() {
            out.push_str(&format!("{} [{}] ", self.glyph(c)?, self.width(c)?));
        }
        Ok(out)
    }

    fn to_unicode(&self) -> Result<String> {
        let mut rows = String::new();
        let all = Self::characters();
        for block in all.chunks(100) {
            rows.push_str(&format!("{} beginbfchar\n", block.len()));
            for c in block {
                let text = utf16(&c.to_string());
                rows.push_str(&format!("<{:04X}> <{}>\n", self.glyph(*c)?, &text[4..]));
            }
            rows.push_str("endbfchar\n");
        }
        Ok(format!(
            "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n/CMapName /Natsuin-UCS def\n/CMapType 2 def\n\
             /CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n\
             1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n{rows}endcmap\n\
             CMapName currentdict /CMap defineresource pop\nend\nend\n"
        ))
    }
}

/// One line on the page: text, size, left edge.
struct Line {
    text: String,
    size: f32,
    left: f32,
    above: f32,
}

fn page_content(face: &Face) -> Result<String> {
    let mut out = String::from("BT\n");
    let mut y = PAGE.1 - MARGIN;
    for line in layout(face)? {
        y -= line.above + line.size * LEADING;
        let mut glyphs = String::new();
        for c in line.text.chars() {
            glyphs.push_str(&format!("{:04X}", face.glyph(c)?));
        }
        out.push_str(&format!(
            "/F1 {} Tf 1 0 0 1 {:.2} {y:.2} Tm <{glyphs}> Tj\n",
            line.size, line.left
        ));
    }
    out.push_str("ET\n");
    Ok(out)
}

fn layout(face: &Face) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (i, paragraph) in TEXT.lines().enumerate() {
        let (text, size, above) = match paragraph.split_once(' ') {
            _ if i == 0 => (paragraph, 18.0, 0.0),
            Some(("#", rest)) => (rest, 10.5, 6.0),
            Some((">", rest)) => (rest, 10.5, 4.0),
            _ => (paragraph, 10.5, if i == 1 { 14.0 } else { 0.0 }),
        };
        for (n, text) in wrap(face, text, size)?.into_iter().enumerate() {
            let centred = (PAGE.0 - measure(face, &text, size)?) / 2.0;
            let left = if i == 0 { centred } else { MARGIN };
            lines.push(Line {
                text,
                size,
                left,
                above: if n == 0 { above } else { 0.0 },
            });
        }
    }
    Ok(lines)
}

fn measure(face: &Face, text: &str, size: f32) -> Result<f32> {
    text.chars()
        .try_fold(0.0, |sum, c| Ok(sum + face.width(c)? * size / 1000.0))
}

/// Breaks at the right margin; a full stop, comma or closing bracket never starts a line (行頭禁則).
fn wrap(face: &Face, text: &str, size: f32) -> Result<Vec<String>> {
    let room = PAGE.0 - 2.0 * MARGIN;
    let mut lines = vec![String::new()];
    let mut used = 0.0;
    for c in text.chars() {
        let width = face.width(c)? * size / 1000.0;
        let hangs = matches!(c, '。' | '、' | '」' | ')');
        if used + width > room && !hangs {
            lines.push(String::new());
            used = 0.0;
        }
        used += width;
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_every_character_and_the_text_fits_one_page() {
        let face = Face::load().unwrap();
        let height: f32 = layout(&face)
            .unwrap()
            .iter()
            .map(|l| l.above + l.size * LEADING)
            .sum();
        assert!(height < PAGE.1 - 2.0 * MARGIN, "{height}");
        assert_eq!(contract().unwrap(), contract().unwrap());
    }
}
