//! A service's own SQLite database: opened, migrated, bounded, closed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bowline::app::BoxFuture;
use bowline::config::duration;
use bowline::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// Where a database is and how much of it may be used at a time.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The file. It and the folders above it are created if they are missing.
    pub path: PathBuf,
    /// The most connections. 8: SQLite has one writer at a time, and readers are short.
    #[serde(default = "eight")]
    pub connections: u32,
    /// How long to wait for a connection, and then for another writer. 2 s.
    #[serde(default = "two_seconds", with = "duration")]
    pub wait: Duration,
}

const fn eight() -> u32 {
    8
}

const fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

impl DatabaseConfig {
    /// The defaults, at a path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), connections: eight(), wait: two_seconds() }
    }
}

/// An open database. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Database {
    pool: SqlitePool,
    path: PathBuf,
}

impl Database {
    /// Opens the database and brings its tables up to date. Processes that share a file do so one after the other.
    ///
    /// # Errors
    /// If the file cannot be used, or its tables are those of another version.
    pub async fn open(cx: &Context, config: &DatabaseConfig, migrations: &Migrator) -> Result<Self> {
        let path = config.path.clone();
        let opening = async {
            // Held until the end: SQLite serialises statements, not migrations.
            let _lock = lock(&path).await?;
            let pool = pool(config).await?;
            migrations.run(&pool).await.context("migrating its tables")?;
            Ok(Self { pool, path: path.clone() })
        };
        cx.run(opening).await.flatten().with_context(|| format!("opening the database {}", path.display()))
    }

    /// The connections.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }
}

impl Resource for Database {
    fn name(&self) -> &str {
        "database"
    }

    fn close<'a>(&'a mut self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let closed = cx.run(self.pool.close()).await;
            closed.with_context(|| format!("closing the database {}", self.path.display()))
        })
    }
}

async fn pool(config: &DatabaseConfig) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(&config.path)
        .create_if_missing(true)
        // Readers and the writer do not wait for each other.
        .journal_mode(SqliteJournalMode::Wal)
        // With WAL this is durable against a crash of the process, and consistent after one of the machine.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(config.wait)
        .foreign_keys(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(config.connections.max(1))
        .acquire_timeout(config.wait)
        .connect_with(options);
    pool.await.map_err(failed)
}

/// Locks the file `PATH.lock` beside the database. Dropping the file unlocks it, as does the end of the process.
async fn lock(database: &Path) -> Result<std::fs::File> {
    let path = database.with_added_extension("lock");
    let locking = tokio::task::spawn_blocking(move || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = std::fs::File::create(path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    });
    locking.await.context("locking the database file")?.context("locking the database file")
}

/// Runs a query, or several in a transaction, but not past the end of `cx`; a transaction that is left rolls back. `what`
/// says in errors what was being done.
///
/// # Errors
/// `UNAVAILABLE` when no connection was free or another writer was in the way for too long; `INTERNAL` for what the
/// database refused; why `cx` ended.
pub async fn query<T>(
    cx: &Context,
    what: &'static str,
    query: impl Future<Output = sqlx::Result<T>>,
) -> Result<T> {
    cx.run(query).await.and_then(|done| done.map_err(failed)).context(what)
}

fn failed(error: sqlx::Error) -> Error {
    let message = match &error {
        sqlx::Error::PoolTimedOut => "no database connection was free; raise `connections` or send less",
        // The low byte of an extended code is the code: SQLITE_BUSY or SQLITE_LOCKED.
        sqlx::Error::Database(e) if e.code().is_some_and(|code| is_busy(&code)) => {
            "the database was busy with other writers; try again"
        }
        _ => return Error::from_std(error),
    };
    Error::unavailable(message).with_source(error)
}

fn is_busy(code: &str) -> bool {
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6))
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;

    fn no_migrations() -> Migrator {
        Migrator::DEFAULT
    }

    #[tokio::test]
    async fn a_database_is_created_where_none_was_and_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let config = DatabaseConfig::at(folder.path().join("deep/down/a.db"));
        let cx = Context::background();
        let mut first = Database::open(&cx, &config, &no_migrations()).await.unwrap();
        let second = Database::open(&cx, &config, &no_migrations()).await.unwrap();
        let one: i64 =
            query(&cx, "asking", sqlx::query_scalar("SELECT 1").fetch_one(second.pool())).await.unwrap();
        assert_eq!(one, 1);
        first.close(&cx).await.unwrap();
        let refused = query(&cx, "asking", sqlx::query("SELECT 1").execute(first.pool())).await.unwrap_err();
        assert!(refused.to_string().starts_with("asking: "), "{refused}");
    }

    #[tokio::test]
    async fn a_busy_database_is_a_temporary_failure() {
        let folder = tempfile::tempdir().unwrap();
        let config = DatabaseConfig::at(folder.path().join("a.db"));
        let cx = Context::background();
        let database = Database::open(&cx, &config, &no_migrations()).await.unwrap();
        let mut late = database.pool().acquire().await.unwrap();
        // Opening has the usual wait, so that a slow machine opens too; only this writer gives up at once.
        sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *late).await.unwrap();
        let _writer = database.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
        let error = query(&cx, "writing", late.begin_with("BEGIN IMMEDIATE")).await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
    }

    #[tokio::test]
    async fn a_query_ends_with_its_context() {
        let (cx, canceller) = Context::background().with_cancel();
        canceller.cancel();
        let error = query(&cx, "waiting", std::future::pending::<sqlx::Result<()>>()).await.unwrap_err();
        assert!(error.is_canceled());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            Database::open(&Context::background(), &DatabaseConfig::at(folder.path()), &no_migrations())
                .await
                .unwrap_err();
        assert!(error.to_string().contains(&*folder.path().to_string_lossy()), "{error}");
    }
}
