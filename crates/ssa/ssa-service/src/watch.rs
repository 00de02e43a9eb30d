//! Looks what CAs publish about the certificates of signers' keys (`I-A4.2-revocation-prompt-destruction`), and brings the SAM what matters: it
//! judges by the CA's own signature and stops the key. Whether a CA can be reached stops nothing; that it can't is an alarm.

use std::collections::HashMap;

use audit_log::Event;
use core_types::{B64, Digest32, KeyId, sha256};
use pki::Certificate;
use pki::fetch::{Fetch, Fetching};
use pki::revocation::{self, Evidence, State};
use sam_api::ssa::{Published, RevocationRequest, WatchedCertificate, WatchedRequest};
use store_kit::{StoreError, transaction};
use tokio::sync::Mutex;

use crate::Ssa;

/// Certificates asked about at once.
const AT_ONCE: usize = 8;

/// Which CAs say nothing.
#[derive(Debug, Default)]
pub(crate) struct Silent(std::sync::Mutex<Vec<Digest32>>);

/// What came of a look at all certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Certificates that were asked about.
    pub certificates: u32,
    /// Of which nobody says whether they are revoked.
    pub unknown: u32,
    /// What was brought to the SAM.
    pub brought: u32,
}

/// What is known of one certificate.
enum Found {
    /// Nothing that the SAM has to hear.
    Nothing,
    /// Nobody says anything. The digest of its CA's certificate.
    Unknown(Digest32),
    /// To be brought.
    Matters(KeyId, Published),
}

impl Ssa {
    /// Looks once at all certificates of keys that can be used or are stopped for a while. Safe at any time on any node; the
    /// composition root calls it every few minutes.
    ///
    /// # Errors
    /// [`StoreError`] when an alarm can't be recorded.
    pub async fn watch_certificates(&self) -> Result<Looked, StoreError> {
        let lists = std::sync::Arc::new(Mutex::new(HashMap::new()));
        let (mut looked, mut silent) = (Looked::default(), Vec::new());
        let mut after = None;
        loop {
            let request = WatchedRequest { after };
            let Ok(page) = self.sam().watched(&request).await else {
                tracing::warn!(
                    "the SAM doesn't say which certificates there are; it is asked again"
                );
                return Ok(looked);
            };
            for some in page.certificates.chunks(AT_ONCE) {
                let asked: Vec<_> = some
                    .iter()
                    .map(|certificate| {
                        let (ssa, certificate) = (self.clone(), certificate.clone());
                        let lists = lists.clone();
                        tokio::spawn(async move { ssa.look(&certificate, &lists).await })
                    })
                    .collect();
                for found in asked {
                    looked.certificates += 1;
                    match found.await {
                        Ok(Found::Matters(key, published)) => {
                            looked.brought += 1;
                            self.bring(key, published).await;
                        }
                        Ok(Found::Unknown(issuer)) => {
                            looked.unknown += 1;
                            silent.push(issuer);
                        }
                        Ok(Found::Nothing) | Err(_) => {}
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        silent.sort_unstable();
        silent.dedup();
        self.tell_of_silence(silent).await?;
        Ok(looked)
    }

    async fn look(
        &self,
        of: &WatchedCertificate,
        lists: &Mutex<HashMap<String, Vec<u8>>>,
    ) -> Found {
        let [certificate, issuer] = of.chain.as_slice() else {
            return Found::Nothing;
        };
        let name = sha256(&[&issuer.0]);
        let parsed = Certificate::parse(&certificate.0)
            .and_then(|c| Ok((c, Certificate::parse(&issuer.0)?)));
        let Ok((certificate, issuer)) = parsed else {
            return Found::Unknown(name);
        };
        let now = self.now();
        let fetch = Once {
            fetch: self.fetch(),
            lists,
        };
        let evidence = revocation::gather(&certificate, &issuer, now, &fetch).await;
        let said = |state: &State| match state {
            State::Revoked { .. } => true,
            State::Good { .. } => of.held,
            State::Unknown(_) => false,
        };
        match revocation::state(&certificate, &issuer, &evidence, now) {
            State::Unknown(why) => {
                tracing::error!(key = %of.key, ?why, "nobody says whether the certificate of a key is revoked");
                Found::Unknown(name)
            }
            state if said(&state) => {
                let published = pieces(evidence).into_iter().find(|piece| {
                    let alone = revocation::state(&certificate, &issuer, &whole(piece), now);
                    alone == state
                });
                published.map_or(Found::Nothing, |p| Found::Matters(of.key.clone(), p))
            }
            _ => Found::Nothing,
        }
    }

    async fn bring(&self, key: KeyId, published: Published) {
        let request = RevocationRequest { key, published };
        match self.sam().revocation(&request).await {
            Ok(_) => {
                tracing::info!(key = %request.key, "what a CA published about a key was heeded")
            }
            Err(error) => {
                tracing::error!(key = %request.key, %error, "what a CA published about a key wasn't heeded; it is brought again");
            }
        }
    }

    /// Alarms once for each CA that has become silent.
    async fn tell_of_silence(&self, now_silent: Vec<Digest32>) -> Result<(), StoreError> {
        let news = {
            let known = self.silent().0.lock();
            known.map_or(true, |known| {
                now_silent.iter().any(|ca| !known.contains(ca))
            })
        };
        if news {
            let now = self.now();
            transaction!(self.store(), "revocation-unknown", |tx| {
                let event = Event::Alarm {
                    what: "revocation-unknown".into(),
                };
                self.audit().append(tx, event, now).await.map(drop)
            })?;
        }
        if let Ok(mut known) = self.silent().0.lock() {
            *known = now_silent;
        }
        Ok(())
    }
}

fn pieces(evidence: Evidence) -> Vec<Published> {
    let ocsp = evidence.ocsp_responses.into_iter();
    let ocsp = ocsp.map(|der| Published::Ocsp(B64(der)));
    let crls = evidence
        .crls
        .into_iter()
        .map(|der| Published::Crl(B64(der)));
    ocsp.chain(crls).collect()
}

fn whole(piece: &Published) -> Evidence {
    match piece {
        Published::Crl(der) => Evidence {
            crls: vec![der.0.clone()],
            ocsp_responses: Vec::new(),
        },
        Published::Ocsp(der) => Evidence {
            crls: Vec::new(),
            ocsp_responses: vec![der.0.clone()],
        },
    }
}

/// Fetches each list once in a round, however many certificates name it.
struct Once<'a> {
    fetch: &'a dyn Fetch,
    lists: &'a Mutex<HashMap<String, Vec<u8>>>,
}

impl Fetch for Once<'_> {
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> Fetching<'a> {
        Box::pin(async move {
            let mut lists = self.lists.lock().await;
            if let Some(list) = lists.get(url) {
                return Ok(list.clone());
            }
            let list = self.fetch.get(url, limit).await?;
            lists.insert(url.to_owned(), list.clone());
            Ok(list)
        })
    }

    fn post<'a>(
        &'a self,
        url: &'a str,
        content_type: &'a str,
        body: Vec<u8>,
        limit: usize,
    ) -> Fetching<'a> {
        self.fetch.post(url, content_type, body, limit)
    }
}
