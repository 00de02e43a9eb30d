//! Enrolment against a hostile SSA and a careless RA (`sap.md` §14, 31, 32, 50, 51).

use core_types::{B64, Digest32, KeyAlg, Level, SecretBytes, VoucherId, sha256};
use jose::SigningKey;
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_core::Policy;
use sam_service::SamConfig;
use sap::enrol::{Certify, CertifyRequest, EnrolmentRecord, Invite};
use sap::messages::*;
use sap::{TYP_CERTIFY, TYP_INVITE, act_digest};

use crate::kit::*;

async fn enrol_act(world: &World, voucher: &VoucherId) -> Result<Digest32, SapRefusal> {
    let request = EnrolOpenRequest {
        voucher: voucher.clone(),
    };
    Ok(act_digest(&world.sam.enrol_open(request).await?.act))
}

async fn register(world: &World, act: Digest32, secret: &SecretBytes) -> Result<Done, SapRefusal> {
    let sealed = world.seal(act, &world.secrets(act, secret)).await;
    let passkey = Some(passkey().register(act).unwrap());
    world
        .sam
        .enrol_register(EnrolRegisterRequest {
            act,
            sealed,
            passkey,
            id_token: None,
        })
        .await
}

// shows: T-REG-IMPERSONATE, T-INS-OPERATOR, II-3.1.1-sad-handled-securely
#[tokio::test(flavor = "multi_thread")]
async fn nobody_enrols_without_the_secret_of_this_very_voucher() {
    for world in worlds().await {
        let (voucher, secret) = world
            .invite(world.invitation("victim", &[KeyAlg::P256]))
            .await;
        let (other, other_secret) = world
            .invite(world.invitation("mallory", &[KeyAlg::P256]))
            .await;
        let act = enrol_act(&world, &voucher).await.unwrap();
        let refused = register(&world, act, &SecretBytes::new(vec![0; 16]))
            .await
            .unwrap_err();
        assert_eq!(
            (refused.code, refused.tries_left),
            (SapRefusalCode::Refused, Some(4))
        );
        assert!(register(&world, act, &other_secret).await.is_err());
        // A message sealed for another act of the same voucher.
        let sealed = world.seal(act, &world.secrets(act, &secret)).await;
        let second = enrol_act(&world, &voucher).await.unwrap();
        let passkey_two = Some(passkey().register(second).unwrap());
        let request = EnrolRegisterRequest {
            act: second,
            sealed,
            passkey: passkey_two,
            id_token: None,
        };
        assert!(world.sam.enrol_register(request).await.is_err());
        // A registration for another act.
        let sealed = world.seal(second, &world.secrets(second, &secret)).await;
        let foreign = Some(passkey().register(act).unwrap());
        let request = EnrolRegisterRequest {
            act: second,
            sealed,
            passkey: foreign,
            id_token: None,
        };
        assert!(world.sam.enrol_register(request).await.is_err());
        register(&world, second, &secret).await.unwrap();
        // The voucher is used up, its act closed.
        assert_eq!(
            register(&world, second, &secret).await.unwrap_err().code,
            SapRefusalCode::Used
        );
        assert_eq!(
            enrol_act(&world, &voucher).await.unwrap_err().code,
            SapRefusalCode::Used
        );
        assert!(enrol_act(&world, &other).await.is_ok());
    }
}

// shows: T-REG-RSC-CAPTURE, I-7.1.2.5-authentication-failure-lockout
#[tokio::test(flavor = "multi_thread")]
async fn a_voucher_dies_after_five_guesses_and_at_its_end() {
    for world in worlds().await {
        let (voucher, secret) = world.invite(world.invitation("p", &[KeyAlg::P256])).await;
        for left in (0..5).rev() {
            let act = enrol_act(&world, &voucher).await.unwrap();
            let refused = register(&world, act, &SecretBytes::new(vec![1; 16]))
                .await
                .unwrap_err();
            assert_eq!(refused.tries_left, Some(left));
        }
        assert_eq!(
            enrol_act(&world, &voucher).await.unwrap_err().code,
            SapRefusalCode::Locked
        );
        assert!(matches!(
            world.enrolment(&voucher).await,
            EnrolmentAnswer::Dead {}
        ));
        drop(secret);

        let (voucher, secret) = world.invite(world.invitation("q", &[KeyAlg::P256])).await;
        let act = enrol_act(&world, &voucher).await.unwrap();
        world.clock.advance(3600);
        assert!(register(&world, act, &secret).await.is_err());
        assert_eq!(
            enrol_act(&world, &voucher).await.unwrap_err().code,
            SapRefusalCode::Expired
        );
    }
}

