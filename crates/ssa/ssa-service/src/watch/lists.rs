//! What CAs publish, fetched as seldom as it can be: each list once in a round, however many certificates name it, and a responder where
//! nobody was there a few times in a row not again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use core_types::KeyId;
use pki::fetch::{Fetch, FetchError, Fetching};
use tokio::sync::OnceCell;

/// Bytes of lists that are kept for other certificates of the round.
const KEPT: usize = 64 << 20;
/// How often in a row nobody is there, after which a responder isn't asked any more in this round.
const FAILURES: u32 = 3;

type List = Result<Arc<Vec<u8>>, FetchError>;

/// What was fetched in one round.
#[derive(Debug, Default)]
pub(super) struct Lists {
    lists: Mutex<HashMap<String, Arc<OnceCell<List>>>>,
    kept: Mutex<usize>,
    /// How often in a row nobody was there, by responder.
    failed: Mutex<HashMap<String, u32>>,
    /// The first certificate that a responder wasn't asked about any more.
    left_out: Mutex<Option<Place>>,
}

/// Where a certificate stands in the round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// How many were before it.
    pub(super) n: u64,
    /// The key behind which the SAM names it.
    pub(super) behind: Option<KeyId>,
}

impl Lists {
    fn cell(&self, url: &str) -> Arc<OnceCell<List>> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.entry(url.to_owned()).or_default().clone()
    }

    /// Whether a list of this length can be kept; whoever waits for it gets it in any case.
    fn keep(&self, bytes: usize) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = kept.saturating_add(bytes) <= KEPT;
        if fits {
            *kept += bytes;
        }
        fits
    }

    fn forget(&self, url: &str) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.remove(url);
    }

    fn gave_up(&self, url: &str) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get(url).is_some_and(|n| *n >= FAILURES)
    }

    /// The first certificate that a responder wasn't asked about because nobody had been there.
    pub(super) fn left_out(&self) -> Option<Place> {
        let left_out = self.left_out.lock();
        left_out.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leave_out(&self, place: &Place) {
        let left_out = self.left_out.lock();
        let mut left_out = left_out.unwrap_or_else(PoisonError::into_inner);
        if left_out.as_ref().is_none_or(|first| place.n < first.n) {
            *left_out = Some(place.clone());
        }
    }

    fn note(&self, url: &str, answered: bool) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            true => {
                failed.remove(url);
            }
            false => *failed.entry(url.to_owned()).or_default() += 1,
        }
    }
}

/// A network that remembers the round.
pub(super) struct Once<'a> {
    pub(super) fetch: &'a dyn Fetch,
    pub(super) lists: &'a Lists,
    /// The certificate that is looked at.
    pub(super) place: &'a Place,
}

