//! The files of one kind and resolution as a table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use object_store::ObjectStoreExt as _;
use periplus_columnar::PartFile as Which;
use periplus_model::{Labels, TimeRange};

use crate::history::Reading;
use crate::history::coverage::without;
use crate::history::part::Part;
use crate::history::resolution::Reads;

/// Files whose columns are looked at to find out which there are.
const LOOKED_AT: usize = 16;

/// Which of a part's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One row for each series and eight hours.
    Series,
    /// One row for each sample.
    Samples,
}

impl Kind {
    /// The table's name without its resolution.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Samples => "samples",
        }
    }

    const fn file(self) -> Which {
        match self {
            Self::Series => Which::Series,
            Self::Samples => Which::Samples,
        }
    }
}

/// A part as a file of this table.
#[derive(Clone, Debug)]
struct PartFile {
    part: Arc<Part>,
    external: Labels,
    /// Its path as the store behind the bucket has it.
    path: String,
    size: u64,
    tail_len: u64,
}

/// A table over the parts of one resolution.
#[derive(Debug)]
pub struct PartsTable {
    files: Vec<PartFile>,
    schema: TableSchema,
    url: ObjectStoreUrl,
}

impl PartsTable {
    /// The table; `None` where no part has such a file.
    ///
    /// # Errors
    /// A file's end can't be read.
    pub async fn open(
        state: &dyn Session,
        reading: &Reading,
        replica_labels: &[String],
        kind: Kind,
        resolution_ms: i64,
        url: &ObjectStoreUrl,
    ) -> Result<Option<Self>> {
        let files = files(reading, replica_labels, kind, resolution_ms);
        let store = state.runtime_env().object_store(url)?;
        // The newest of each stream have the columns there are now.
        let mut newest: Vec<&PartFile> = Vec::new();
        for f in files.iter().rev() {
            if newest.len() < LOOKED_AT && !newest.iter().any(|n| n.external == f.external) {
                newest.push(f);
            }
        }
        let mut objects = Vec::with_capacity(newest.len());
        for f in newest {
            objects.push(store.head(&object_store::path::Path::parse(&f.path)?).await?);
        }
        if objects.is_empty() {
            return Ok(None);
        }
        let found = ParquetFormat::default().infer_schema(state, &store, &objects).await?;
        let partition = |name: &str| Arc::new(Field::new(name, DataType::Utf8, false));
        let columns = vec![partition("day"), partition("part")];
        let schema = TableSchema::builder(plain(&found)).with_table_partition_cols(columns).build();
        Ok(Some(Self { files, schema, url: url.clone() }))
    }

    /// Whether a file can have rows that satisfy the filters.
    fn may_have(&self, file: &PartFile, filters: &[Expr]) -> bool {
        let own = file.part.range;
        filters.iter().all(|f| match Condition::of(f) {
            Some(Condition::Time(range)) => own.overlaps(&range),
            Some(Condition::External(name, value)) => file.external.value(name) == value,
            None => true,
        })
    }
}

/// The metadata of different parts differs; the columns' own does not matter.
fn plain(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().clone()))
}

/// The files to read for all of time: for each day the merged replicas where there are any.
fn files(
    reading: &Reading,
    replica_labels: &[String],
    kind: Kind,
    resolution_ms: i64,
) -> Vec<PartFile> {
    let coverage = reading.coverage();
    let mut identities: Vec<Labels> =
        coverage.streams().iter().map(|s| without(&s.external, replica_labels)).collect();
    identities.sort_unstable();
    identities.dedup();
    let reads = Reads { coarsest_ms: resolution_ms, ..Reads::default() };
    let mut out = Vec::new();
    for identity in identities {
        let replicas: Vec<usize> = (coverage.streams().iter().enumerate())
            .filter(|(_, s)| {
                without(&s.external, replica_labels) == identity
                    && (s.merged_over.is_empty() || !replica_labels.is_empty())
            })
            .map(|(i, _)| i)
            .collect();
        for pick in coverage.pick_at(&replicas, TimeRange::ALL, &reads, resolution_ms) {
            let Some(file) = pick.part.file(kind.file()) else { continue };
            let external = coverage.streams().get(pick.stream).map(|s| s.external.clone());
            out.push(PartFile {
                path: file.key.as_str().to_owned(),
                size: file.size,
                tail_len: file.tail_len,
                external: external.unwrap_or_default(),
                part: pick.part,
            });
        }
    }
    out.sort_by_key(|f| (f.part.day, f.part.range.min_t));
    out
}

/// What a filter says that the catalog knows of.
enum Condition<'a> {
    /// Rows have times in this range.
    Time(TimeRange),
    /// The stream has this external label.
    External(&'a str, &'a str),
}

impl<'a> Condition<'a> {
    fn of(filter: &'a Expr) -> Option<Self> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
        let (column, value, op) = match (&**left, &**right) {
            (Expr::Column(c), Expr::Literal(v, _)) => (c, v, *op),
            (Expr::Literal(v, _), Expr::Column(c)) => (c, v, op.swap()?),
            _ => return None,
        };
        if let Some(name) = column.name.strip_prefix("external_") {
            let text = value.try_as_str().flatten().filter(|_| op == Operator::Eq)?;
            return Some(Self::External(name, text));
        }
        let t = milliseconds(value)?;
        let (from, to) = (TimeRange::new(t, i64::MAX), TimeRange::new(i64::MIN, t));
        match (column.name.as_str(), op) {
            ("ts", Operator::Eq) => Some(Self::Time(TimeRange::new(t, t))),
            // A row of `series` that begins before a time may still reach over it, but not the other
            // way about.
            ("ts" | "t_max", Operator::Gt | Operator::GtEq) => Some(Self::Time(from)),
            ("ts" | "t_min", Operator::Lt | Operator::LtEq) => Some(Self::Time(to)),
            _ => None,
        }
    }
}

fn milliseconds(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampMillisecond(t, _) | ScalarValue::Int64(t) => *t,
        ScalarValue::TimestampSecond(t, _) => t.and_then(|t| t.checked_mul(1_000)),
        ScalarValue::TimestampMicrosecond(t, _) => t.map(|t| t.div_euclid(1_000)),
        ScalarValue::TimestampNanosecond(t, _) => t.map(|t| t.div_euclid(1_000_000)),
        _ => None,
    }
}

#[async_trait::async_trait]
impl TableProvider for PartsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut source = ParquetSource::new(self.schema.clone())
            .with_pushdown_filters(true)
            .with_enable_page_index(true)
            .with_bloom_filter_on_read(true);
        if let Some(all) = conjunction(filters.to_vec()) {
            let columns = DFSchema::try_from(self.schema())?;
            source = source.with_predicate(state.create_physical_expr(all, &columns)?);
        }
        let wanted: Vec<PartitionedFile> = (self.files.iter())
            .filter(|f| self.may_have(f, filters))
            .map(|f| {
                let day = periplus_columnar::Day(f.part.day).to_string();
                let values = [day, f.part.id.to_string()];
                PartitionedFile::new(f.path.clone(), f.size)
                    .with_partition_values(values.map(|v| ScalarValue::Utf8(Some(v))).into())
                    .with_metadata_size_hint(usize::try_from(f.tail_len).unwrap_or(usize::MAX))
            })
            .collect();
        let groups = FileGroup::new(wanted).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(self.url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit.filter(|_| filters.is_empty()))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