// shows: T-REG-IMPERSONATE, II-3.1.1-signer-data-protected
#[tokio::test(flavor = "multi_thread")]
async fn invitations_come_from_a_registered_ra_or_stay_at_level_one() {
    for world in worlds().await {
        let (rogue, _) = SigningKey::generate().unwrap();
        let invite = Invite {
            voucher: VoucherId::parse("v-1").unwrap(),
            tenant: world.config.tenant.clone(),
            person: core_types::PersonId::parse("victim").unwrap(),
            subject: subject("victim"),
            assurance: "none".into(),
            ceiling: Level::Three,
            keys: vec![KeyAlg::P256],
            exp: START.plus(3600),
            secret: sha256(&[&[5; 16]]),
            replaces: None,
            collected: false,
            codes: None,
            notices: None,
            exportable: false,
            one_time: false,
        };
        let forged = rogue
            .sign(TYP_INVITE, &serde_json::to_vec(&invite).unwrap())
            .unwrap();
        let request = VoucherRequest::Ra {
            invite: forged,
            return_uri: RETURN.into(),
        };
        assert_eq!(
            world.sam.voucher(SSA, request).await.unwrap_err(),
            Refusal::RegistrationRefused
        );

        // What the SSA invites itself is capped, whatever it claims.
        let own = |invite: &Invite| VoucherRequest::Ssa {
            invite: Box::new(invite.clone()),
            return_uri: RETURN.into(),
        };
        let victim = world.enrol("victim", false, &[KeyAlg::P256]).await;
        world.sam.voucher(SSA, own(&invite)).await.unwrap();
        let act = enrol_act(&world, &invite.voucher).await.unwrap();
        let mut mallory = passkey();
        let sealed = world
            .seal(act, &world.secrets(act, &SecretBytes::new(vec![5; 16])))
            .await;
        let registration = Some(mallory.register(act).unwrap());
        world
            .sam
            .enrol_register(EnrolRegisterRequest {
                act,
                sealed,
                passkey: registration,
                id_token: None,
            })
            .await
            .unwrap();
        // Its passkey doesn't reach the keys that the RA's voucher made.
        let rid = world.prepare(&victim, &[hash(1)]).await;
        let opened = world.sam.open(OpenRequest { rid }).await.unwrap();
        assert!(opened.passkeys.iter().all(|p| p.id.0 != mallory.id));
        let stolen = world
            .approve(mallory.prove(act_digest(&opened.act)).unwrap())
            .await
            .unwrap_err();
        assert_eq!(stolen.code, SapRefusalCode::Refused);
        let keys = world.certify(&invite.voucher).await;
        let made = keys.iter().find(|k| k.key != victim.keys[0].key).unwrap();
        assert_eq!(made.level.level, Level::One);

        // Used ids, wrong tenants, too long lives.
        let mut again = invite.clone();
        again.assurance = "other".into();
        assert_eq!(
            world.sam.voucher(SSA, own(&again)).await.unwrap_err(),
            Refusal::Used
        );
        let mut tenant = invite.clone();
        tenant.voucher = VoucherId::parse("v-2").unwrap();
        tenant.tenant = core_types::TenantId::parse("other").unwrap();
        assert!(world.sam.voucher(SSA, own(&tenant)).await.is_err());
        let mut late = invite;
        late.voucher = VoucherId::parse("v-3").unwrap();
        late.exp = START;
        assert_eq!(
            world.sam.voucher(SSA, own(&late)).await.unwrap_err(),
            Refusal::Expired
        );
    }
}

