//! Stores for test suites: an SQLite file and a private PostgreSQL cluster.
//!
//! The cluster is started once per test process, listens on a Unix socket in a directory of its own, writes with
//! `fsync`, and is stopped and removed when the process ends, however it ends. `NATSUIN_TEST_POSTGRES` may name an
//! empty database to be used instead.

use std::io::{BufRead as _, BufReader, Lines};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use core_types::random::SystemRandom;
use tempfile::TempDir;

use crate::{Migrations, Store, StoreUrl};

/// A fresh store that lives as long as this value.
#[derive(Debug)]
pub struct TestStore {
    /// The open store; also reached by dereference.
    pub store: Store,
    /// Its address, for tests that open it again.
    pub url: StoreUrl,
    /// Its schema.
    pub schema: &'static str,
    _dir: Option<TempDir>,
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// A fresh store on SQLite and one on PostgreSQL; run the whole test on each.
pub async fn both(migrations: &[Migrations]) -> [TestStore; 2] {
    [sqlite(migrations).await, postgres(migrations).await]
}

/// A fresh SQLite store.
pub async fn sqlite(migrations: &[Migrations]) -> TestStore {
    let dir = TempDir::new().expect("a temporary directory");
    let url = StoreUrl::Sqlite(dir.path().join("test.db"));
    open(url, "test", Some(dir), migrations).await
}

/// A fresh schema in the private PostgreSQL cluster.
pub async fn postgres(migrations: &[Migrations]) -> TestStore {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let schema = Box::leak(format!("t{}_{n}", std::process::id()).into_boxed_str());
    open(postgres_url(), schema, None, migrations).await
}

/// A fresh, empty database in the private PostgreSQL cluster, for tests that start whole zones on it.
pub async fn postgres_database() -> StoreUrl {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "d{}_{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let StoreUrl::Postgres(mut url) = postgres_url() else {
        unreachable!("a PostgreSQL address")
    };
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(url.as_str())
        .await
        .expect("the private cluster answers");
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create)
        .execute(&pool)
        .await
        .expect("a new database");
    pool.close().await;
    url.set_path(&name);
    StoreUrl::Postgres(url)
}

/// Address of the private cluster's first database; starts the cluster if it doesn't run yet.
///
/// # Panics
/// When PostgreSQL isn't installed or doesn't start: a suite that can't test both stores has failed.
pub fn postgres_url() -> StoreUrl {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    if let Ok(url) = std::env::var("NATSUIN_TEST_POSTGRES") {
        return StoreUrl::parse(&url).expect("NATSUIN_TEST_POSTGRES is a postgres:// address");
    }
    CLUSTER.get_or_init(Cluster::start).url.clone()
}

async fn open(
    url: StoreUrl,
    schema: &'static str,
    dir: Option<TempDir>,
    migrations: &[Migrations],
) -> TestStore {
    let store = Store::open(&url, schema, migrations, &SystemRandom)
        .await
        .expect("the test store opens");
    TestStore {
        store,
        url,
        schema,
        _dir: dir,
    }
}

/// A PostgreSQL of one test alone, with a synchronous standby that takes its place on demand. The address stays the same, as
/// with a service address that moves.
#[derive(Debug)]
pub struct Replicated {
    url: StoreUrl,
    keeper: Keeper,
}

impl Replicated {
    /// Starts both; nothing that is committed is on one of them only.
    ///
    /// # Panics
    /// As [`postgres_url`].
    pub fn start() -> Self {
        let keeper = Keeper::start(PAIR);
        let url = keeper.url("now");
        Self { url, keeper }
    }

    /// Where the one that serves answers.
    pub fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// The one that serves is gone without a word, and the standby is promoted.
    ///
    /// # Panics
    /// When it can't be.
    pub fn fail_over(&mut self) {
        use std::io::Write as _;
        self.keeper
            .alive
            .write_all(b"fail-over\n")
            .expect("the keeper listens");
        self.keeper.expect("promoted");
    }
}

/// The shared cluster.
struct Cluster {
    url: StoreUrl,
    _keeper: Keeper,
}

impl Cluster {
    fn start() -> Self {
        let keeper = Keeper::start(KEEPER);
        let url = keeper.url(".");
        Self {
            url,
            _keeper: keeper,
        }
    }
}

/// The shell that keeps a cluster; it stops and removes it when our end of the pipe closes.
#[derive(Debug)]
struct Keeper {
    dir: PathBuf,
    said: Lines<BufReader<ChildStdout>>,
    _shell: Child,
    alive: ChildStdin,
}

