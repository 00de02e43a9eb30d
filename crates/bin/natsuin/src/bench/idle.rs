//! What connections hold that are kept and say nothing, and that others are served meanwhile. Their other ends are a process of their own,
//! so that this one's memory is the service's alone.

use std::io::{BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::measure::{f64_of, mib, millis, now, resident_kib};
use crate::output::Out;
use crate::stack::Stack;

/// Files that a process has open beside the connections, at most.
const SPARE: usize = 512;
/// The first ones, for what only they need.
const FIRST: usize = 16;
/// Threads that open connections: the first must not have grown old when the last one is there.
const THREADS: usize = 16;
/// How long an answer may take, so that nobody waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// What idle connections cost.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    schema: &'static str,
    /// How many were opened.
    connections: usize,
    /// How many of them the service still kept: where half of its places are taken, those without requests go after some seconds.
    kept: usize,
    /// Whether they are encrypted: never here.
    tls: bool,
    /// Growth of the service's memory for each that it kept, KiB.
    pub(super) connection_kib: f64,
    /// The service's memory with all of them, MiB.
    resident_mib: f64,
    /// A call of `info` meanwhile, ms.
    info_ms: f64,
}

/// Has connections to a running stack opened and kept, each after one answer.
pub(super) async fn measure(stack: &Stack, connections: usize, out: Out) -> Result<Idle> {
    let address = stack
        .ssa_url
        .strip_prefix("http://")
        .context("the stack speaks plain HTTP here")?;
    allow_files(connections)?;
    let mut clients = Clients::start(address, connections).await?;
    let before = resident_kib()?;
    let opened = clients.go_on().await?;
    let after = resident_kib()?;
    let begun = now();
    let answer = stack
        .http
        .post(format!("{}/csc/v2/info", stack.ssa_url))
        .json(&serde_json::json!({}))
        .send()
        .await?;
    let info = begun.elapsed();
    if answer.status() != 200 {
        bail!("info answered {} meanwhile", answer.status());
    }
    let kept = clients.go_on().await?;
    clients.end().await?;
    // The first ones were there before.
    let grown = kept.saturating_sub(FIRST).max(1);
    let measured = Idle {
        schema: "natsuin.bench-csc-idle/2",
        connections: opened,
        kept,
        tls: false,
        connection_kib: mib(after.saturating_sub(before)) * 1024.0 / f64_of(grown),
        resident_mib: mib(after),
        info_ms: millis(info),
    };
    out.say(&format!(
        "{opened} idle connections without TLS, {kept} kept   {:>6.1} KiB each   {:>7.1} MiB in all   info meanwhile {:>6.2} ms",
        measured.connection_kib, measured.resident_mib, measured.info_ms
    ));
    Ok(measured)
}

/// The process at the other ends. It takes a step for each line, and says after each how many connections there are.
struct Clients {
    child: Child,
    steps: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
}

impl Clients {
    /// With the first connections open.
    async fn start(address: &str, connections: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "hold", address, "--connections"])
            .arg(connections.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the clients can't be started")?;
        let steps = child.stdin.take().context("no way to the clients")?;
        let told = child.stdout.take().context("no way from the clients")?;
        let mut clients = Self {
            child,
            steps,
            told: BufReader::new(told).lines(),
        };
        clients.count().await?;
        Ok(clients)
    }

    async fn go_on(&mut self) -> Result<usize> {
        self.steps.write_all(b"\n").await?;
        self.count().await
    }

    async fn count(&mut self) -> Result<usize> {
        let line = self.told.next_line().await?;
        let line = line.context("the clients ended; what they said of it stands above")?;
        line.trim()
            .parse()
            .context("the clients said something else")
    }

    async fn end(self) -> Result<()> {
        let Self {
            mut child, steps, ..
        } = self;
        drop(steps);
        child.wait().await?;
        Ok(())
    }
}

/// What the clients are told.
#[derive(Debug, Clone, clap::Args)]
pub struct HoldArgs {
    /// Host and port.
    address: String,
    /// How many connections.
    #[arg(long)]
    connections: usize,
}

/// The clients: opens the first connections, then all, then looks which of them are still there.
pub(super) fn hold(args: &HoldArgs) -> Result<()> {
    allow_files(args.connections)?;
    let first = FIRST.min(args.connections);
    let mut kept = open(&args.address, first)?;
    say(kept.len())?;
    let mut steps = std::io::stdin().lock().lines();
    if steps.next().transpose()?.is_none() {
        return Ok(());
    }
    kept.extend(open(&args.address, args.connections - first)?);
    say(kept.len())?;
    while steps.next().transpose()?.is_some() {
        say(kept.iter().filter(|stream| is_open(stream)).count())?;
    }
    Ok(())
}

fn say(count: usize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{count}")?;
    out.flush()?;
    Ok(())
}

fn open(address: &str, count: usize) -> Result<Vec<TcpStream>> {
    let each = count.div_ceil(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                let share = each.min(count.saturating_sub(n * each));
                scope.spawn(move || {
                    let all = (0..share).map(|_| opened(address));
                    all.collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut all = Vec::with_capacity(count);
        for thread in threads {
            let share = thread.join().map_err(|_| anyhow!("a thread failed"))?;
            all.extend(share?);
        }
        Ok(all)
    })
}

/// A connection that has had one answer.
fn opened(address: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).context("no more connections")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET /csc/v2/info HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_whole(&answer) {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            bail!("a connection got no answer");
        }
        answer.extend_from_slice(buffer.get(..n).unwrap_or_default());
    }
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!("a connection got another answer than 200");
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Whether an answer of a known length is there to its end.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default()).to_lowercase();
    let length = text.lines().find_map(|line| {
        let value = line.strip_prefix("content-length:")?;
        value.trim().parse::<usize>().ok()
    });
    answer.len() >= head + 4 + length.unwrap_or(0)
}

/// Whether the service hasn't closed it.
fn is_open(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(n) => n > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Lets this process have as many files open as these connections take, as far as it may say so itself.
fn allow_files(connections: usize) -> Result<()> {
    let wanted = u64::try_from(connections + SPARE)?;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|may| may >= wanted) {
        return Ok(());
    }
    if let Some(most) = maximum.filter(|most| *most < wanted) {
        bail!(
            "{connections} connections take {wanted} open files, and this process may have {most}: raise the limit (ulimit -Hn, \
             LimitNOFILE), or name fewer with --idle N"
        );
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).context("the number of open files can't be raised")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is_there() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(is_whole(answer));
        for n in 0..answer.len() {
            assert!(!is_whole(&answer[..n]), "{n}");
        }
    }
}