// shows: T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_belongs_to_one_person_ever() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let (voucher, secret) = world.invite(world.invitation("q", &[KeyAlg::P256])).await;
        let act = enrol_act(&world, &voucher).await.unwrap();
        let mut copy = passkey();
        copy.id = signer.passkey.id.clone();
        let sealed = world.seal(act, &world.secrets(act, &secret)).await;
        let registration = Some(copy.register(act).unwrap());
        let request = EnrolRegisterRequest {
            act,
            sealed,
            passkey: registration,
            id_token: None,
        };
        assert_eq!(
            world.sam.enrol_register(request).await.unwrap_err().code,
            SapRefusalCode::Refused
        );
        // Nothing of the refused enrolment remains, and the voucher still works.
        register(&world, act, &secret).await.unwrap();
    }
}

// shows: II-3.2-keyauth-L2-mfa, I-3.5.1-keyauth-L2
#[tokio::test(flavor = "multi_thread")]
async fn pin_and_code_are_not_enrolled_above_level_one_unless_the_policy_says_so() {
    for world in worlds().await {
        let (voucher, secret) = world.invite(world.invitation("p", &[KeyAlg::P256])).await;
        let act = enrol_act(&world, &voucher).await.unwrap();
        let refused = world.fetch_seed(act, &secret).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Refused);
        let policy = Policy {
            pin_totp_at_level_2: true,
            ..Policy::default()
        };
        let lax = world
            .node_with(SamConfig {
                policy,
                node: "sam-2".into(),
                ..world.config.clone()
            })
            .await;
        let mut invitation = world.invitation("q", &[KeyAlg::P256]);
        invitation.ceiling = Level::Two;
        let (voucher, _) = world.invite(invitation).await;
        let act = lax
            .enrol_open(EnrolOpenRequest { voucher })
            .await
            .unwrap()
            .act;
        let payload = core_types::bytes::from_b64u(act.split('.').nth(1).unwrap()).unwrap();
        let sap::Act::Enrol(act) = serde_json::from_slice(&payload).unwrap() else {
            panic!("enrol")
        };
        assert!(act.methods.contains(&sap::proof::Method::PinTotp));
    }
}

// shows: I-7.1.2.3-unpredictable-auth-data
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_is_handed_out_once_and_weak_pins_are_refused() {
    for world in worlds().await {
        let mut invitation = world.invitation("p", &[KeyAlg::P256]);
        invitation.ceiling = Level::One;
        let (voucher, secret) = world.invite(invitation).await;
        let act = enrol_act(&world, &voucher).await.unwrap();
        let seed = world.fetch_seed(act, &secret).await.unwrap();
        assert_eq!(
            world.fetch_seed(act, &secret).await.unwrap_err().code,
            SapRefusalCode::Used
        );
        let with = |pin: &str, otp: SecretBytes| {
            let mut sealed = world.secrets(act, &secret);
            sealed.pin = Some(SecretBytes::from(pin.to_owned()));
            sealed.otp = Some(otp);
            sealed
        };
        for (pin, otp) in [
            ("password", world.otp(&seed, 0)),
            ("short", world.otp(&seed, 0)),
            (PIN, world.no_otp(&seed)),
            (PIN, world.otp(&seed, 5)),
        ] {
            let sealed = world.seal(act, &with(pin, otp)).await;
            let request = EnrolRegisterRequest {
                act,
                sealed,
                passkey: None,
                id_token: None,
            };
            assert_eq!(
                world.sam.enrol_register(request).await.unwrap_err().code,
                SapRefusalCode::Refused,
                "{pin}"
            );
        }
        // None of these was a guess at the voucher's secret.
        let sealed = world.seal(act, &with(PIN, world.otp(&seed, 0))).await;
        world
            .sam
            .enrol_register(EnrolRegisterRequest {
                act,
                sealed,
                passkey: None,
                id_token: None,
            })
            .await
            .unwrap();
    }
}

