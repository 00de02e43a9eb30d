//! Stories of the whole service through its public doors, each zone behind its socket.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod alert;
mod alert_unread;
mod archive;
mod audit;
mod backup;
mod bad_input;
mod bring_up;
mod browser;
mod clients;
mod command_line;
mod counter;
mod crash;
mod create;
mod csc_clients;
mod csc_command;
mod csc_unattended;
mod daemons;
mod device;
mod full_disk;
mod governance;
mod guide;
mod hostile;
mod impersonation;
mod keys;
mod kit;
mod large;
mod many;
mod notices;
mod officers;
mod patterns;
mod providers;
mod revocation;
mod sign_doc;
mod signed_configuration;
mod signed_requests;
mod site;
mod spend;
mod strangers;
mod time;
mod two_sams;
mod two_tenants;
mod validators;
mod walls;
