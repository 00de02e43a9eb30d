//! What a level forbids is refused by name: with the requirement that stands against it, to the service and to the page.

use core_types::{KeyAlg, Level, SecretBytes};
use sam_api::Refusal;
use sam_api::ssa::*;
use sap::act_digest;
use sap::messages::{EnrolOpenRequest, EnrolRegisterRequest};
use sap::proof::Method;

use crate::attest::signer_of_level_three;
use crate::explicit;
use crate::kit::*;
use crate::levels::worlds_at;

/// What the page hears who enrols with a passkey that may be copied, by an invitation to the highest level.
async fn enrolled_with_a_copy(world: &World) -> Option<String> {
    let invitation = world.invitation("new", &[KeyAlg::P256]);
    let (voucher, secret) = world.invite(invitation).await;
    let open = EnrolOpenRequest { voucher };
    let act = act_digest(&world.sam.enrol_open(open).await.unwrap().act);
    let request = EnrolRegisterRequest {
        act,
        sealed: world.seal(act, &world.secrets(act, &secret)).await,
        passkey: Some(passkey().register(act).unwrap()),
        id_token: None,
    };
    let done = world.sam.enrol_register(request).await;
    done.err().map(|refused| refused.requirement.unwrap())
}

// shows: I-3.5.1-keyauth-L2, I-3.5.1-keyauth-L3, II-3.3.1-sad-verified
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_level_forbids_names_its_requirement() {
    for (level, named) in [
        (Level::Two, "I-3.5.1-keyauth-L2"),
        (Level::Three, "I-3.5.1-keyauth-L3"),
    ] {
        for world in worlds_at(level).await {
            let (world, signer) = match level {
                Level::Three => signer_of_level_three(world).await,
                _ => {
                    let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
                    (world, signer)
                }
            };
            let key = &signer.keys[0];
            assert_eq!(key.level.level, level);
            let person = signer.person.as_str();
            let requirement = |of: &str| Refusal::Level {
                requirement: of.to_owned(),
            };

            // PIN and code in an application's call, and a code sent for one.
            let otp = SecretBytes::from("000000".to_owned());
            let asked = explicit::request(person, key, explicit::APP_PIN, otp, "token");
            let refused = world.sam.explicit(SSA, asked).await.unwrap_err();
            assert_eq!(refused, requirement(named));
            let asked = SendCodeRequest {
                person: signer.person.clone(),
                key: key.key.clone(),
                client: client(),
            };
            let refused = world.sam.send_code(SSA, asked).await.unwrap_err();
            assert_eq!(refused, requirement(named));
            assert_eq!(world.audited("request.refused", named).await, 2);

            // A factor that doesn't count for the registration's keys.
            let wish = Wish::AddFactor {
                registration: key.registration.clone(),
                method: Method::PinTotp,
            };
            let refused = world.ask(&signer, wish).await.unwrap_err();
            assert_eq!(refused, requirement(named));

            // What nobody is shown.
            let open = PrepareRequest {
                open: Some(1),
                ..world.prepare_request(&signer, Vec::new())
            };
            let refused = world.sam.prepare(SSA, open).await.unwrap_err();
            assert_eq!(refused, requirement("II-3.3.1-sad-verified"));

            let copied = enrolled_with_a_copy(&world).await;
            let refused = (level == Level::Three).then(|| named.to_owned());
            assert_eq!(copied, refused);
        }
    }
}
