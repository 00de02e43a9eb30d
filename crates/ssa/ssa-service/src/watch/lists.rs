//! What CAs publish, fetched as seldom as it can be: each list once in a round, however many certificates name it, and a responder that failed
//! a few times in a row not again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pki::fetch::{Fetch, FetchError, Fetching};
use tokio::sync::OnceCell;

/// Bytes of lists that are kept for other certificates of the round.
const KEPT: usize = 64 << 20;
/// Failures in a row after which a responder isn't asked any more in this round.
const FAILURES: u32 = 3;

type List = Result<Arc<Vec<u8>>, FetchError>;

/// What was fetched in one round.
#[derive(Debug, Default)]
pub(super) struct Lists {
    lists: Mutex<HashMap<String, Arc<OnceCell<List>>>>,
    kept: Mutex<usize>,
    /// Failures in a row, by responder.
    failed: Mutex<HashMap<String, u32>>,
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
                return Err(FetchError {
                    url: url.to_owned(),
                    reason: "it failed before in this round".to_owned(),
                });
            }
            let answer = self.fetch.post(url, content_type, body, limit).await;
            self.lists.note(url, answer.is_ok());
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers nothing at "http://dead", never at "http://hangs", and this many bytes anywhere else.
    struct Net(AtomicUsize, usize);

    impl Fetch for Net {
        fn get<'a>(&'a self, url: &'a str, _: usize) -> Fetching<'a> {
            Box::pin(async move {
                self.0.fetch_add(1, Ordering::SeqCst);
                match url {
                    "http://hangs" => std::future::pending().await,
                    "http://dead" => Err(FetchError {
                        url: url.to_owned(),
                        reason: "dead".to_owned(),
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
        };
        for _ in 0..9 {
            assert!(once.post("http://dead", "", Vec::new(), 9).await.is_err());
        }
        assert_eq!(fetch.asked(), 3);
        assert!(once.post("http://other", "", Vec::new(), 9).await.is_ok());
    }

    #[tokio::test]
    async fn no_more_than_so_many_bytes_are_kept() {
        let (fetch, lists) = (Net(AtomicUsize::new(0), KEPT / 2), Lists::default());
        let once = Once {
            fetch: &fetch,
            lists: &lists,
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
