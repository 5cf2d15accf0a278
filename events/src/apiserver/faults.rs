//! How a server misbehaves on a bad day.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

#[derive(Debug, Default)]
struct Inner {
    refusals: VecDeque<(u16, String, Option<u32>)>,
    down: bool,
    cut_after_lines: Option<usize>,
    cut_inside: Option<usize>,
    silent: bool,
    pause: Duration,
    watches: u64,
    /// Grows when open watches are to end.
    epoch: u64,
}

/// Faults, set by a test while the server runs.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Inner>);

impl Faults {
    /// The next request for events or leases is refused with this status and text; `retry_after` in seconds.
    pub fn refuse(&self, code: u16, text: &str, retry_after: Option<u32>) {
        self.0.lock().refusals.push_back((code, text.to_owned(), retry_after));
    }

    /// All requests are refused with 503 while `down`; open watches end.
    pub fn set_down(&self, down: bool) {
        let mut inner = self.0.lock();
        inner.down = down;
        inner.epoch += u64::from(down);
    }

    /// Every watch is broken after this many lines, `inside` bytes into the next line if there is one.
    pub fn cut_watches(&self, after_lines: Option<usize>, inside: Option<usize>) {
        let mut inner = self.0.lock();
        inner.cut_after_lines = after_lines;
        inner.cut_inside = inside;
    }

    /// The storage is gone: watches stay open and say nothing.
    pub fn set_silent(&self, silent: bool) {
        self.0.lock().silent = silent;
    }

    /// Lists take this long.
    pub fn set_pause(&self, pause: Duration) {
        self.0.lock().pause = pause;
    }

    /// Watches begun so far.
    #[must_use]
    pub fn watches(&self) -> u64 {
        self.0.lock().watches
    }

    pub(super) fn refusal(&self) -> Option<Response> {
        let mut inner = self.0.lock();
        if inner.down {
            return Some((StatusCode::SERVICE_UNAVAILABLE, "apiserver not ready").into_response());
        }
        let (code, text, retry_after) = inner.refusals.pop_front()?;
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = (code, text).into_response();
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        Some(answer)
    }

    pub(super) async fn pause(&self) {
        let pause = self.0.lock().pause;
        tokio::time::sleep(pause).await;
    }

    pub(super) fn begin_watch(&self) {
        self.0.lock().watches += 1;
    }

    pub(super) fn epoch(&self) -> u64 {
        self.0.lock().epoch
    }

    pub(super) fn is_silent(&self) -> bool {
        self.0.lock().silent
    }

    /// After how many lines watches break, and how many bytes of the next one go out before.
    pub(super) fn cut(&self) -> Option<(usize, usize)> {
        let inner = self.0.lock();
        Some((inner.cut_after_lines?, inner.cut_inside.unwrap_or(0)))
    }
}
