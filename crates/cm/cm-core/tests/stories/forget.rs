//! A person is forgotten in the module's log: not as long as a key of theirs lives.

use std::sync::Arc;

use cm_core::{MIGRATIONS, NotForgotten};
use cm_soft::SoftBackend;
use core_types::{Digest32, KeyAlg, PersonId, UnixTime};

use crate::destroy::destroyed;
use crate::kit::Story;

#[tokio::test]
async fn who_has_a_key_in_the_module_is_not_forgotten() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let story = Story::begin(test, Arc::new(SoftBackend)).await;
        let keys = [story.key(KeyAlg::P256).await, story.key(KeyAlg::P256).await];
        let forget = async |who: &str, before: i64| {
            let person = PersonId::parse(who).unwrap();
            let by = Digest32([9; 32]);
            story
                .module
                .forget_person(&person, by, UnixTime(before))
                .await
        };
        for key in &keys {
            let signer = forget("hanako", i64::MAX).await;
            assert!(matches!(signer, Err(NotForgotten::Signer)), "{signer:?}");
            destroyed(&story, key).await;
        }
        let kept = forget("hanako", 0).await;
        assert!(matches!(kept, Err(NotForgotten::Log(_))), "{kept:?}");
        assert!(!forget("taro", i64::MAX).await.unwrap(), "nobody's");
        assert!(forget("hanako", i64::MAX).await.unwrap());
    }
}
