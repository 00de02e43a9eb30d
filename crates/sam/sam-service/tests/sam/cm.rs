//! The real CM behind its router, in process, with faults that a network, a crash or a bad module could cause.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use cm_api::rpc::{Execute, PinMac};
use cm_api::{CryptoModule, ExecuteRequest, Executed, ModuleError, OrderBody, OrderKind, Refusal};
use core_types::B64;
use core_types::rpc::Method;
use service_kit::Peer;
use tokio::sync::Notify;
use tower::ServiceExt as _;

/// What goes wrong with the next order to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The module says no; nothing is done.
    Refuse(Refused),
    /// The order doesn't arrive, and nobody knows.
    LostBefore,
    /// The order is executed, and the answer is lost.
    LostAfter,
    /// Executed; the caller never hears of it and dies waiting.
    NeverAnswers,
    /// The order never arrives, and the caller dies waiting.
    NeverArrives,
    /// One bit of the first value is wrong.
    BitFlip,
    /// One value less.
    TooFew,
    /// The first two values are exchanged.
    Swapped,
    /// The same for the keyed hash of a PIN: the caller dies waiting.
    PinHangs,
    /// An order to destroy a key doesn't arrive, and nobody knows.
    DestroyLost,
    /// A key comes in, and the answer is lost.
    ImportLost,
    /// A key is handed over, and the answer is lost.
    HandOverLost,
    /// The module doesn't let keys go, however often it is asked: whoever approved it and maintenance may ask at once.
    HandOverRefused,
    /// Orders to destroy keys or to hand them over don't arrive, however often they are sent.
    Away,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    NotOperational,
    Duplicate,
}

type Gate = (Arc<Notify>, Arc<Notify>);

#[derive(Clone)]
pub struct Cm {
    router: Router,
    peer: Peer,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    /// Orders to sign that reached the module.
    pub orders: Arc<AtomicUsize>,
    /// Keyed hashes of PINs made, that is, PINs compared.
    pub pins: Arc<AtomicUsize>,
    /// Every signature value that left the module: item digest, value.
    pub values: Arc<Mutex<Vec<(B64, B64)>>>,
    /// Holds back the next answer: tells the first, waits for the second.
    gate: Arc<Mutex<Option<Gate>>>,
    /// Told when a caller begins to wait for ever.
    pub hanging: Arc<Notify>,
}

impl Cm {
    pub fn new(router: Router) -> Self {
        Self {
            router,
            peer: Peer {
                name: "sam.test".into(),
                addr: ([127, 0, 0, 1], 1).into(),
            },
            faults: Arc::default(),
            orders: Arc::default(),
            pins: Arc::default(),
            values: Arc::default(),
            gate: Arc::default(),
            hanging: Arc::default(),
        }
    }