// shows: T-REG-SVD-ALTER, T-REG-CSR-ALTER, T-REG-CSR-SPOOF, II-3.1.1-public-key-unchanged,
// I-4.2.2a-account-key-cert-sad, I-A1.1-rssp-same-person, I-7.1.1.3-ra
#[tokio::test(flavor = "multi_thread")]
async fn only_the_approved_certificate_for_the_made_key_is_accepted() {
    for world in worlds().await {
        let (voucher, secret) = world
            .invite(world.invitation("p", &[KeyAlg::P256, KeyAlg::P256]))
            .await;
        let act = enrol_act(&world, &voucher).await.unwrap();
        register(&world, act, &secret).await.unwrap();
        let EnrolmentAnswer::Enrolled {
            statement,
            keys,
            person,
        } = world.enrolment(&voucher).await
        else {
            panic!("enrolled")
        };
        // Asked twice, the same keys.
        let EnrolmentAnswer::Enrolled { keys: again, .. } = world.enrolment(&voucher).await else {
            panic!("enrolled")
        };
        assert_eq!((&keys[0].key, &keys[1].key), (&again[0].key, &again[1].key));
        let certify = |key: &EnrolledKey| {
            let (enrolment, csr) = (key.enrolment.clone(), key.csr.clone());
            world
                .ra
                .certify(&CertifyRequest {
                    statement: statement.clone(),
                    enrolment,
                    csr,
                })
                .unwrap()
        };
        let (first, second) = (certify(&keys[0]), certify(&keys[1]));
        let record: EnrolmentRecord = {
            let payload = keys[0].enrolment.split('.').nth(1).unwrap();
            serde_json::from_slice(&core_types::bytes::from_b64u(payload).unwrap()).unwrap()
        };
        let (rogue, _) = SigningKey::generate().unwrap();
        let body = Certify {
            enrolment: sha256(&[keys[0].enrolment.as_bytes()]),
            subject: record.subject.clone(),
            spki: record.spki,
            factors: record.factors,
            at: START,
        };
        let forged = rogue
            .sign(TYP_CERTIFY, &serde_json::to_vec(&body).unwrap())
            .unwrap();
        // Another subject, and another issuer, over the right key.
        let csr = pki::csr::Csr::verify(&keys[0].csr.0).unwrap();
        let name = pki::name::encode(&[("2.5.4.6", "JP"), ("2.5.4.3", "somebody else")]).unwrap();
        let chain = |certs: Vec<pki::Certificate>| {
            certs
                .iter()
                .map(|c| B64(c.der().to_vec()))
                .collect::<Vec<_>>()
        };
        let renamed = chain(world.ca.issue_signer(&csr, &name).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let random = std::sync::Arc::new(core_types::random::SystemRandom);
        let urls = dev_ca::Urls::under("http://other.localhost:1");
        let foreign = dev_ca::DevCa::open(dir.path(), urls, world.clock.clone(), random).unwrap();
        let foreign = chain(foreign.issue_signer(&csr, &csr.subject).unwrap());
        let cases = [
            (second.certify.clone(), first.chain.clone()),
            (first.certify.clone(), second.chain.clone()),
            (forged, first.chain.clone()),
            (first.certify.clone(), renamed),
            (first.certify.clone(), foreign),
            (first.certify.clone(), vec![]),
            (first.certify.clone(), first.chain[1..].to_vec()),
        ];
        let submit = |certify: String, chain: Vec<B64>| CertificateRequest {
            key: keys[0].key.clone(),
            certify,
            chain,
        };
        for (n, (certify, chain)) in cases.into_iter().enumerate() {
            let refused = world
                .sam
                .certificate(SSA, submit(certify, chain))
                .await
                .unwrap_err();
            assert_eq!(refused, Refusal::RegistrationRefused, "case {n}");
        }
        let good = submit(first.certify.clone(), first.chain.clone());
        let foreign = world
            .sam
            .certificate("other-ssa.test", good.clone())
            .await
            .unwrap_err();
        assert_eq!(foreign, Refusal::NotFound);
        let state = |world: &World| {
            let (sam, person, key) = (world.sam.clone(), person.clone(), keys[0].key.clone());
            async move {
                let known = sam.keys(KeysRequest { person }).await.unwrap().keys;
                known.into_iter().find(|k| k.key == key).unwrap().state
            }
        };
        assert_eq!(state(&world).await, KeyState::Pending);
        world.sam.certificate(SSA, good.clone()).await.unwrap();
        world.sam.certificate(SSA, good).await.unwrap();
        assert_eq!(state(&world).await, KeyState::Active);
    }
}
