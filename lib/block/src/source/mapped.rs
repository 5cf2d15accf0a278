//! Files mapped into memory: the one place of this crate that needs `unsafe`.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a file, read-only, for as long as any of the returned bytes live.
pub(super) fn open(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if meta.len() == 0 {
        return Ok(Bytes::new());
    }
    #[expect(
        unsafe_code,
        reason = "a mapping is only sound while nobody changes the file: a finished block's files \
                  are never written again by Prometheus or by us, only unlinked, which leaves \
                  the mapping valid"
    )]
    // SAFETY: see the reason above; every reader treats the bytes as hostile in value.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