/// What every keeper's script begins with. `$1` = directory of the programs, `$2` = of the cluster, `$3` = user to run as or
/// empty.
const BEGIN: &str = r#"
trap '' INT TERM HUP
as() { if [ -n "$user" ]; then setpriv --reuid "$user" --regid "$user" --init-groups "$@"; else "$@"; fi; }
bin=$1; dir=$2; user=$3
start() { as "$bin/pg_ctl" -D "$dir/$1" -l "$dir/server.log" -t 600 -w -o "-c listen_addresses= -c unix_socket_directories=$dir/$2 \
  -c port=5432 -c max_connections=300 -c shared_buffers=32MB -c logging_collector=off $3" start; }
initialise() { as "$bin/initdb" -D "$dir/$1" -U natsuin -A trust -E UTF8 --locale=C --no-instructions; }
stop() { as "$bin/pg_ctl" -D "$dir/$1" -t 600 -m immediate stop; }
"#;

/// One server.
const KEEPER: &str = r#"
cd "$dir" && { initialise data && start data . ""; } >"$dir/start.log" 2>&1 &&
  echo ready || { echo failed; cat "$dir/start.log" "$dir/server.log"; exec >/dev/null 2>&1; }
exec >/dev/null 2>&1
cat
stop data
rm -rf "$dir"
"#;

/// One server and a standby of it.
const PAIR: &str = r#"
cd "$dir" && {
  as mkdir a b && as ln -s a now && initialise data-a && start data-a a "-c synchronous_standby_names=*" &&
  as "$bin/pg_basebackup" -h "$dir/a" -U natsuin -D "$dir/data-b" -R -X stream -c fast && start data-b b ""
} >"$dir/start.log" 2>&1 && echo ready || { echo failed; cat "$dir/start.log" "$dir/server.log"; exec >/dev/null 2>&1; }
while read -r line; do
  { stop data-a; as "$bin/pg_ctl" -D "$dir/data-b" -t 600 -w promote && as ln -sfn b now; } >"$dir/promote.log" 2>&1 &&
    echo promoted || { echo failed; cat "$dir/promote.log" "$dir/server.log"; exec >/dev/null 2>&1; }
done
exec >/dev/null 2>&1
stop data-a; stop data-b
rm -rf "$dir"
"#;

impl Keeper {
    fn start(script: &str) -> Self {
        let bin = programs().unwrap_or_else(|| {
            panic!("PostgreSQL isn't installed: `cargo xtask test` installs it (Debian: apt-get install postgresql)")
        });
        let root = Path::new("/proc/self")
            .metadata()
            .is_ok_and(|m| m.uid() == 0);
        let user = if root { "postgres" } else { "" };
        let dir = tempfile::Builder::new()
            .prefix("natsuin-pg")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        if root {
            let done = Command::new("chown").arg("postgres:").arg(&dir).status();
            assert!(
                done.is_ok_and(|s| s.success()),
                "there is no user postgres to run the test cluster as"
            );
        }
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg([BEGIN, script].concat())
            .arg("keeper")
            .arg(&bin)
            .arg(&dir)
            .arg(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let alive = shell.stdin.take().expect("its input");
        let said = BufReader::new(shell.stdout.take().expect("its output")).lines();
        let mut keeper = Self {
            dir,
            said,
            _shell: shell,
            alive,
        };
        keeper.expect("ready");
        keeper
    }

    /// Waits for this word.
    fn expect(&mut self, word: &str) {
        let mut lines = self.said.by_ref().map_while(Result::ok);
        if lines.next().as_deref() == Some(word) {
            return;
        }
        // Nothing more comes once nobody keeps it.
        let told: Vec<String> = lines.take(200).collect();
        panic!("the test cluster isn't {word}:\n{}", told.join("\n"));
    }

    /// Address of the server whose socket lies in this folder.
    fn url(&self, folder: &str) -> StoreUrl {
        let url = format!(
            "postgres://natsuin@localhost/postgres?host={}",
            self.dir.join(folder).display()
        );
        StoreUrl::parse(&url).expect("an address")
    }
}

/// Directory of `initdb` and `pg_ctl`: the newest of Debian's, else the one on the search path.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| has_programs(bin))
        .collect();
    found.sort();
    found
        .pop()
        .map(|(_, bin)| bin)
        .or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).find(|bin| has_programs(bin)))
}

fn has_programs(bin: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"]
        .iter()
        .all(|name| bin.join(name).is_file())
}
