//! Forgetting a person, as two officers approved: whose order it is, when it isn't carried out, and what is left.

use audit_log::AuditLog;
use core_types::random::SystemRandom;
use core_types::{ClientId, Digest32, PersonId, SecretBytes, TenantId, UnixTime};
use sam_api::ssa::{KeyState, TenantInfo};
use ssa_service::{ClientSettings, ForgetOrder, NewClient, NotForgotten, forget_person};
use store_kit::{StoreError, sql, transaction};

use crate::web::{REDIRECT, Stack, stacks};

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

/// Carries out an order that two officers approved, for a service of this tenant.
async fn forget(
    stack: &Stack,
    person: &PersonId,
    of: Option<&str>,
    service: &str,
) -> Result<bool, NotForgotten> {
    let of = of.map(tenant);
    let order = ForgetOrder {
        person,
        tenant: of.as_ref(),
        by: Digest32([9; 32]),
        before: UnixTime(i64::MAX),
    };
    let random = std::sync::Arc::new(SystemRandom);
    let audit = AuditLog::new("ssa", "n", SecretBytes::new(vec![9; 32]), random);
    let now = core_types::Clock::now(stack.clock.as_ref());
    let (kept, asked) = (
        (&stack.store.store, &audit),
        (
            stack.sam.as_ref() as &dyn ssa_service::SamPort,
            &SystemRandom as &dyn core_types::Random,
        ),
    );
    forget_person(kept, asked, &tenant(service), order, now).await
}

fn destroy_keys(stack: &Stack, person: &PersonId) {
    stack.sam.with(|s| {
        for key in s.keys.get_mut(person).unwrap() {
            key.state = KeyState::Destroyed;
        }
    });
}

// The SAM isn't asked by the name alone: `hanako` of another tenant is another person.
#[tokio::test]
async fn an_order_about_another_tenants_person_is_not_carried_out() {
    for stack in stacks().await {
        let person = stack.users["hanako"].person.clone();
        destroy_keys(&stack, &person);
        let other = |result: Result<bool, NotForgotten>| {
            assert!(
                matches!(result, Err(NotForgotten::OtherTenant)),
                "{result:?}"
            );
        };
        // The service is another tenant's: an order that names none is about the provider's own person.
        let acme = |own| {
            let name = tenant("t");
            stack
                .sam
                .with(|s| s.tenant = Some(TenantInfo { name, own }));
        };
        acme(false);
        other(forget(&stack, &person, None, "t").await);
        other(forget(&stack, &person, Some("u"), "t").await);
        // The SAM knows the service as another tenant's than its own configuration does.
        other(forget(&stack, &person, Some("t"), "u").await);
        acme(true);
        other(forget(&stack, &person, Some("u"), "t").await);
        stack.sam.with(|s| s.away = true);
        let unasked = forget(&stack, &person, None, "t").await;
        assert!(matches!(unasked, Err(NotForgotten::Sam(_))), "{unasked:?}");
        stack.sam.with(|s| s.away = false);
        assert!(forget(&stack, &person, None, "t").await.unwrap());

        acme(false);
        let person = stack.users["taro"].person.clone();
        destroy_keys(&stack, &person);
        assert!(forget(&stack, &person, Some("t"), "t").await.unwrap());
    }
}

#[tokio::test]
async fn who_can_still_sign_is_not_forgotten() {
    for stack in stacks().await {
        let person = stack.users["hanako"].person.clone();
        let signer = forget(&stack, &person, None, "t").await;
        assert!(matches!(signer, Err(NotForgotten::Signer)), "{signer:?}");
        destroy_keys(&stack, &person);
        assert!(forget(&stack, &person, None, "t").await.unwrap());
        assert!(!forget(&stack, &person, None, "t").await.unwrap(), "once");
    }
}

#[tokio::test]
async fn nobody_is_served_in_the_place_of_who_was_forgotten() {
    for stack in stacks().await {
        let client = |id: &str, people: &[&str]| NewClient {
            id: ClientId::parse(id).unwrap(),
            name: id.to_owned(),
            redirect_uris: vec![REDIRECT.to_owned()],
            native: false,
            public: false,
            settings: ClientSettings {
                users: vec!["hanako".to_owned(), "taro".to_owned()],
                people: people.iter().map(|login| (*login).to_owned()).collect(),
                ..ClientSettings::default()
            },
        };
        let clients = [
            client("all", &[]),
            client("two", &["hanako", "taro"]),
            client("one", &["hanako"]),
        ];
        for new in &clients {
            stack.ssa.create_client(new).await.unwrap();
        }
        let person = stack.users["hanako"].person.clone();
        let later: Result<u64, StoreError> = transaction!(stack.store, "later", |tx| {
            let insert = "INSERT INTO ssa_later (id, client, person, outcome, lease, exp, version) \
                          VALUES ('l', 'app', $1, 'open', 0, 0, 0)";
            tx.execute(sql(insert).bind(person.as_str())).await
        });
        later.unwrap();
        destroy_keys(&stack, &person);
        assert!(forget(&stack, &person, None, "t").await.unwrap());

        let mut tx = stack.store.read("after").await.unwrap();
        let left = sql("SELECT count(*) AS n FROM ssa_later");
        assert_eq!(tx.fetch_one(left).await.unwrap().int("n").unwrap(), 0);
        let mut contracts = Vec::new();
        for id in ["all", "two", "one"] {
            let select = sql("SELECT settings FROM ssa_client WHERE id = $1").bind(id);
            let text = tx
                .fetch_one(select)
                .await
                .unwrap()
                .text("settings")
                .unwrap();
            contracts.push(serde_json::from_str::<ClientSettings>(&text).unwrap());
        }
        assert!(contracts.iter().all(|c| c.users == ["taro"]));
        assert!(contracts[0].people.is_empty());
        assert_eq!(contracts[1].people, ["taro"]);
        let [nobody] = contracts[2].people.as_slice() else {
            panic!("everybody would be served: {:?}", contracts[2].people)
        };
        assert!(nobody.starts_with("forgotten-"), "{nobody}");
    }
}
