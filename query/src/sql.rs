//! SQL over history: one statement that reads, over the tables `series` and `samples` of the bucket.
//!
//! [`table`] gives DataFusion the bucket's files, pruned by the catalog before any of them is opened: by
//! time, by stream, by day; row groups and pages are pruned by DataFusion from the files' own statistics
//! and bloom filters. Tables: `series`, `samples` (as scraped), `series_5m`, `samples_5m`, `series_1h`,
//! `samples_1h` (downsampled), and the views `metrics`, `metrics_5m`, `metrics_1h`, which join the two.
//! Replicas that were merged are read merged. [`format`] writes the answer as JSON, CSV or Arrow IPC;
//! [`http`] is `POST /api/v1/sql`.
//!
//! What it refuses: every statement that is not a query or its explanation, and every table but those
//! above: no files, no settings, no temporary tables. Rows, memory and time are bounded as for PromQL;
//! nothing is spilled to the disk.

pub mod format;
pub mod http;
pub mod table;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::history::Reading;
use table::{Kind, PartsTable};

/// The longest statement, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Operators, parentheses and keywords of a statement.
const NESTING_MAX: usize = 400;
/// Address space of the thread that plans a statement.
const STACK_BYTES: usize = 256 << 20;
/// Resolutions and what the names of their tables end with.
const RESOLUTIONS: [(i64, &str); 3] = [(0, ""), (300_000, "_5m"), (3_600_000, "_1h")];

/// What one statement may use.
#[derive(Clone, Debug)]
pub struct SqlLimits {
    /// Rows of the answer.
    pub rows: usize,
    /// Bytes held while it is worked on.
    pub memory_bytes: usize,
    /// How long it may take.
    pub time: Duration,
    /// Threads that work on it.
    pub workers: usize,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct SqlAnswer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// There is no bucket.
    #[error("this query layer has no history: start it with --bucket")]
    NoHistory,
    /// The statement makes no sense, or is not one that reads.
    #[error("{0}")]
    Refused(String),
    /// It takes more than it may.
    #[error("{0}")]
    Limit(String),
    /// It took too long.
    #[error("the statement took longer than {0:?}; narrow it down, by time or by name")]
    Timeout(Duration),
    /// A file can't be read, or something went wrong here.
    #[error("{0}")]
    Failed(String),
}

impl From<DataFusionError> for SqlError {
    fn from(e: DataFusionError) -> Self {
        let text = e.strip_backtrace();
        match e.find_root() {
            DataFusionError::ResourcesExhausted(why) => {
                Self::Limit(format!("the statement needs more memory than it may use: {why}"))
            }
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_) => Self::Refused(text),
            _ => Self::Failed(text),
        }
    }
}

/// Runs one statement over a bucket as it is now.
///
/// # Errors
/// Why there is no answer.
pub async fn run(
    reading: &Arc<Reading>,
    replica_labels: &[String],
    text: &str,
    limits: &SqlLimits,
) -> Result<SqlAnswer, SqlError> {
    if text.len() > TEXT_BYTES_MAX {
        let most = format!("the statement is longer than {TEXT_BYTES_MAX} bytes");
        return Err(SqlError::Refused(most));
    }
    check_nesting(text)?;
    let stop = CancellationToken::new();
    let _stops_with_this = stop.clone().drop_guard();
    let (give, take) = tokio::sync::oneshot::channel();
    let (reading, replica_labels) = (Arc::clone(reading), replica_labels.to_vec());
    let (text, limits, runtime) = (text.to_owned(), limits.clone(), Handle::current());
    // Planning recurses, so it has a stack of its own, of which the system gives what is used.
    let on_thread = move || {
        let answer = runtime.block_on(async {
            let work = answer(&reading, &replica_labels, &text, &limits);
            tokio::select! {
                answer = tokio::time::timeout(limits.time, work) => {
                    answer.unwrap_or(Err(SqlError::Timeout(limits.time)))
                }
                () = stop.cancelled() => Err(SqlError::Failed("nobody waits any more".to_owned())),
            }
        });
        let _nobody_waits = give.send(answer);
    };
    let thread = std::thread::Builder::new().name("sql".to_owned()).stack_size(STACK_BYTES);
    let thread = thread.spawn(on_thread);
    thread.map_err(|e| SqlError::Failed(format!("starting a thread for the statement: {e}")))?;
    take.await.unwrap_or_else(|_| Err(SqlError::Failed("the statement broke off".to_owned())))
}

