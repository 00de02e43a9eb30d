//! What in the logs somebody has to know of at once: rules over entries, grouping, and the forms in which it is told.
//!
//! Functions of entries, settings and time; input and output are the program's (`natsuin audit alert`). Must never decide
//! anything for a zone: it tells, and asks for a stop where the operator wants that.

mod acting;
mod certificates;
mod forms;
mod logs;
mod quiet;
mod rules;

pub use acting::{Acting, ActingError, Brake, Chosen, STOPS, Stop, Target, told};
pub use certificates::{certificate_unread, ending};
pub use forms::{Counts, mail, webhook};
pub use logs::{Silences, entry_unread, foreign, set_back};
pub use quiet::{Notice, Quiet};
pub use rules::{Alert, Limits, RULES, Severity, Watch};
