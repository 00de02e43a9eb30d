//! What the SAM gets without an order: the key of its rows, and the keyed hash of a PIN. Whoever holds the certificate of its connection
//! gets the same, and with a copy of its store reads the rows and tries PINs. So every row key is recorded, and hashes are counted and
//! bounded: far above what an honest SAM asks for, far below what guessing takes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use audit_log::Event;
use cm_api::Refusal;
use cm_api::rpc::{PinMacAnswer, PinMacRequest, RowKeyAnswer, RowKeyRequest};
use core_types::{B64, FactorId, Random as _, SecretBytes, UnixTime};
use service_kit::{HourlyLimit, HourlyRate, Rate, RateLimit};

use crate::module::Module;

/// Hashes for one factor: a signer who approves by PIN again and again needs two each time.
const EACH: HourlyRate = HourlyRate {
    burst: 300,
    per_hour: 300,
};
/// Hashes for all of them: four SAMs that hash PINs on all cores.
const ALL: Rate = Rate {
    burst: 12_000,
    per_minute: 12_000,
};
/// Factors that are told apart. A bucket that isn't full was used since it filled up last: for one hash that is the minute after it, for
/// more as much longer as they are. So many factors at most have one: those of the burst, and of the two minutes around.
const FACTORS: usize = 36_000;
/// How often the count is recorded, and an alarm repeated, in seconds.
const TELL_EVERY: i64 = 3600;

/// What this process has given.
pub(crate) struct Handed {
    row_keys: AtomicU64,
    each: HourlyLimit<FactorId>,
    all: RateLimit<()>,
    hashed: AtomicU64,
    refused: AtomicU64,
    /// When the two were recorded last.
    told: AtomicI64,
    /// When there was an alarm of too many last.
    alarmed: AtomicI64,
    /// The same of keys that don't follow.
    foreign: AtomicI64,
}

impl Handed {
    pub(crate) fn new(now: UnixTime) -> Self {
        Self {
            row_keys: AtomicU64::new(0),
            each: HourlyLimit::telling_apart(FACTORS),
            all: RateLimit::default(),
            hashed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            told: AtomicI64::new(now.0),
            alarmed: AtomicI64::new(i64::MIN),
            foreign: AtomicI64::new(i64::MIN),
        }
    }
}

/// Whether it is time again, which it is for one caller.
fn due(last: &AtomicI64, now: UnixTime) -> bool {
    let before = last.load(Ordering::SeqCst);
    now.0.saturating_sub(before) >= TELL_EVERY
        && last
            .compare_exchange(before, now.0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
}

impl Module {
    /// Makes or unwraps the key that seals the SAM's rows. It is recorded before it leaves.
    pub(crate) async fn row_key(&self, request: &RowKeyRequest) -> Result<RowKeyAnswer, Refusal> {
        self.operational()?;
        let answer = match &request.wrapped {
            Some(wrapped) => match self.vault.unwrap_row_key(&wrapped.0) {
                Ok(key) => RowKeyAnswer {
                    key,
                    wrapped: wrapped.clone(),
                },
                Err(_) => {
                    let event = Event::OrderRefused {
                        order: None,
                        reason: "row-key-not-authentic".into(),
                    };
                    self.record(event).await?;
                    return Err(Refusal::NotAuthentic);
                }
            },
            None => {
                let key = SecretBytes::new(self.random.digest32().0.to_vec());
                let wrapped = self.vault.wrap_row_key(&key, self.random.as_ref());
                RowKeyAnswer {
                    key,
                    wrapped: B64(wrapped.map_err(|_| Refusal::NotOperational)?),
                }
            }
        };
        let event = Event::RowKeyGiven {
            what: match request.wrapped {
                Some(_) => "opened",
                None => "made",
            }
            .into(),
            count: self.handed.row_keys.fetch_add(1, Ordering::SeqCst) + 1,
        };
        self.record(event).await?;
        Ok(answer)
    }

    /// Keyed hash of a PIN (`sap.md` §3, `K_pin`).
    pub(crate) async fn pin_mac(&self, request: &PinMacRequest) -> Result<PinMacAnswer, Refusal> {
        self.operational()?;
        if request.hash.len() != 32 {
            return Err(Refusal::Malformed);
        }
        let (handed, now) = (&self.handed, self.clock.now());
        // What all of them together may not is charged to none, and what one may not isn't charged to all.
        let taken = handed.all.take(&(), ALL, now).and_then(|()| {
            let each = handed.each.take(&request.factor, EACH, now);
            each.inspect_err(|_| handed.all.give_back(&()))
        });
        if taken.is_err() {
            handed.refused.fetch_add(1, Ordering::SeqCst);
            if due(&handed.alarmed, now) {
                tracing::error!("more PINs are tried than an honest SAM tries");
                self.alarm("cm-pins-too-many").await;
            }
            return Err(Refusal::NotNow);
        }
        handed.hashed.fetch_add(1, Ordering::SeqCst);
        Ok(PinMacAnswer {
            mac: self.vault.pin_mac(request.factor.as_str(), &request.hash),
        })
    }

    /// Somebody with the SAM's certificate asked for a statement of keys that don't follow those before.
    pub(crate) async fn foreign_sam_key(&self) {
        tracing::error!("keys that no earlier key of the SAM has vouched for were refused");
        if due(&self.handed.foreign, self.clock.now()) {
            self.alarm("cm-sam-key-refused").await;
        }
    }

    /// Records how many PINs were hashed, once an hour.
    pub(crate) async fn tell_pins_hourly(&self) {
        if due(&self.handed.told, self.clock.now()) {
            self.tell_pins().await;
        }
    }

    /// Records how many PINs were hashed since this was recorded last, so that it can be compared with what the SAM's log says; to be called
    /// before the process ends.
    pub async fn tell_pins(&self) {
        let handed = &self.handed;
        let count = handed.hashed.swap(0, Ordering::SeqCst);
        let refused = handed.refused.swap(0, Ordering::SeqCst);
        if (count, refused) == (0, 0) {
            return;
        }
        if self
            .record(Event::PinsHashed { count, refused })
            .await
            .is_err()
        {
            handed.hashed.fetch_add(count, Ordering::SeqCst);
            handed.refused.fetch_add(refused, Ordering::SeqCst);
        }
    }
}
