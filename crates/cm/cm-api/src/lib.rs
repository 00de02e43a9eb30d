//! What the SAM may ask of the cryptographic module (CM), and in which words.
//!
//! Every use of a signer's key is an [`Order`]: a JWS by the SAM's `K_act`, carried with the `sam-keys` statement
//! that the CM's own `K_root` vouches for. An order is executed at most once, ever (`sap.md` §7). The CM never
//! learns of clients, tokens or documents, and never calls outward.
//!
//! Keys of the provider are made and ended by officers ([`ceremony`]). One of purpose *log* signs checkpoints by
//! [`OrderKind::Checkpoint`]; nothing else is to be had from it.

pub mod ceremony;
pub mod endorsement;
pub mod officers;
pub mod order;
pub mod restore;
pub mod rpc;
pub mod switch;

pub use order::{Dtbs, Order, OrderBody, OrderKind, SignItem, TYP_ORDER};
pub use rpc::{
    CryptoModule, ExecuteRequest, Executed, Health, KeyCreated, KeyDestroyed, ModuleError,
    ModuleState, PinMacAnswer, PinMacRequest, Refusal, RootAnswer, RowKeyAnswer, RowKeyRequest,
    StatementAnswer, StatementRequest,
};
