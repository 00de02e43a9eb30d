mod provider;
mod rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use core_types::random::SeededRandom;
use csc_client::{Client, ClientCredentials, HttpOptions};
use pki::fetch::{Fetch, FetchError, Fetching};
use tokio::sync::Barrier;

use super::*;
use crate::TimeStamper;

/// Answers nobody before so many ask at a time, and then with nothing good.
struct Together(Barrier, AtomicUsize);

impl Together {
    fn of(many: usize) -> Arc<Self> {
        Arc::new(Self(Barrier::new(many), AtomicUsize::new(0)))
    }
}

impl Fetch for Together {
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> Fetching<'a> {
        self.post(url, "", Vec::new(), limit)
    }

    fn post<'a>(&'a self, url: &'a str, _: &'a str, _: Vec<u8>, _: usize) -> Fetching<'a> {
        Box::pin(async move {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.wait().await;
            Err(FetchError {
                url: url.to_owned(),
                reason: "down".to_owned(),
                answered: false,
            })
        })
    }
}

/// The worker of a service; its time-stampers, if any, are asked by `fetch`.
fn worker(service: &str, fetch: Arc<Together>, time_stampers: Vec<TimeStamper>) -> Worker {
    let nobody = ClientCredentials {
        client_id: String::new(),
        client_secret: None,
    };
    let options = HttpOptions {
        retry_pauses: Vec::new(),
        ..HttpOptions::default()
    };
    Worker {
        service: Client::new(service, nobody, &options).unwrap(),
        callers: Vec::new(),
        time_stampers,
        fetch,
        random: Arc::new(SeededRandom::new(1)),
    }
}

#[tokio::test]
async fn time_stamps_are_asked_for_at_a_time_and_one_that_fails_is_no_internal_error() {
    let together = Together::of(STAMPS_AT_ONCE);
    let service = "http://localhost:1/csc/v2";
    let stamper = TimeStamper {
        url: "http://tsa.example".to_owned(),
        anchors: Vec::new(),
    };
    let worker = worker(service, together.clone(), vec![stamper]);
    let entry = |level| DocEntry {
        content: DocContent::Document(vec![1]),
        format: Format::Cades,
        level,
        sign_algo: String::new(),
        sign_algo_params: None,
        envelope: Envelope::Attached,
        signing_time: None,
    };
    let (stamped, plain) = (entry(Level::T), entry(Level::B));
    let job = |entry| Job {
        entry,
        document: None,
        attrs: Vec::new(),
    };
    let value = || SignedValue {
        value: vec![1],
        counter: None,
    };
    let values: Vec<_> = (0..STAMPS_AT_ONCE).map(|_| value()).collect();
    let jobs: Vec<_> = values.iter().map(|_| job(&plain)).collect();
    let none = worker.stamps(HashAlg::Sha256, &jobs, &values).await;
    assert_eq!(none.unwrap(), vec![None; STAMPS_AT_ONCE]);
    let jobs: Vec<_> = values.iter().map(|_| job(&stamped)).collect();
    let down = worker.stamps(HashAlg::Sha256, &jobs, &values).await;
    assert_eq!(down.unwrap_err(), CscError::Unavailable);
    assert_eq!(together.1.load(Ordering::Relaxed), STAMPS_AT_ONCE);
}