    pub fn next(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// Forgets faults that didn't happen.
    pub fn calm(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// Holds back the next answer to an order to sign, also one that refuses it.
    pub fn delay(&self, reached: Arc<Notify>, release: Arc<Notify>) {
        *self.gate.lock().unwrap() = Some((reached, release));
    }

    async fn pass<M: Method<Refusal = Refusal>>(
        &self,
        request: &M::Request,
    ) -> Result<M::Response, ModuleError> {
        let body = serde_json::to_vec(request).unwrap();
        let mut http = Request::post(M::PATH).body(Body::from(body)).unwrap();
        http.extensions_mut().insert(self.peer.clone());
        let answer = self.router.clone().oneshot(http).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        match status {
            200 => Ok(serde_json::from_slice(&body).unwrap()),
            422 => Err(ModuleError::Refused(serde_json::from_slice(&body).unwrap())),
            other => panic!("status {other}"),
        }
    }

    /// Orders that make keys come and go, and all other calls.
    async fn moving<M: Method<Refusal = Refusal>>(
        &self,
        request: &M::Request,
        order: Option<OrderKind>,
    ) -> Result<M::Response, ModuleError> {
        let lost = match order {
            Some(OrderKind::Import { .. }) => Fault::ImportLost,
            Some(OrderKind::HandOver { .. }) => {
                if self.is_next(Fault::HandOverRefused) {
                    return Err(Refusal::NotAllowed(cm_api::rpc::Reason::Export).into());
                }
                Fault::HandOverLost
            }
            _ => return self.pass::<M>(request).await,
        };
        let answer = self.pass::<M>(request).await;
        match self.take(|f| *f == lost) {
            Some(_) => Err(ModuleError::Unknown),
            None => answer,
        }
    }

    /// Waits, if this answer is to be held back.
    async fn held_back(&self) {
        let gate = self.gate.lock().unwrap().take();
        if let Some((reached, release)) = gate {
            reached.notify_one();
            release.notified().await;
        }
    }

    fn is_next(&self, fault: Fault) -> bool {
        self.faults.lock().unwrap().front() == Some(&fault)
    }

    async fn never<T>(&self) -> T {
        self.hanging.notify_one();
        std::future::pending().await
    }

    fn take(&self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        faults.pop_front_if(|f| wanted(f))
    }
}

impl CryptoModule for Cm {
    async fn call<M>(&self, request: &M::Request) -> Result<M::Response, ModuleError>
    where
        M: Method<Refusal = Refusal>,
    {
        if M::PATH == PinMac::PATH {
            if self.take(|f| *f == Fault::PinHangs).is_some() {
                return self.never().await;
            }
            self.pins.fetch_add(1, Ordering::SeqCst);
        }
        let json = serde_json::to_value(request).unwrap();
        let destroys = order_of::<M>(&json).is_some_and(|o| matches!(o, OrderKind::Destroy { .. }));
        if (destroys || hands_over::<M>(&json)) && self.is_next(Fault::Away) {
            return Err(ModuleError::Unknown);
        }
        if destroys && self.take(|f| *f == Fault::DestroyLost).is_some() {
            return Err(ModuleError::Unknown);
        }
        let Some(digests) = order_of::<M>(&json).and_then(sign_items) else {
            return self.moving::<M>(request, order_of::<M>(&json)).await;
        };
        let fault = self.take(|f| {
            use Fault::{Away, DestroyLost, HandOverLost, HandOverRefused, ImportLost, PinHangs};
            !matches!(
                f,
                PinHangs | DestroyLost | ImportLost | HandOverLost | HandOverRefused | Away
            )
        });
        match fault {
            Some(Fault::Refuse(refused)) => {
                self.held_back().await;
                return Err(match refused {
                    Refused::NotOperational => Refusal::NotOperational.into(),
                    Refused::Duplicate => Refusal::Duplicate.into(),
                });
            }
            Some(Fault::LostBefore) => return Err(ModuleError::Unknown),
            Some(Fault::NeverArrives) => return self.never().await,
            _ => {}
        }
        self.orders.fetch_add(1, Ordering::SeqCst);
        let answer = self.pass::<M>(request).await?;
        let answer = serde_json::to_value(&answer).unwrap();
        let mut values = match serde_json::from_value(answer.clone()).unwrap() {
            Executed::Signed(values) => values,
            Executed::WrongValue if fault == Some(Fault::LostAfter) => {
                return Err(ModuleError::Unknown);
            }
            Executed::WrongValue => return Ok(serde_json::from_value(answer).unwrap()),
            other => panic!("{other:?}"),
        };
        self.values
            .lock()
            .unwrap()
            .extend(digests.into_iter().zip(values.iter().cloned()));
        self.held_back().await;
        match fault {
            Some(Fault::LostAfter) => return Err(ModuleError::Unknown),
            Some(Fault::NeverAnswers) => return self.never().await,
            Some(Fault::BitFlip) => values[0].0[10] ^= 1,
            Some(Fault::TooFew) => drop(values.pop()),
            Some(Fault::Swapped) => values.swap(0, 1),
            _ => {}
        }
        let answer = serde_json::to_value(Executed::Signed(values)).unwrap();
        Ok(serde_json::from_value(answer).unwrap())
    }
}

/// What an order asks for; nothing for any other call.
fn order_of<M: Method>(json: &serde_json::Value) -> Option<OrderKind> {
    if M::PATH != Execute::PATH {
        return None;
    }
    let request: ExecuteRequest = serde_json::from_value(json.clone()).unwrap();
    let payload = request.order.0.split('.').nth(1).unwrap();
    let payload = core_types::bytes::from_b64u(payload).unwrap();
    let body: OrderBody = serde_json::from_slice(&payload).unwrap();
    Some(body.kind)
}

fn hands_over<M: Method>(json: &serde_json::Value) -> bool {
    order_of::<M>(json).is_some_and(|o| matches!(o, OrderKind::HandOver { .. }))
}

/// The digests of an order to sign.
fn sign_items(kind: OrderKind) -> Option<Vec<B64>> {
    match kind {
        OrderKind::Sign { items, .. } => {
            Some(items.iter().map(|i| B64(i.bytes().to_vec())).collect())
        }
        _ => None,
    }
}
