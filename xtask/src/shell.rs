//! Running other programs, and where the workspace lies.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The workspace's root folder: the parent of this crate's.
pub fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or(manifest.clone(), Path::to_owned)
}

/// `cargo`, the one that runs us if there is one.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Runs to the end with our terminal; an exit code other than 0 is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("couldn't start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Like [`run`], for what asks servers elsewhere: they fail now and then, so that it is tried three times.
pub fn fetch(command: &mut Command) -> Result<()> {
    thrice(|| run(command))
}

fn thrice(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    work().or_else(|_| work()).or_else(|_| work())
}

/// Like [`run`]; but where nobody watches, the command and all it started are killed when `limit` is over. A person at a
/// terminal sees a program that hangs and can interrupt it, which a process group of its own would prevent.
pub fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    if std::io::stdout().is_terminal() {
        return run(command);
    }
    run_unwatched(limit, command)
}

fn run_unwatched(limit: Duration, command: &mut Command) -> Result<()> {
    let shown = show(command);
    let mut child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("couldn't start `{shown}`"))?;
    // The shell's own: a bare machine has no program of that name.
    let kill = format!("kill -KILL -{}", child.id());
    let (ended, waits) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let late = waits.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            let killed = Command::new("sh").args(["-c", &kill]).status();
            killed.is_ok_and(|status| status.success())
        } else {
            false
        }
    });
    let status = child.wait();
    drop(ended);
    if watch.join().unwrap_or(false) {
        bail!(
            "`{shown}` was killed after {} s: something in it hangs",
            limit.as_secs()
        );
    }
    let status = status.with_context(|| format!("couldn't wait for `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs to the end and returns what it printed; on failure the error holds the end of its error output.
pub fn capture(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("couldn't start `{shown}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed ({}): {}", output.status, said.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{shown}` printed something that isn't UTF-8"))
}

/// Where a program lies: in `PATH`, or where Debian and cargo put programs that `PATH` may lack.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(PathBuf::from))
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_ended_with_what_it_started() {
        let mut hangs = Command::new("sh");
        hangs.args(["-c", "sleep 1000 & wait"]);
        let error = run_unwatched(Duration::from_millis(1), &mut hangs).unwrap_err();
        assert!(
            error.to_string().contains("something in it hangs"),
            "{error}"
        );
        run_unwatched(Duration::from_secs(600), &mut Command::new("true")).unwrap();
        assert!(run_unwatched(Duration::from_secs(600), &mut Command::new("false")).is_err());
    }

    #[test]
    fn what_asks_servers_elsewhere_is_tried_three_times() {
        let mut tries = 0;
        let third = || -> Result<()> {
            tries += 1;
            if tries < 3 {
                bail!("busy");
            }
            Ok(())
        };
        thrice(third).unwrap();
        assert_eq!(tries, 3);
        let never = || -> Result<()> {
            tries += 1;
            bail!("busy")
        };
        assert!(thrice(never).is_err());
        assert_eq!(tries, 6);
    }
}
