//! Reviewing an officer's act: that it names exactly the document that is shown.

use core_types::{UnixTime, sha256};
use sap::act::Person;
use sap::office::calls::{OfficeAct, ProofRequest};
use sap::office::{Document, LOG_IN};
use sap::proof::Method;
use sap::{Act, act_digest};

use crate::approve::{Confirmed, Review};
use crate::passkey::Authenticator;
use crate::trust::{ActError, SicError, TrustedSam};

/// An authentic act of an officer that somebody has to look at.
#[derive(Debug, Clone)]
pub struct OfficerReview {
    review: Review<Act>,
    document: Option<Document>,
}

impl OfficerReview {
    /// What is approved; nothing for a log-in.
    pub fn document(&self) -> Option<&Document> {
        self.document.as_ref()
    }

    /// Who approves: the account, with the person's name.
    pub fn person(&self) -> &Person {
        self.review.act().head().person
    }

    /// One line in words, the same for everybody who approves.
    pub fn text(&self) -> &str {
        match self.review.act() {
            Act::Officer(act) => &act.text,
            _ => "",
        }
    }

    /// The officer has looked at it and wants it.
    pub fn confirm(self) -> ConfirmedOfficer {
        ConfirmedOfficer(self.review.confirm())
    }
}

/// An act that the officer confirmed.
#[derive(Debug, Clone)]
pub struct ConfirmedOfficer(Confirmed<Act>);

impl ConfirmedOfficer {
    /// Approves with a passkey, whose challenge is the digest of the act.
    ///
    /// # Errors
    /// As [`Confirmed::passkey`].
    pub fn passkey(
        &self,
        authenticator: &mut dyn Authenticator,
        now: UnixTime,
    ) -> Result<ProofRequest, SicError> {
        let request = self.0.passkey(authenticator, now)?;
        Ok(ProofRequest {
            proof: request.proof,
            switch: None,
        })
    }
}

impl TrustedSam {
    /// Checks an officer's act, and that its document is the one it names.
    ///
    /// # Errors
    /// As [`TrustedSam::sign_act`].
    pub fn officer_act(&self, answer: OfficeAct, now: UnixTime) -> Result<OfficerReview, SicError> {
        let act = self.act(&answer.act, now)?;
        let Act::Officer(officer) = &act else {
            return Err(ActError::Kind.into());
        };
        let document = match officer.what.as_str() {
            LOG_IN if answer.document.is_empty() => None,
            LOG_IN => return Err(ActError::Malformed.into()),
            what => {
                let named = sha256(&[answer.document.as_bytes()]) == officer.document;
                let document: Document =
                    serde_json::from_str(&answer.document).map_err(|_| ActError::Malformed)?;
                let fits = named && document.sam == officer.sam && document.measure.code() == what;
                if !fits {
                    return Err(ActError::Malformed.into());
                }
                Some(document)
            }
        };
        let digest = act_digest(&answer.act);
        let methods = vec![Method::Passkey];
        let review = Review::new(act, digest, self.clone(), methods, answer.passkeys, vec![]);
        Ok(OfficerReview { review, document })
    }
}

#[cfg(test)]
mod tests {
    use core_types::{Digest32, KeyId, OfficerId, PersonId};
    use sap::manage::OfficerAct;
    use sap::office::{Facts, KeyAction, Measure, Requester};

    use super::*;
    use crate::testing::{NOW, Sam, trust};

    fn document(sam: &Sam) -> Document {
        let act = sam.sign_act();
        Document {
            v: act.v,
            sam: act.sam,
            tenant: act.tenant,
            nonce: Digest32([1; 32]),
            measure: Measure::Key {
                key: KeyId::parse("k").unwrap(),
                action: KeyAction::Destroy,
            },
            facts: Facts::default(),
            reason: "leaked".into(),
            requester: Requester {
                account: PersonId::parse("officer.a").unwrap(),
                officer: OfficerId::parse("a").unwrap(),
                name: "A".into(),
            },
            at: NOW,
            exp: NOW.plus(600),
        }
    }

    fn answer(sam: &Sam, what: &str, named: &str, sent: &str) -> OfficeAct {
        let a = sam.sign_act();
        let act = Act::Officer(OfficerAct {
            v: a.v,
            sam: a.sam,
            tenant: a.tenant,
            brand: a.brand,
            nonce: a.nonce,
            iat: a.iat,
            exp: a.exp,
            epoch: a.epoch,
            policy: a.policy,
            level: a.level,
            person: a.person,
            what: what.into(),
            document: sha256(&[named.as_bytes()]),
            text: "destroy the key k".into(),
            needs: 2,
            since: a.since,
            return_uri: a.return_uri,
        });
        OfficeAct {
            act: sam.mint(&act),
            document: sent.into(),
            passkeys: vec![],
        }
    }

    // shows: T-USE-SAP-BYPASS
    #[test]
    fn only_the_document_that_the_act_names_is_shown() {
        let sam = Sam::new();
        let trusted = trust(&sam).check(&sam.statement(), NOW).unwrap();
        let text = serde_json::to_string(&document(&sam)).unwrap();
        let review = trusted
            .officer_act(answer(&sam, "key", &text, &text), NOW)
            .unwrap();
        assert_eq!(review.document(), Some(&document(&sam)));
        assert_eq!(review.text(), "destroy the key k");
        let mut other = document(&sam);
        other.reason = "tidy up".into();
        let other = serde_json::to_string(&other).unwrap();
        for (what, named, sent) in [
            ("key", &text, &other),
            ("dismiss", &text, &text),
            ("log-in", &text, &text),
            ("key", &text, &String::new()),
        ] {
            assert!(
                trusted
                    .officer_act(answer(&sam, what, named, sent), NOW)
                    .is_err()
            );
        }
        let empty = String::new();
        let log_in = trusted
            .officer_act(answer(&sam, "log-in", &text, &empty), NOW)
            .unwrap();
        assert_eq!(log_in.document(), None);
        // Another kind of act.
        let sign = OfficeAct {
            act: sam.open(&sam.sign_act()).act,
            document: text,
            passkeys: vec![],
        };
        assert!(matches!(
            trusted.officer_act(sign, NOW),
            Err(SicError::Act(ActError::Kind))
        ));
    }
}
