//! Sends one block.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use periplus_block::meta::{Downsample, Thanos, ThanosFile, ThanosHash};
use periplus_bucket::Kind;
use periplus_bucket::blocks::meta::stream_name;
use periplus_bucket::upload::Sent;
use serde_json::{Map, Value, json};
use ulid::Ulid;

use super::ShipError;
use super::destination::Destination;
use super::local::{Linked, LocalBlock};

/// What a block gets in the bucket.
#[derive(Clone, Debug)]
pub(super) struct Attributes<'a> {
    pub(super) labels: &'a BTreeMap<String, String>,
    /// For `thanos.extensions`.
    pub(super) extensions: Option<Value>,
}

/// Sends a linked block: chunks, index, then `meta.json`. Gives the bytes that went over the wire.
pub(super) async fn send(
    to: &dyn Destination,
    block: &LocalBlock,
    linked: &Linked,
    with: &Attributes<'_>,
    at_a_time: usize,
) -> Result<u64, ShipError> {
    let id = block.meta.ulid;
    if linked.has_tombstones {
        tracing::warn!(block = %id, "samples were deleted in this block; the bucket gets them all the same, as the layout has no tombstones");
    }
    let mut chunks = Vec::with_capacity(linked.segments.len());
    for name in &linked.segments {
        let path = format!("chunks/{name}");
        let file = linked.directory.join(&path);
        let put = async move {
            let sent = to.put_file(id, &path, &file).await?;
            Ok::<_, ShipError>((path, sent))
        };
        chunks.push(put.boxed());
    }
    // In order, so that the list of files is too.
    let chunks = stream::iter(chunks).buffered(at_a_time.max(1));
    let mut files: Vec<(String, Sent)> = chunks.try_collect().await?;
    let index = to.put_file(id, "index", &linked.directory.join("index")).await?;
    files.push(("index".to_owned(), index));
    let sent: u64 = files.iter().map(|(_, sent)| sent.bytes_sent).sum();
    let mut meta = block.meta.clone();
    meta.thanos = Some(section(linked, &files, with));
    let mut text = meta.to_bytes();
    text.push(b'\n');
    let size = text.len() as u64;
    to.put_meta(id, Bytes::from(text)).await?;
    Ok(sent + size)
}

fn section(linked: &Linked, files: &[(String, Sent)], with: &Attributes<'_>) -> Thanos {
    let mut listed: Vec<_> = files
        .iter()
        .map(|(path, sent)| ThanosFile {
            rel_path: path.clone(),
            size_bytes: sent.digest.size,
            hash: Some(ThanosHash { func: "SHA256".to_owned(), value: sent.digest.sha256.clone() }),
        })
        .collect();
    listed.push(ThanosFile { rel_path: "meta.json".to_owned(), size_bytes: 0, hash: None });
    let mut other = Map::new();
    other.insert("index_stats".to_owned(), json!({}));
    other.insert("upload_time".to_owned(), json!(jiff::Timestamp::now().to_string()));
    if let Some(extensions) = &with.extensions {
        other.insert("extensions".to_owned(), extensions.clone());
    }
    Thanos {
        version: 1,
        labels: with.labels.clone(),
        downsample: Downsample { resolution: 0 },
        source: "sidecar".to_owned(),
        segment_files: linked.segments.clone(),
        files: listed,
        other,
    }
}

/// Whether a block is there already, whole and of this stream.
pub(super) async fn is_there(
    to: &dyn Destination,
    id: Ulid,
    labels: &BTreeMap<String, String>,
) -> Result<bool, ShipError> {
    let meta = match to.meta(id).await {
        Ok(Some(meta)) => meta,
        Ok(None) => return Ok(false),
        // A description that makes no sense makes no block; it is put again.
        Err(error) if error.kind() == Kind::Corrupt => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if meta.thanos.labels == *labels {
        return Ok(true);
    }
    Err(ShipError::OtherStream {
        block: id,
        destination: to.name(),
        theirs: meta.stream(),
        ours: stream_name(labels),
    })
}
