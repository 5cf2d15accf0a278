//! Keeps the window up with the log.

use std::path::PathBuf;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use periplus_promql::source::SourceError;
use periplus_wal::Tail;

use super::Window;

/// Settings of the hot window.
#[derive(Clone, Debug)]
pub struct HotConfig {
    /// The `wal` directory of the Prometheus's data directory.
    pub wal_dir: PathBuf,
    /// How far back samples are kept.
    pub length: Duration,
    /// The most memory the window may take, bytes; above it the window is switched off.
    pub bytes_max: usize,
}

/// How the window is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HotStatus {
    /// The log is being read for the first time, or anew after an error.
    Loading,
    /// It answers from `covered_from_ms` on.
    Ready {
        /// See [`Window::covered_from`].
        covered_from_ms: i64,
        /// The time of the newest sample.
        newest_ms: i64,
        /// Series known.
        series: usize,
        /// Bytes held when last counted.
        bytes: usize,
    },
    /// It does not answer.
    Off {
        /// Why, for people.
        reason: String,
    },
}

/// Samples of a series that has been silent this long are let go, its reference with it; Prometheus
/// itself has forgotten it by then, and would introduce it anew.
const FORGET_MS: i64 = 4 * 3600 * 1000;
/// After an error the log is read anew, at most this often.
const RELOAD_EVERY: Duration = Duration::from_secs(30);
const TRIM_EVERY: Duration = Duration::from_secs(10);

struct State {
    window: Window,
    tail: Option<Tail>,
    status: HotStatus,
    last_load: Option<Instant>,
    last_trim: Instant,
    bytes: usize,
}

/// Owns the window and keeps it up with the log.
pub struct Follower {
    config: HotConfig,
    state: RwLock<State>,
}

impl Follower {
    /// A follower that has read nothing yet; call [`load`](Self::load) from a thread that may block.
    #[must_use]
    pub fn new(config: HotConfig) -> Arc<Self> {
        let state = RwLock::new(State {
            window: Window::new(length_ms(&config)),
            tail: None,
            status: HotStatus::Loading,
            last_load: None,
            last_trim: Instant::now(),
            bytes: 0,
        });
        Arc::new(Self { config, state })
    }

    /// How the window is now.
    #[must_use]
    pub fn status(&self) -> HotStatus {
        self.lock_read().map_or_else(
            |e| HotStatus::Off { reason: e.to_string() },
            |state| match &state.status {
                HotStatus::Ready { .. } => HotStatus::Ready {
                    covered_from_ms: state.window.covered_from(),
                    newest_ms: state.window.newest_t(),
                    series: state.window.len(),
                    bytes: state.bytes,
                },
                other => other.clone(),
            },
        )
    }

    /// Whether the log has to be read (again) from its beginning, and may be by now.
    #[must_use]
    pub fn wants_load(&self) -> bool {
        self.lock_read().is_ok_and(|state| {
            state.tail.is_none()
                && !too_large(&state.status)
                && state.last_load.is_none_or(|at| at.elapsed() >= RELOAD_EVERY)
        })
    }

    /// Reads the log from its beginning. `head_min_ms` asks Prometheus, after the reading, for the
    /// minimum time of its head: the log is whole from there on. Blocks for as long as the reading
    /// takes (the window can't be read meanwhile only at the very end).
    ///
    /// # Errors
    /// Why the window can't be used; it is then [`HotStatus::Off`] until the next load.
    pub fn load(
        &self,
        head_min_ms: impl FnOnce() -> Result<i64, String>,
    ) -> Result<(), SourceError> {
        let begun = Instant::now();
        let loaded = self.read_all(head_min_ms);
        let mut state = self.lock_write()?;
        state.last_load = Some(begun);
        match loaded {
            Ok((window, tail, bytes)) => {
                state.window = window;
                state.tail = Some(tail);
                state.bytes = bytes;
                state.status =
                    HotStatus::Ready { covered_from_ms: 0, newest_ms: 0, series: 0, bytes };
                Ok(())
            }
            Err(reason) => {
                switch_off(&mut state, &self.config, reason.clone());
                Err(SourceError::Unavailable(reason))
            }
        }
    }

    fn read_all(
        &self,
        head_min_ms: impl FnOnce() -> Result<i64, String>,
    ) -> Result<(Window, Tail, usize), String> {
        let mut window = Window::new(length_ms(&self.config));
        let mut tail = Tail::open(&self.config.wal_dir).map_err(|e| e.to_string())?;
        let mut bytes = 0;
        loop {
            let read = tail.poll_some(&mut window, 20_000).map_err(|e| e.to_string())?;
            bytes = window.trim(FORGET_MS).max(bytes * usize::from(read == 0));
            self.check_size(bytes)?;
            if read == 0 {
                break;
            }
        }
        window.raise_covered_from(head_min_ms()?);
        Ok((window, tail, bytes))
    }

    fn check_size(&self, bytes: usize) -> Result<(), String> {
        if bytes <= self.config.bytes_max {
            return Ok(());
        }
        Err(format!(
            "{TOO_LARGE} {bytes} bytes, more than the {} allowed: raise --hot-window-memory or shorten --hot-window",
            self.config.bytes_max
        ))
    }

    /// Reads the log to its end as it is now.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when the window is not ready.
    pub fn catch_up(&self) -> Result<(), SourceError> {
        let mut guard = self.lock_write()?;
        let state = &mut *guard;
        let Some(tail) = &mut state.tail else {
            return Err(SourceError::Unavailable(match &state.status {
                HotStatus::Off { reason } => reason.clone(),
                _ => "the hot window is still loading".to_owned(),
            }));
        };
        if let Err(e) = tail.poll(&mut state.window) {
            let reason = e.to_string();
            switch_off(state, &self.config, reason.clone());
            return Err(SourceError::Unavailable(reason));
        }
        if state.last_trim.elapsed() >= TRIM_EVERY {
            state.last_trim = Instant::now();
            state.bytes = state.window.trim(FORGET_MS);
            if let Err(reason) = self.check_size(state.bytes) {
                switch_off(state, &self.config, reason.clone());
                return Err(SourceError::Unavailable(reason));
            }
        }
        Ok(())
    }

    pub(super) fn read<T>(&self, f: impl FnOnce(&Window) -> T) -> Result<T, SourceError> {
        Ok(f(&self.lock_read()?.window))
    }

    pub(super) fn write<T>(&self, f: impl FnOnce(&mut Window) -> T) -> Result<T, SourceError> {
        Ok(f(&mut self.lock_write()?.window))
    }

    fn lock_read(&self) -> Result<RwLockReadGuard<'_, State>, SourceError> {
        self.state.read().map_err(|_| poisoned())
    }

    fn lock_write(&self) -> Result<RwLockWriteGuard<'_, State>, SourceError> {
        self.state.write().map_err(|_| poisoned())
    }
}

const TOO_LARGE: &str = "the hot window takes";

fn too_large(status: &HotStatus) -> bool {
    matches!(status, HotStatus::Off { reason } if reason.starts_with(TOO_LARGE))
}

fn poisoned() -> SourceError {
    SourceError::Unavailable("the hot window broke while it was being written".to_owned())
}

fn length_ms(config: &HotConfig) -> i64 {
    i64::try_from(config.length.as_millis()).unwrap_or(i64::MAX)
}

fn switch_off(state: &mut State, config: &HotConfig, reason: String) {
    state.window = Window::new(length_ms(config));
    state.tail = None;
    state.bytes = 0;
    state.status = HotStatus::Off { reason };
}
