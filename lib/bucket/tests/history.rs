//! Real parts in a bucket: described by themselves, committed, rebuilt and verified.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use periplus_block::chunk::ChunkSamples;
use periplus_bucket::blocks::Silent;
use periplus_bucket::catalog::{
    self, Catalog, Change, Describe, DescribeError, Described, Part, verify,
};
use periplus_bucket::{Bucket, Key, OpenOptions};
use periplus_columnar::{
    ColumnarError, Day, Footer, MemorySinks, PartFile, PartMeta, PartWriter, Resolution,
    WriteOptions,
};
use periplus_model::Labels;
use ulid::Ulid;

/// As `periplus bucket` reads what parts say of themselves.
struct Parquet;

impl Describe for Parquet {
    fn describe(
        &self,
        name: &str,
        file_len: u64,
        tail: &Bytes,
    ) -> Result<Described, DescribeError> {
        let footer = Footer::parse(name, file_len, tail).map_err(|e| match e {
            ColumnarError::TailTooShort { needed, .. } => DescribeError::More(needed),
            other => DescribeError::Bad(other.to_string()),
        })?;
        let description = serde_json::to_value(footer.summary()).unwrap();
        Ok(Described { description, rows: footer.rows(), tail_len: footer.tail_len() })
    }

    fn crc32(&self, bytes: &[u8]) -> u32 {
        periplus_columnar::crc32(bytes)
    }
}

async fn put_part(bucket: &Bucket, day: Day, series: u32) -> Part {
    let meta = PartMeta {
        part: Ulid::generate(),
        external: BTreeMap::from([("cluster".to_owned(), "c1".to_owned())]),
        replica_labels: vec![],
        day,
        resolution: Resolution::Raw,
        sources: vec![Ulid::generate()],
        inputs: vec![],
        promoted: vec!["pod".to_owned()],
    };
    let sinks = MemorySinks::default();
    let options = WriteOptions::default();
    let mut writer = PartWriter::new(meta, options, Box::new(sinks.clone())).unwrap();
    for i in 0..series {
        let mut samples = ChunkSamples::new();
        (0..10).for_each(|n| samples.push(day.start_ms() + n, n as f64, 0));
        let labels = Labels::from_pairs([("__name__", "m"), ("pod", &format!("p{i:06}"))]);
        writer.push(&labels, &samples).unwrap();
    }
    let summary = writer.finish().unwrap();
    for file in &summary.files {
        let key = Key::parse(&summary.meta.path(file.file)).unwrap();
        bucket.put(&key, sinks.bytes(file.file).unwrap()).await.unwrap();
    }
    Part::describe(&summary, &summary.meta.directory()).unwrap()
}

#[tokio::test]
async fn parts_describe_themselves() {
    let bucket = Bucket::from_store(Arc::new(InMemory::new()), "test", &OpenOptions::default());
    let catalog = Catalog::new(bucket.clone());
    let mut add = vec![put_part(&bucket, Day(20_000), 3).await];
    // So many series that the Bloom filters don't fit into what is read of a file at first.
    add.push(put_part(&bucket, Day(20_001), 70_000).await);
    assert!(add[1].file("series").unwrap().tail_len > 64 << 10);
    catalog.commit(&Change { add: add.clone(), ..Change::default() }).await.unwrap();
    assert_eq!(verify(&catalog, Some(&Parquet), &mut Silent).await.unwrap(), []);
    let rebuilt = catalog::rebuild(&catalog, &Parquet, false, &mut Silent).await.unwrap();
    assert_eq!((rebuilt.parts.len(), rebuilt.problems.len()), (2, 0));
    let found = catalog.snapshot(Duration::ZERO).await.unwrap().all_parts().await.unwrap();
    // Made again from the files, an entry is the one its writer made.
    assert_eq!(found.iter().map(|p| (**p).clone()).collect::<Vec<_>>(), add);
    let key = add[0].key(PartFile::Samples.name().trim_end_matches(".parquet")).unwrap();
    let (bytes, _) = bucket.get(&key, 1 << 20).await.unwrap().unwrap();
    let mut altered = bytes.to_vec();
    let at = altered.len() - 40;
    altered[at] ^= 1;
    bucket.put(&key, altered.into()).await.unwrap();
    let problems = verify(&catalog, Some(&Parquet), &mut Silent).await.unwrap();
    assert_eq!(problems.iter().map(|p| p.kind).collect::<Vec<_>>(), ["tail"]);
}
