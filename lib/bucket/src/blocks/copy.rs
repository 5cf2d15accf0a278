//! Copies blocks from one bucket to another, or to and from a local directory, which is a bucket too.

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload};
use ring::digest::{Context, SHA256};
use serde::Serialize;
use ulid::Ulid;

use crate::blocks::scan::Found;
use crate::bucket::{Bucket, Entry};
use crate::error::BucketError;
use crate::key::Key;
use crate::upload::{UploadOptions, Uploader, hex};

/// Bytes of a part.
const PART_BYTES: u64 = 8 << 20;

/// What was copied of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Which block.
    pub block: Ulid,
    /// Objects that were sent; the others were there.
    pub objects: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Whether the whole block was there already.
    pub was_there: bool,
}

/// Copies a block: everything else first, `meta.json` last, each object read back and compared. A
/// block whose `meta.json` is there with the same bytes is left as it is.
///
/// # Errors
/// Either store refuses or does not answer; what arrived differs; another block of that name is
/// there.
pub async fn block(from: &Bucket, to: &Bucket, found: &Found) -> Result<Copied, BucketError> {
    let meta = Key::block_meta(found.id);
    let mut copied = Copied { block: found.id, objects: 0, bytes: 0, was_there: false };
    let limit = crate::blocks::meta::META_BYTES_MAX;
    let Some((description, _)) = from.get(&meta, limit).await? else {
        return Err(from.malformed(&meta, "the block has no meta.json, it is not whole"));
    };
    match to.get(&meta, limit).await? {
        Some((there, _)) if there == description => {
            copied.was_there = true;
            return Ok(copied);
        }
        Some(_) => return Err(to.malformed(&meta, "another block of that name is there")),
        None => {}
    }
    for entry in found.objects.iter().filter(|e| e.key != meta) {
        copied.bytes += object(from, to, entry).await?;
        copied.objects += 1;
    }
    to.put(&meta, description.clone()).await?;
    if to.get(&meta, limit).await?.is_none_or(|(there, _)| there != description) {
        return Err(to.differs(&meta, "it is not what was sent".to_owned()));
    }
    copied.objects += 1;
    copied.bytes += description.len() as u64;
    Ok(copied)
}

async fn object(from: &Bucket, to: &Bucket, entry: &Entry) -> Result<u64, BucketError> {
    let key = &entry.key;
    let mut hash = Context::new(&SHA256);
    let read = async |at: u64| -> Result<Bytes, BucketError> {
        let end = entry.size.min(at + PART_BYTES);
        let bytes = from.get_range(key, at..end).await?;
        if bytes.len() as u64 != end - at {
            return Err(from.differs(key, format!("it ends before byte {end}")));
        }
        Ok(bytes)
    };
    if entry.size <= PART_BYTES {
        let bytes = if entry.size == 0 { Bytes::new() } else { read(0).await? };
        hash.update(&bytes);
        to.put(key, bytes).await?;
    } else {
        let store = to.object_store();
        let upload = store.put_multipart(&key.path()).await;
        let mut upload = upload.map_err(|e| to.error("put", key, e))?;
        let mut at = 0;
        let sent = async {
            while at < entry.size {
                let bytes = read(at).await?;
                hash.update(&bytes);
                at += bytes.len() as u64;
                let part = upload.put_part(PutPayload::from_bytes(bytes));
                part.await.map_err(|e| to.error("put", key, e))?;
            }
            upload.complete().await.map_err(|e| to.error("complete", key, e))
        };
        if let Err(error) = sent.await {
            let _ = upload.abort().await;
            return Err(error);
        }
    }
    let uploader = Uploader::new(UploadOptions::default());
    let there = to.stat(key).await?.map_or(0, |e| e.size);
    if there != entry.size {
        return Err(to.differs(key, format!("it has {there} bytes instead of {}", entry.size)));
    }
    if uploader.hash_object(to, key, entry.size).await? != hex(hash.finish().as_ref()) {
        return Err(to.differs(key, "its SHA-256 is another one".to_owned()));
    }
    Ok(entry.size)
}
