//! Buffers of parts, used again: memory that is new costs the system a page fault for every 4 KiB.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Buffers nobody uses. It goes with the last file that is being sent, so nothing is kept in between.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

/// A buffer that is given back when its last reader has dropped it.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    spare: Arc<Spare>,
}

impl Spare {
    /// A buffer of that length, with anything in it.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut bytes = self.0.lock().pop().unwrap_or_default();
        if bytes.len() < len {
            bytes = vec![0; len];
        }
        Buffer { bytes, len, spare: Arc::clone(self) }
    }
}

impl Buffer {
    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.spare.0.lock().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_again_and_never_too_short() {
        let spare = Arc::new(Spare::default());
        let mut first = spare.take(10);
        first.as_mut().fill(7);
        let at = first.as_ref().as_ptr();
        let (one, two) = {
            let whole = first.freeze();
            (whole.slice(..3), whole.slice(5..))
        };
        drop(one);
        assert_eq!(two, [7; 5].as_slice());
        drop(two);
        let again = spare.take(4);
        assert_eq!((again.as_ref().len(), again.as_ref().as_ptr()), (4, at));
        drop(again);
        assert_eq!(spare.take(20).as_ref().len(), 20);
    }
}
