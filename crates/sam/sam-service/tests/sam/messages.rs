//! Keys that sign messages (Ed25519, ML-DSA): they sign the signedAttrs that the SAM holds, and no bare hash (RFC 8419).

use core_types::{B64, HashAlg, KeyAlg, SigAlg};
use pki::Signed;
use sam_api::Refusal;
use sam_api::ssa::*;
use store_kit::{StoreError, sql, transaction};

use crate::kit::*;

fn document(text: &str, ha: HashAlg) -> PrepareItem {
    PrepareItem {
        ha,
        h: B64(ha.digest(text.as_bytes())),
        label: "契約書.pdf".into(),
        doc: Some(DocItem {
            signed_attrs: None,
            ranges: None,
        }),
    }
}

impl World {
    async fn approved_items(&self, signer: &mut Signer, items: Vec<PrepareItem>) -> String {
        let request = self.prepare_request(signer, items);
        let rid = self.sam.prepare(SSA, request).await.unwrap().rid;
        let act = self.open(rid).await;
        let proof = signer.passkey.prove(act).unwrap();
        self.approve(proof).await.unwrap();
        let token = random_token();
        self.bind(rid, &token).await.unwrap();
        token
    }
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn an_ed25519_key_signs_the_attributes_of_approved_documents_and_no_bare_hash() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::Ed25519]).await;
        let key = signer.keys[0].clone();
        let refused = async |items| {
            let request = world.prepare_request(&signer, items);
            world.sam.prepare(SSA, request).await.unwrap_err()
        };
        let bare = PrepareItem {
            doc: None,
            ..document("a", HashAlg::Sha512)
        };
        assert_eq!(refused(vec![bare.clone()]).await, Refusal::BareHash);
        let mixed = vec![document("a", HashAlg::Sha512), bare];
        assert_eq!(refused(mixed).await, Refusal::BareHash);
        // The hash that goes with it in CMS, and no other.
        let other = vec![document("a", HashAlg::Sha256)];
        assert_eq!(refused(other).await, Refusal::AlgorithmNotApproved);

        let items = vec![
            document("a", HashAlg::Sha512),
            document("b", HashAlg::Sha512),
        ];
        let token = world.approved_items(&mut signer, items.clone()).await;
        let hashes = [items[1].h.clone(), items[0].h.clone()];
        let foreign = [B64(HashAlg::Sha512.digest(b"c"))];
        assert_eq!(
            world.sign(&signer, &token, &foreign).await.unwrap_err(),
            Refusal::HashNotApproved
        );
        let made = world.sign(&signer, &token, &hashes).await.unwrap();
        for (hash, value) in hashes.iter().zip(&made.signatures) {
            let attrs = pki::cms::minimal_signed_attrs(&hash.0, &key.chain[0].0).unwrap();
            let signed = Signed::Message(&attrs);
            pki::verify_signature(&key.spki.0, SigAlg::Ed25519, signed, &value.0).unwrap();
        }
        // Asked for by the hash of the attributes, as a client that knows nothing of documents does.
        let token = world.approved_items(&mut signer, items.clone()).await;
        let attrs = pki::cms::minimal_signed_attrs(&items[0].h.0, &key.chain[0].0).unwrap();
        let by_hash = [B64(HashAlg::Sha512.digest(&attrs))];
        world.sign(&signer, &token, &by_hash).await.unwrap();
    }
}

// shows: T-USE-DTBSR-FORGE, I-6.1-document-intended
#[tokio::test(flavor = "multi_thread")]
async fn without_the_message_that_was_approved_nothing_is_signed() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::Ed25519]).await;
        let items = vec![document("a", HashAlg::Sha512)];
        let token = world.approved_items(&mut signer, items.clone()).await;
        let gone: Result<u64, StoreError> = transaction!(world.store.store, "gone", |tx| {
            tx.execute(sql("DELETE FROM request")).await
        });
        gone.unwrap();
        let hashes = [items[0].h.clone()];
        let refused = world.sign(&signer, &token, &hashes).await.unwrap_err();
        assert_eq!(refused, Refusal::Expired);
        assert_eq!(world.cm.orders.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn experimental_keys_are_made_only_with_the_switch_and_then_sign_like_others() {
    for mut world in worlds().await {
        let mut invitation = world.invitation("p", &[KeyAlg::MlDsa65]);
        invitation.ceiling = core_types::Level::One;
        let (invite, ..) = world.ra.invite(invitation.clone()).unwrap();
        let request = VoucherRequest::Ra {
            invite,
            return_uri: RETURN.into(),
        };
        assert_eq!(
            world.sam.voucher(SSA, request).await.unwrap_err(),
            Refusal::AlgorithmNotApproved
        );
        let mut config = world.config.clone();
        config.policy.experimental_algorithms = true;
        config.policy.version = 2;
        world.sam = world.node_with(config).await;
        let mut signer = world.enrol_by(invitation, false).await;
        let items = vec![document("a", HashAlg::Sha512)];
        let token = world.approved_items(&mut signer, items.clone()).await;
        let hashes = [items[0].h.clone()];
        let made = world.sign(&signer, &token, &hashes).await.unwrap();
        let key = &signer.keys[0];
        let attrs = pki::cms::minimal_signed_attrs(&hashes[0].0, &key.chain[0].0).unwrap();
        let signed = Signed::Message(&attrs);
        let value = &made.signatures[0].0;
        pki::verify_signature(&key.spki.0, SigAlg::MlDsa65, signed, value).unwrap();
    }
}
