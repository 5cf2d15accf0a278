//! The stream of remote read, frame by frame.
//!
//! A frame is its length (varint), the CRC-32C of what follows (four bytes, big-endian), and a
//! `ChunkedReadResponse`. The chunks' bytes are slices of what was received.

use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use periplus_proto::prometheus::{ChunkedReadResponse, ChunkedSeries};
use prost::Message;

use super::ClientError;

/// The longest frame accepted, in bytes. Prometheus's default is to end one after 1 MiB.
pub(crate) const FRAME_BYTES_MAX: usize = 32 << 20;

/// Takes a stream of bytes apart into frames.
#[derive(Debug)]
pub(crate) struct Frames<S> {
    source: std::pin::Pin<Box<S>>,
    buffer: BytesMut,
    received: u64,
}

fn broken(problem: impl Into<String>) -> ClientError {
    ClientError::Unexpected { what: "remote read", problem: problem.into() }
}

/// A frame's length and how many bytes tell it; `None` when more bytes are needed.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, ClientError> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let value = usize::try_from(value).unwrap_or(usize::MAX);
            if value > FRAME_BYTES_MAX {
                return Err(broken(format!("a frame of {value} bytes, over {FRAME_BYTES_MAX}")));
            }
            return Ok(Some((value, i + 1)));
        }
        if i == 4 {
            return Err(broken("a frame's length of more than five bytes"));
        }
    }
    Ok(None)
}

impl<S: Stream<Item = Result<Bytes, ClientError>>> Frames<S> {
    pub(crate) fn new(source: S) -> Self {
        Self { source: Box::pin(source), buffer: BytesMut::new(), received: 0 }
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The series of the next frame; `None` at the end.
    ///
    /// # Errors
    /// A connection that breaks, also within a frame; a frame that is too long or whose checksum is wrong.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ChunkedSeries>>, ClientError> {
        let frame = loop {
            if let Some(frame) = self.cut()? {
                break frame;
            }
            let mut source = pin!(self.source.as_mut());
            match source.next().await {
                Some(piece) => {
                    let piece = piece?;
                    self.received += piece.len() as u64;
                    self.buffer.extend_from_slice(&piece);
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(broken("it ended within a frame")),
            }
        };
        let message = ChunkedReadResponse::decode(frame)
            .map_err(|e| broken(format!("a frame that does not decode: {e}")))?;
        if message.query_index != 0 {
            return Err(broken(format!("an answer to query {}", message.query_index)));
        }
        Ok(Some(message.chunked_series))
    }

    fn cut(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some((length, head)) = length(&self.buffer)? else {
            return Ok(None);
        };
        let whole = head + 4 + length;
        if self.buffer.len() < whole {
            // Room for what is known to come, no more than one frame's worth.
            self.buffer.reserve((whole - self.buffer.len()).min(1 << 20));
            return Ok(None);
        }
        self.buffer.advance(head);
        let expected = self.buffer.get_u32();
        let frame = self.buffer.split_to(length).freeze();
        let found = crc32c::crc32c(&frame);
        if found != expected {
            return Err(broken(format!(
                "checksum {found:08x} of a frame instead of {expected:08x}"
            )));
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use periplus_proto::prometheus::Label;
    use proptest::prelude::*;

    use super::*;

    fn frame(message: &ChunkedReadResponse) -> Vec<u8> {
        let body = message.encode_to_vec();
        let mut out = Vec::new();
        let mut n = body.len();
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out.extend(crc32c::crc32c(&body).to_be_bytes());
        out.extend(body);
        out
    }

    fn message(name: &str) -> ChunkedReadResponse {
        let labels = vec![Label { name: "__name__".into(), value: name.into() }];
        let series = ChunkedSeries { labels, chunks: Vec::new() };
        ChunkedReadResponse { chunked_series: vec![series], query_index: 0 }
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<ChunkedSeries>, ClientError> {
        let pieces: Vec<_> =
            bytes.chunks(piece.max(1)).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut frames = Frames::new(stream::iter(pieces));
            let mut out = Vec::new();
            while let Some(series) = frames.next().await? {
                out.extend(series);
            }
            Ok(out)
        })
    }

    #[test]
    fn frames_arrive_however_they_are_cut() {
        let long = "x".repeat(300);
        let bytes: Vec<u8> = ["a", &long, "c"].iter().flat_map(|n| frame(&message(n))).collect();
        for piece in [1, 2, 3, 7, 100, 10_000] {
            let series = read(&bytes, piece).unwrap();
            assert_eq!(series.len(), 3);
            assert_eq!(series[1].labels[0].value, long);
        }
    }

    #[test]
    fn half_answers_and_flipped_bits_are_errors() {
        let bytes = frame(&message("abc"));
        for cut in 1..bytes.len() {
            assert!(read(&bytes[..cut], 3).is_err(), "cut at {cut}");
        }
        for at in 1..bytes.len() {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            assert!(read(&spoilt, 3).is_err(), "flipped at {at}");
        }
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0x7f], 9).is_err());
        assert!(read(&[0xff; 40], 9).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 5);
        }
    }
}
