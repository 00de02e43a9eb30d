//! The module's listener: the SAM over mutual TLS, and nobody else.

use std::sync::Arc;

use audit_log::Event;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use cm_api::rpc::{
    ChangeWrapping, Execute, HoldCeremony, ImportKey, PinMac, Root, RowKey, SelfTest, Statement,
    Status, SwitchModule,
};
use cm_api::{ModuleError, Refusal};
use core_types::PeerId;
use core_types::rpc::Method as _;
use service_kit::{Peer, Rate, RateLimit, Routes};

use crate::module::Module;

/// Longest request: an order over 10,000 SHA-512 digests is about 2 MB as a JWS.
const LIMIT: usize = 4 * 1024 * 1024;

/// How many calls of one stranger are entries: what comes beyond says nothing new, and mustn't fill the disk.
const STRANGERS: Rate = Rate {
    burst: 10,
    per_minute: 10,
};

struct Door {
    module: Arc<Module>,
    caller: String,
    strangers: RateLimit<PeerId>,
}

impl Door {
    /// `III-3-4-authenticate-application`: the name in the caller's certificate must be the SAM's.
    async fn admit(&self, peer: &Peer) -> Result<&Module, Refusal> {
        match peer.name == self.caller {
            true => Ok(self.module.as_ref()),
            false => self.refuse(peer, "module").await,
        }
    }

    /// Records the stranger.
    async fn refuse(&self, peer: &Peer, door: &'static str) -> Result<&Module, Refusal> {
        tracing::warn!(peer = %peer.name, door, "a caller was refused");
        // A certificate without a name that could stand in the log is nobody's, too.
        let name = PeerId::parse(peer.name.as_str()).or_else(|_| PeerId::parse("unnamed"));
        if let Ok(peer) = name
            && self
                .strangers
                .take(&peer, STRANGERS, self.module.clock.now())
                .is_ok()
        {
            let door = door.into();
            self.module
                .record(Event::PeerRefused { peer, door })
                .await?;
        }
        Err(Refusal::NotAuthentic)
    }

    /// `III-3-4-authenticate-administrator`: the administrator. Where none is named it is the SAM's operator, by the SAM's certificate.
    async fn admit_administrator(&self, peer: &Peer) -> Result<&Module, Refusal> {
        match &self.module.config.administrator {
            Some(name) if *name == peer.name => Ok(self.module.as_ref()),
            Some(_) => self.refuse(peer, "administrator").await,
            None => self.admit(peer).await,
        }
    }

    /// The administrator or the SAM, which shows the state to officers and brings what they have signed: the module believes their signatures
    /// and nobody who brings them.
    async fn admit_either(&self, peer: &Peer) -> Result<&Module, Refusal> {
        match peer.name == self.caller {
            true => Ok(self.module.as_ref()),
            false => self.admit_administrator(peer).await,
        }
    }

    /// An order's outcome has a third form beside answer and refusal: 504, nobody knows. The caller's side takes
    /// everything but 200 and 422 for that.
    async fn execute(&self, peer: &Peer, body: &Bytes) -> Response {
        let module = match self.admit(peer).await {
            Ok(module) => module,
            Err(refusal) => return refused(refusal),
        };
        let Ok(request) = serde_json::from_slice(body) else {
            let event = Event::OrderRefused {
                order: None,
                reason: "malformed".into(),
            };
            let _ = module.record(event).await;
            return StatusCode::BAD_REQUEST.into_response();
        };
        match module.execute(&request).await {
            Ok(executed) => Json(executed).into_response(),
            Err(ModuleError::Refused(refusal)) => refused(refusal),
            Err(ModuleError::Unknown) => StatusCode::GATEWAY_TIMEOUT.into_response(),
        }
    }
}

fn refused(refusal: Refusal) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response()
}

/// Routes of the module for a mutual TLS listener. `caller`: DNS name in the SAM's client certificate.
pub fn router(module: Arc<Module>, caller: impl Into<String>) -> Router {
    let door = Arc::new(Door {
        module,
        caller: caller.into(),
        strangers: RateLimit::default(),
    });
    let orders = door.clone();
    let execute = move |Extension(peer): Extension<Peer>, body: Bytes| {
        let door = orders.clone();
        async move { door.execute(&peer, &body).await }
    };
    Routes::new(door, LIMIT)
        .method::<Root, _, _>(|d, peer, _| async move { Ok(d.admit(&peer).await?.root_answer()) })
        .method::<Status, _, _>(
            |d, peer, _| async move { Ok(d.admit_either(&peer).await?.health()) },
        )
        .method::<SwitchModule, _, _>(|d, peer, request| async move {
            d.admit_either(&peer).await?.switch(&request).await
        })
        .method::<HoldCeremony, _, _>(|d, peer, request| async move {
            let held = d.admit_administrator(&peer).await?.ceremony(&request).await;
            held.map_err(|e| match e {
                ModuleError::Refused(refusal) => refusal,
                // A key that nobody was told of is no key.
                ModuleError::Unknown => Refusal::NotOperational,
            })
        })
        .method::<Statement, _, _>(|d, peer, request| async move {
            d.admit(&peer).await?.statement(request).await
        })
        .method::<RowKey, _, _>(|d, peer, request| async move {
            d.admit(&peer).await?.row_key(&request).await
        })
        .method::<PinMac, _, _>(|d, peer, request| async move {
            d.admit(&peer).await?.pin_mac(&request).await
        })
        .method::<ImportKey, _, _>(|d, peer, _| async move { d.admit(&peer).await?.import_key() })
        .method::<ChangeWrapping, _, _>(|d, peer, request| async move {
            d.admit_administrator(&peer).await?;
            d.module.wrapping(request.begin)
        })
        .method::<SelfTest, _, _>(|d, peer, _| async move {
            d.admit_administrator(&peer).await?.self_test().await
        })
        .into_router()
        .route(
            Execute::PATH,
            post(execute).layer(DefaultBodyLimit::max(LIMIT)),
        )
}