/// Refuses what is nested, or chained, too deep: it would be planned by recursion.
fn check_nesting(text: &str) -> Result<(), SqlError> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize();
    let tokens = tokens.map_err(|e| SqlError::Refused(e.to_string()))?;
    let nests = |t: &&Token| match t {
        Token::Word(w) => w.keyword != Keyword::NoKeyword,
        Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::RParen => false,
        _ => true,
    };
    let n = tokens.iter().filter(nests).count();
    if n > NESTING_MAX {
        let text = format!(
            "the statement has {n} operators, parentheses and keywords; at most {NESTING_MAX} are taken"
        );
        return Err(SqlError::Limit(text));
    }
    Ok(())
}

async fn answer(
    reading: &Arc<Reading>,
    replica_labels: &[String],
    text: &str,
    limits: &SqlLimits,
) -> Result<SqlAnswer, SqlError> {
    let session = session(reading, replica_labels, limits).await?;
    let only_reading =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = session.sql_with_options(text, only_reading).await?;
    let mut rows = frame.execute_stream().await?;
    let (schema, mut batches, mut count) = (rows.schema(), Vec::new(), 0usize);
    let mut bytes = 0usize;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.num_rows();
        bytes += batch.get_array_memory_size();
        if count > limits.rows {
            let most = limits.rows;
            let text = format!("the answer has more than {most} rows; add a LIMIT or aggregate");
            return Err(SqlError::Limit(text));
        }
        if bytes > limits.memory_bytes {
            let most = limits.memory_bytes;
            let text = format!("the answer takes more than {most} bytes; add a LIMIT");
            return Err(SqlError::Limit(text));
        }
        batches.push(batch);
    }
    Ok(SqlAnswer { schema, batches })
}

/// A session that knows the bucket's tables and nothing else.
async fn session(
    reading: &Arc<Reading>,
    replica_labels: &[String],
    limits: &SqlLimits,
) -> Result<SessionContext, SqlError> {
    let nowhere = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(nowhere)
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes)))
        .build_arc()?;
    let mut config = SessionConfig::new()
        .with_information_schema(false)
        .with_target_partitions(limits.workers.max(1))
        .with_parquet_pruning(true)
        .with_parquet_bloom_filter_pruning(true)
        .with_parquet_page_index_pruning(true);
    config.options_mut().execution.parquet.pushdown_filters = true;
    let session = SessionContext::new_with_config_rt(config, runtime);
    let url = ObjectStoreUrl::parse("history://bucket")?;
    let bucket = reading.parts().blocks.bucket();
    session.register_object_store(url.as_ref(), bucket.object_store());
    for (resolution_ms, suffix) in RESOLUTIONS {
        let mut both = 0;
        for kind in [Kind::Series, Kind::Samples] {
            let table = PartsTable::open(
                &session.state(),
                reading,
                replica_labels,
                kind,
                resolution_ms,
                &url,
            )
            .await?;
            if let Some(table) = table {
                both += 1;
                session.register_table(format!("{}{suffix}", kind.table()), Arc::new(table))?;
            }
        }
        if both == 2 {
            view(&session, suffix).await?;
        }
    }
    Ok(session)
}

/// The view that joins series and samples of one resolution. Written by us, so no option forbids it.
async fn view(session: &SessionContext, suffix: &str) -> Result<(), SqlError> {
    let values = match suffix {
        "" => "p.ts, p.v",
        _ => "p.ts, p.count, p.sum, p.min, p.max, p.counter",
    };
    let skipped = ["sid", "row_start", "n", "checksum", "day", "part"];
    let table = session.table(format!("series{suffix}")).await?;
    let columns: Vec<String> = (table.schema().fields().iter())
        .filter(|f| {
            !skipped.contains(&f.name().as_str())
                && !f.name().starts_with("histogram_")
                && !f.name().starts_with("counter_")
        })
        .map(|f| format!("s.\"{}\"", f.name().replace('"', "\"\"")))
        .collect();
    let text = format!(
        "CREATE VIEW metrics{suffix} AS SELECT {values}, {} FROM samples{suffix} p \
         JOIN series{suffix} s ON p.sid = s.sid",
        columns.join(", ")
    );
    session.sql(&text).await?;
    Ok(())
}
