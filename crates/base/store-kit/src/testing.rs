//! Stores for test suites: an SQLite file and a private PostgreSQL cluster.
//!
//! The cluster is started once per test process, listens on a Unix socket in a directory of its own, writes with
//! `fsync`, and is stopped and removed when the process ends, however it ends. `NATSUIN_TEST_POSTGRES` may name an
//! empty database to be used instead.

use std::io::{BufRead as _, BufReader};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
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

/// The shell that keeps the cluster; it stops and removes it when our end of the pipe closes.
struct Cluster {
    url: StoreUrl,
    _keeper: Child,
    _alive: ChildStdin,
}

/// `$1` = directory of the programs, `$2` = of the cluster, `$3` = user to run as or empty.
const KEEPER: &str = r#"
trap '' INT TERM HUP
as() { if [ -n "$user" ]; then setpriv --reuid "$user" --regid "$user" --init-groups "$@"; else "$@"; fi; }
bin=$1; dir=$2; user=$3
cd "$dir" && {
  as "$bin/initdb" -D "$dir/data" -U natsuin -A trust -E UTF8 --locale=C --no-instructions &&
  as "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -o "-c listen_addresses= -c unix_socket_directories=$dir \
     -c port=5432 -c max_connections=300 -c shared_buffers=32MB -c logging_collector=off" start
} >"$dir/start.log" 2>&1 && echo ready || { echo failed; cat "$dir/start.log" "$dir/server.log"; }
exec >/dev/null 2>&1
cat
as "$bin/pg_ctl" -D "$dir/data" -m immediate stop
rm -rf "$dir"
"#;

impl Cluster {
    fn start() -> Self {
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
        let mut keeper = Command::new("sh")
            .arg("-c")
            .arg(KEEPER)
            .arg("keeper")
            .arg(&bin)
            .arg(&dir)
            .arg(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let alive = keeper.stdin.take().expect("its input");
        let mut lines = BufReader::new(keeper.stdout.take().expect("its output"))
            .lines()
            .map_while(Result::ok);
        if lines.next().as_deref() != Some("ready") {
            panic!(
                "the test cluster didn't start:\n{}",
                lines.collect::<Vec<_>>().join("\n")
            );
        }
        let url = format!(
            "postgres://natsuin@localhost/postgres?host={}",
            dir.display()
        );
        Self {
            url: StoreUrl::parse(&url).expect("an address"),
            _keeper: keeper,
            _alive: alive,
        }
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