impl Fetch for Once<'_> {
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> Fetching<'a> {
        Box::pin(async move {
            let cell = self.lists.cell(url);
            let list = cell.get_or_init(|| async {
                let list = self.fetch.get(url, limit).await?;
                if !self.lists.keep(list.len()) {
                    self.lists.forget(url);
                }
                Ok(Arc::new(list))
            });
            list.await.clone().map(|list| list.to_vec())
        })
    }

    fn post<'a>(
        &'a self,
        url: &'a str,
        content_type: &'a str,
        body: Vec<u8>,
        limit: usize,
    ) -> Fetching<'a> {
        Box::pin(async move {
            if self.lists.gave_up(url) {
                self.lists.leave_out(self.place);
                return Err(FetchError {
                    url: url.to_owned(),
                    reason: "nobody was there before in this round".to_owned(),
                    answered: false,
                });
            }
            let answer = self.fetch.post(url, content_type, body, limit).await;
            let answered = answer
                .as_ref()
                .map_or_else(|error| error.answered, |_| true);
            self.lists.note(url, answered);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Nobody is at "http://dead"; it refuses at "http://refuses", never answers at "http://hangs", and gives this many bytes anywhere else.
    struct Net(AtomicUsize, usize);

    impl Fetch for Net {
        fn get<'a>(&'a self, url: &'a str, _: usize) -> Fetching<'a> {
            Box::pin(async move {
                self.0.fetch_add(1, Ordering::SeqCst);
                match url {
                    "http://hangs" => std::future::pending().await,
                    "http://dead" | "http://refuses" => Err(FetchError {
                        url: url.to_owned(),
                        reason: "dead".to_owned(),
                        answered: url == "http://refuses",
                    }),
                    _ => Ok(vec![0; self.1]),
                }
            })
        }

        fn post<'a>(&'a self, url: &'a str, _: &'a str, _: Vec<u8>, limit: usize) -> Fetching<'a> {
            self.get(url, limit)
        }
    }

    impl Net {
        fn asked(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn a_list_is_fetched_once_and_so_is_one_that_nobody_answers_for() {
        let (fetch, lists) = (Net(AtomicUsize::new(0), 3), Lists::default());
        let once = Once {
            fetch: &fetch,
            lists: &lists,
            place: &Place::default(),
        };
        for _ in 0..4 {
            assert_eq!(once.get("http://list", 9).await, Ok(vec![0; 3]));
            assert!(once.get("http://dead", 9).await.is_err());
        }
        assert_eq!(fetch.asked(), 2);
    }

    #[tokio::test]
    async fn a_list_that_hangs_holds_up_nobody_elses() {
        let (fetch, lists) = (Net(AtomicUsize::new(0), 3), Lists::default());
        let once = Once {
            fetch: &fetch,
            lists: &lists,
            place: &Place::default(),
        };
        tokio::select! {
            biased;
            _ = once.get("http://hangs", 9) => panic!("it answered"),
            other = once.get("http://list", 9) => assert!(other.is_ok()),
        }
    }

    #[tokio::test]
    async fn a_dead_responder_is_asked_a_few_times_only() {
        let (fetch, lists) = (Net(AtomicUsize::new(0), 3), Lists::default());
        let once = Once {
            fetch: &fetch,
            lists: &lists,
            place: &Place::default(),
        };
        for _ in 0..9 {
            assert!(once.post("http://dead", "", Vec::new(), 9).await.is_err());
        }
        assert_eq!(fetch.asked(), 3);
        assert!(once.post("http://other", "", Vec::new(), 9).await.is_ok());
    }

    #[tokio::test]
    async fn a_responder_that_refuses_is_asked_about_every_certificate() {
        let (fetch, lists) = (Net(AtomicUsize::new(0), 3), Lists::default());
        let once = Once {
            fetch: &fetch,
            lists: &lists,
            place: &Place::default(),
        };
        for _ in 0..9 {
            let refused = once.post("http://refuses", "", Vec::new(), 9).await;
            assert!(refused.is_err());
        }
        assert_eq!((fetch.asked(), lists.left_out()), (9, None));
    }

    #[tokio::test]
    async fn the_first_certificate_that_is_left_out_is_known() {
        let (fetch, lists) = (Net(AtomicUsize::new(0), 3), Lists::default());
        for n in [0, 1, 2, 5, 3, 4] {
            let place = Place { n, behind: None };
            let once = Once {
                fetch: &fetch,
                lists: &lists,
                place: &place,
            };
            assert!(once.post("http://dead", "", Vec::new(), 9).await.is_err());
        }
        assert_eq!(lists.left_out().map(|place| place.n), Some(3));
    }

    #[tokio::test]
    async fn no_more_than_so_many_bytes_are_kept() {
        let (fetch, lists) = (Net(AtomicUsize::new(0), KEPT / 2), Lists::default());
        let once = Once {
            fetch: &fetch,
            lists: &lists,
            place: &Place::default(),
        };
        for _ in 0..2 {
            for url in ["http://1", "http://2", "http://3"] {
                assert!(once.get(url, KEPT).await.is_ok());
            }
        }
        assert_eq!(fetch.asked(), 4, "the third is fetched again");
        assert_eq!(lists.lists.lock().unwrap().len(), 2);
    }
}
