//! What every page of Natsuin shares: one style sheet, messages in Japanese and English, the frame of a page,
//! security headers, and the rules by which foreign text and times are shown.
//!
//! Knows no zone, no request and no account: it renders what it is given. Every surface keeps its texts in a file of
//! its own under `messages/`, so that one test can hold all of them against the glossary.

mod headers;
mod lang;
mod messages;
mod page;
mod show;
mod statics;

pub use headers::{Csp, secure};
pub use lang::Lang;
pub use messages::{Arg, Messages};
pub use page::{NavLink, Page};
pub use show::{clean, group4, isolate, middle};
pub use statics::{Script, css, css_path, static_router};
