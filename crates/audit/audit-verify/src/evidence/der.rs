//! A small reader of DER (X.690).

/// Tag.
pub(super) const BOOLEAN: u8 = 0x01;
/// Tag.
pub(super) const INTEGER: u8 = 0x02;
/// Tag.
pub(super) const BIT_STRING: u8 = 0x03;
/// Tag.
pub(super) const OCTET_STRING: u8 = 0x04;
/// Tag.
pub(super) const OID: u8 = 0x06;
/// Tag.
pub(super) const ENUMERATED: u8 = 0x0a;
/// Tag.
pub(super) const SEQUENCE: u8 = 0x30;

/// The elements that these bytes are made of, each with its tag; nothing if they aren't.
pub(super) fn elements(mut der: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut all = Vec::new();
    while !der.is_empty() {
        let (tag, whole, rest) = element(der)?;
        all.push((tag, whole));
        der = rest;
    }
    Some(all)
}

/// The elements of a sequence that is all there is.
pub(super) fn sequence(der: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let (tag, whole, rest) = element(der)?;
    match tag == SEQUENCE && rest.is_empty() {
        true => elements(content(whole)?),
        false => None,
    }
}

/// What the extension of this name holds, in a SEQUENCE of extensions (RFC 5280 §4.1).
pub(super) fn extension<'a>(extensions: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    for (_, one) in sequence(extensions)? {
        let parts = sequence(one)?;
        let ((_, id), (tag, value)) = (parts.first()?, parts.last()?);
        if content(id)? == name && *tag == OCTET_STRING {
            return content(value);
        }
    }
    None
}

/// Whether one of these other than `but` is critical, in a SEQUENCE of extensions.
pub(super) fn has_critical(extensions: &[u8], but: &[u8]) -> Option<bool> {
    for (_, one) in sequence(extensions)? {
        let parts = sequence(one)?;
        let ((_, id), (tag, critical)) = (*parts.first()?, *parts.get(1)?);
        if tag == BOOLEAN && content(critical)? != [0] && content(id)? != but {
            return Some(true);
        }
    }
    Some(false)
}

/// Tag, the whole element, and what follows it.
pub(super) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, length) = header(der)?;
    let end = head.checked_add(length)?;
    let (whole, rest) = der.split_at_checked(end)?;
    Some((*der.first()?, whole, rest))
}

/// What is inside an element.
pub(super) fn content(element: &[u8]) -> Option<&[u8]> {
    let (head, _) = header(element)?;
    element.get(head..)
}

/// Length of tag and length, and the length itself; definite and minimal.
fn header(der: &[u8]) -> Option<(usize, usize)> {
    match *der.get(1)? {
        short @ 0..=0x7f => Some((2, usize::from(short))),
        long @ 0x81..=0x83 => {
            let n = usize::from(long & 0x7f);
            let bytes = der.get(2..2 + n)?;
            let length = bytes.iter().fold(0, |l, b| l << 8 | usize::from(*b));
            (length > 0x7f && bytes[0] != 0).then_some((2 + n, length))
        }
        _ => None,
    }
}
