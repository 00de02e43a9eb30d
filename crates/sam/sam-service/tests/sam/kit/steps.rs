//! The steps of an act, from what is asked to what is signed.

use super::*;

impl World {
    pub fn prepare_request(&self, signer: &Signer, items: Vec<PrepareItem>) -> PrepareRequest {
        PrepareRequest {
            person: signer.person.clone(),
            key: signer.keys[0].key.clone(),
            client: client(),
            client_name: "claimed".into(),
            client_jws: None,
            items,
            open: None,
            renew: 0,
            return_uri: self.back.into(),
            ttl: 600,
        }
    }

    pub async fn prepare(&self, signer: &Signer, hashes: &[B64]) -> Digest32 {
        let request = self.prepare_request(signer, hash_items(hashes));
        self.sam.prepare(self.service, request).await.unwrap().rid
    }

    pub async fn open(&self, rid: Digest32) -> Digest32 {
        act_digest(&self.sam.open(OpenRequest { rid }).await.unwrap().act)
    }

    pub async fn approve(&self, proof: Proof) -> Result<Done, SapRefusal> {
        self.approve_with(proof, None).await
    }

    pub async fn approve_with(
        &self,
        proof: Proof,
        new: Option<NewFactor>,
    ) -> Result<Done, SapRefusal> {
        self.sam.approve(ApproveRequest { proof, new }).await
    }

    pub async fn ask(&self, signer: &Signer, wish: Wish) -> Result<Digest32, Refusal> {
        let request = AskRequest {
            person: signer.person.clone(),
            wish,
            return_uri: self.back.into(),
            ttl: 600,
        };
        Ok(self.sam.ask(self.service, request).await?.rid)
    }

    /// Asks for a change and opens it.
    pub async fn change(&self, signer: &Signer, wish: Wish) -> Digest32 {
        self.open(self.ask(signer, wish).await.unwrap()).await
    }

    /// Asks for a change and proves it with the passkey.
    pub async fn changed(&self, wish: Wish, signer: &mut Signer) -> Result<Done, SapRefusal> {
        let act = self.change(signer, wish).await;
        let proof = signer.passkey.prove(act).unwrap();
        self.approve(proof).await
    }

    pub async fn key(&self, signer: &Signer) -> KeyInfo {
        let request = KeysRequest {
            person: signer.person.clone(),
        };
        self.sam.keys(request).await.unwrap().keys[0].clone()
    }

    pub async fn stop(
        &self,
        signer: &Signer,
        changes: u32,
    ) -> Result<sam_api::ssa::Empty, Refusal> {
        let request = StopRequest {
            person: signer.person.clone(),
            key: signer.keys[0].key.clone(),
            changes,
        };
        self.sam.stop(self.service, request).await
    }

    pub async fn factors(&self, signer: &Signer) -> Vec<FactorInfo> {
        let request = FactorsRequest {
            person: signer.person.clone(),
        };
        self.sam.factors(request).await.unwrap().factors
    }

    pub async fn history(&self, signer: &Signer) -> Vec<HistoryEntry> {
        let request = HistoryRequest {
            person: signer.person.clone(),
        };
        self.sam.history(request).await.unwrap().entries
    }

    pub async fn bind(&self, rid: Digest32, token: &str) -> Result<BindAnswer, Refusal> {
        self.sam
            .bind(
                self.service,
                BindRequest {
                    rid,
                    grant: sha256(&[token.as_bytes()]),
                },
            )
            .await
    }

    /// Prepares, opens, approves with the passkey, and binds a token.
    pub async fn approved(&self, signer: &mut Signer, hashes: &[B64]) -> String {
        let rid = self.prepare(signer, hashes).await;
        let act = self.open(rid).await;
        let proof = signer.passkey.prove(act).unwrap();
        self.approve(proof).await.unwrap();
        let token = random_token();
        self.bind(rid, &token).await.unwrap();
        token
    }

    /// As [`Self::approved`], with an act whose token can be renewed for so many seconds.
    pub async fn renewable(&self, signer: &mut Signer, hashes: &[B64], renew: i64) -> String {
        let mut request = self.prepare_request(signer, hash_items(hashes));
        request.renew = renew;
        let rid = self.sam.prepare(self.service, request).await.unwrap().rid;
        let act = self.open(rid).await;
        let proof = signer.passkey.prove(act).unwrap();
        self.approve(proof).await.unwrap();
        let token = random_token();
        self.bind(rid, &token).await.unwrap();
        token
    }

    pub fn renew_request(&self, signer: &Signer, token: &str, next: &str) -> RenewRequest {
        RenewRequest {
            token: SecretBytes::from(token.to_owned()),
            client: client(),
            key: signer.keys[0].key.clone(),
            hashes: vec![],
            grant: sha256(&[next.as_bytes()]),
        }
    }

    pub async fn renew(
        &self,
        signer: &Signer,
        token: &str,
        next: &str,
    ) -> Result<BindAnswer, Refusal> {
        let request = self.renew_request(signer, token, next);
        self.sam.renew(self.service, request).await
    }

    pub fn sign_request(&self, signer: &Signer, token: &str, hashes: &[B64]) -> SignRequest {
        let key = &signer.keys[0];
        SignRequest {
            token: SecretBytes::from(token.to_owned()),
            client: client(),
            key: key.key.clone(),
            alg: alg(key),
            hashes: hashes.to_vec(),
            idempotency_key: None,
        }
    }

    pub async fn sign(
        &self,
        signer: &Signer,
        token: &str,
        hashes: &[B64],
    ) -> Result<SignAnswer, Refusal> {
        self.sam
            .sign(self.service, self.sign_request(signer, token, hashes))
            .await
    }
}
