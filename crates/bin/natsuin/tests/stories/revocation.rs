//! A CA revokes a signer's certificate, and tells nobody: the service finds it in what the CA publishes.

use natsuin::agent::Agent;
use natsuin::stack::Factors;
use pki::Certificate;

use crate::kit::Story;
use crate::spend::{Spender, approval, body, hashes, on_both};

// shows: I-A4.2-revocation-prompt-destruction, I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_found_at_its_ca_and_its_key_signs_nothing_more() {
    on_both(async |mut story: Story| {
        let spender = Spender::new(&story.stack, "test-client").await;
        let mut agent = Agent::new(&story.stack);
        let key = story.signer.credentials[0].credential_id.clone();
        let asked = hashes(1);
        let wanted = approval(&key, &asked);
        let token = spender.token(&mut story, &mut agent, wanted.clone()).await;
        let looked = story.stack.look_at_certificates().await.unwrap();
        assert_eq!((looked.unknown, looked.brought), (0, 0));
        assert!(looked.certificates > 0);

        let certificate = spender.certificate(&token, &key).await;
        let serial = Certificate::parse(&certificate).unwrap().info().serial;
        story.stack.ca.revoke(&serial, 1).unwrap();
        let looked = story.stack.look_at_certificates().await.unwrap();
        assert_eq!((looked.unknown, looked.brought), (0, 1));
        // What was approved before signs nothing either.
        let (status, refused) = spender.post(&token, body(&key, &asked), None).await;
        assert_eq!(status, 400, "{refused}");
        let factors = Factors::Passkey(&mut story.device);
        assert!(
            !spender
                .approves(&story.signer, &mut agent, factors, wanted)
                .await
        );
        story.stack.stop().await;
    })
    .await;
}
