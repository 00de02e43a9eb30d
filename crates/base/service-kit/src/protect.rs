//! A daemon's protection of its memory. From whoever is root there is none.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::Trouble;

/// Forbids core dumps and reading of the memory by other processes of the same user, and on demand swapping.
///
/// # Errors
/// [`Trouble`] when the system refuses: the daemon doesn't start with less than what is configured.
pub fn harden(lock_memory: bool) -> Result<(), Trouble> {
    hide()?;
    match lock_memory {
        true => lock(),
        false => Ok(()),
    }
}

/// The same for a command beside a daemon, which runs under the limits of whoever gives it: where memory can't be locked it says so, and
/// goes on.
///
/// # Errors
/// [`Trouble`] when the memory can't be hidden.
pub fn harden_command(lock_memory: bool) -> Result<(), Trouble> {
    hide()?;
    if lock_memory && let Err(trouble) = lock() {
        tracing::warn!(
            what = %trouble.what,
            "this command's memory may reach the swap: raise its limit (ulimit -l unlimited, or systemd-run -p LimitMEMLOCK=infinity)"
        );
    }
    Ok(())
}

fn hide() -> Result<(), Trouble> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(|e| refused("core dumps can't be forbidden", e))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| refused("the memory can't be hidden", e))
}

fn lock() -> Result<(), Trouble> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .map_err(|e| refused("the memory can't be locked", e))
}

fn refused(what: &str, e: rustix::io::Errno) -> Trouble {
    let remedy = "give the daemon's unit LimitCORE=0, and LimitMEMLOCK=infinity for lock_memory";
    Trouble::new("protection", format!("{what}: {e}"), remedy)
}
