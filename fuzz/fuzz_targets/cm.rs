//! Hostile input of the cryptographic module: orders, envelopes of imported keys, officers' approvals, shares, backups,
//! tables of algorithms.
#![no_main]

use std::sync::LazyLock;

use cm_api::{Order, OrderBody, SignItem};
use cm_core::{Ledger, RootSecret, backup};
use core_types::{Approvals, Digest32, SecretBytes, SigAlg, UnixTime};
use jose::{SealKey, SigningKey};
use libfuzzer_sys::fuzz_target;
use sam_keys::import::{CaImport, ImportKey, ImportedKey};
use sam_keys::{Destruction, Origin};
use shares::Share;

static KEYS: LazyLock<(SigningKey, SealKey)> = LazyLock::new(|| {
    let (signing, _) = SigningKey::generate().expect("a key");
    let (seal, _) = SealKey::generate().expect("a key");
    (signing, seal)
});

fuzz_target!(|data: &[u8]| {
    let root = RootSecret::new(SecretBytes::new(vec![7; 32])).expect("32 bytes");
    let mut file = data;
    assert!(backup::check(&mut file, &root).is_err(), "nothing but our own is whole");
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (signing, seal) = &*KEYS;
    let pinned = [signing.public().clone()];
    assert!(Order(text.to_owned()).verify(signing.public()).is_err());
    assert!(Origin::verify(text, &pinned).is_err());
    assert!(Destruction::verify(text, &pinned).is_err());
    assert!(ImportKey::verify(text, &pinned, UnixTime(0)).is_err());
    assert!(CaImport::verify(text, &pinned).is_err());
    assert!(ImportedKey::open(text, Digest32([7; 32]), seal).is_err());
    if let Ok(body) = serde_json::from_str::<OrderBody>(text) {
        let again = serde_json::to_string(&body).expect("its own text");
        assert_eq!(serde_json::from_str::<OrderBody>(&again).expect("its own text"), body);
    }
    if let Ok(item) = serde_json::from_str::<SignItem>(text) {
        let fit = SigAlg::all().filter(|alg| item.fits(*alg)).count();
        assert!(fit <= 9, "a digest fits the algorithms of one hash, a message those that take one");
    }
    if let Ok(share) = Share::parse(text) {
        let same = share.text();
        assert_eq!(Some(text.trim()), std::str::from_utf8(same.expose()).ok());
    }
    if let Ok(table) = Approvals::parse(text) {
        assert!(!table.loosens(&table), "a table approves no more than itself");
    }
    let _ = Ledger::default().read(text);
});
