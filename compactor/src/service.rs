//! Rounds of all there is to do, again and again, with other compactors beside this one.
//!
//! A round looks at the bucket, sets aside what is bad, and then works stream by stream: each that has
//! something to do and whose lease is free. A stream is leased without its replica labels, for replicas are
//! merged. A lease keeps two compactors from doing the same work; that they don't *commit* the same work is
//! the catalog's to see, which refuses a part whose sources another part of that day has already.

pub mod delete;
mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use periplus_bucket::blocks::Progress;
use periplus_bucket::catalog::Catalog;
use periplus_bucket::lease::Lease;
use periplus_bucket::upload::{UploadOptions, Uploader};
use periplus_bucket::{Bucket, BucketError, Key};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::clean;
use crate::committed::{self, Committed};
use crate::config::Config;
use crate::discover::{Blocks, Looked};
use crate::erase::{self, Erasure};
use crate::local::WorkDir;
use crate::metrics::{Metrics, Reason};
use crate::plan::{self, Input, Kind, Stream, Subject, World, reduced};
use crate::quarantine::{self, Quarantined};
use crate::work::{WorkError, Worker};

/// Orphans are looked for in every so many rounds: that lists all of the history.
const ORPHANS_EVERY: u64 = 60;

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps that were committed, by kind.
    pub done: BTreeMap<Kind, usize>,
    /// What was set aside in this round.
    pub quarantined: Vec<(Subject, String)>,
    /// Commits that another compactor was before with.
    pub conflicts: usize,
    /// Parts removed because they are too old.
    pub expired: usize,
    /// Streams with work that another compactor has.
    pub theirs: Vec<String>,
    /// What was cleaned up.
    pub cleaned: clean::Cleaned,
    /// Samples written.
    pub samples: u64,
}

impl Report {
    /// How many steps were done.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.done.values().sum()
    }
}

/// One compactor.
pub struct Compactor {
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) bucket: Bucket,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) worker: Worker,
    pub(crate) progress: Mutex<Box<dyn Progress>>,
    blocks: Blocks,
    /// Tells this process from others.
    pub(crate) owner: String,
    told: BTreeSet<Subject>,
    rounds: u64,
    /// They are kept from round to round: whose owner has not written for its time is known only to who has
    /// seen it before.
    leases: Mutex<BTreeMap<String, SharedLease>>,
}

/// A lease that is renewed beside the work it is for.
pub(crate) type SharedLease = Arc<tokio::sync::Mutex<Lease>>;

impl std::fmt::Debug for Compactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compactor").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// What was found at the beginning of a round.
pub(crate) struct Found {
    pub(crate) looked: Looked,
    pub(crate) quarantined: BTreeSet<Subject>,
    pub(crate) deletions: Vec<Erasure>,
    pub(crate) now_ms: i64,
}

impl Found {
    /// The world with what is committed now.
    pub(crate) fn world(&self, committed: &Committed) -> World {
        World {
            blocks: self.looked.blocks.clone(),
            parts: committed.infos.clone(),
            quarantined: self.quarantined.clone(),
            now_ms: self.now_ms,
        }
    }
}

impl Compactor {
    /// A compactor of a bucket. Nothing is asked of the bucket yet.
    ///
    /// # Errors
    /// The working directory can't be made.
    pub fn new(
        bucket: Bucket,
        config: Config,
        metrics: Metrics,
        progress: Box<dyn Progress>,
    ) -> Result<Self, WorkError> {
        let dir = WorkDir::new(config.work_dir.as_deref());
        let dir = Arc::new(dir.map_err(|e| WorkError::Disk(e.to_string()))?);
        let uploader = Arc::new(Uploader::new(UploadOptions::default()));
        let promoted = config.promoted.clone().into();
        Ok(Self {
            worker: Worker { bucket: bucket.clone(), dir, uploader, promoted },
            catalog: Catalog::new(bucket.clone()),
            owner: config.owner.clone().unwrap_or_else(|| Ulid::generate().to_string()),
            progress: Mutex::new(progress),
            blocks: Blocks::default(),
            told: BTreeSet::new(),
            rounds: 0,
            leases: Mutex::default(),
            config,
            metrics,
            bucket,
        })
    }

    /// Works until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut last_error = String::new();
        loop {
            match self.round(&stop).await {
                Ok(report) => {
                    last_error.clear();
                    self.tell(&report);
                    if report.steps() > 0 {
                        // What was made may be what more is made of.
                        continue;
                    }
                }
                Err(WorkError::Ended) if stop.is_cancelled() => return,
                Err(error) => {
                    self.metrics.failures.get_or_create(&Reason { reason: error.kind() }).inc();
                    let text = error.to_string();
                    if text == last_error {
                        tracing::debug!(%error, "compaction");
                    } else {
                        tracing::error!(%error, "compaction; it goes on");
                    }
                    last_error = text;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.interval) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Rounds until nothing is left to do for this process.
    ///
    /// # Errors
    /// The first round that fails.
    pub async fn once(&mut self, stop: &CancellationToken) -> Result<Report, WorkError> {
        let mut all = Report::default();
        loop {
            let report = self.round(stop).await?;
            self.tell(&report);
            let goes_on = report.steps() > 0;
            for (kind, n) in report.done {
                *all.done.entry(kind).or_default() += n;
            }
            all.quarantined.extend(report.quarantined);
            all.conflicts += report.conflicts;
            all.expired += report.expired;
            all.samples += report.samples;
            all.cleaned.add(&report.cleaned);
            all.theirs = report.theirs;
            if !goes_on {
                return Ok(all);
            }
        }
    }

    fn tell(&self, report: &Report) {
        if report.steps() > 0 {
            let done: Vec<_> =
                report.done.iter().map(|(kind, n)| format!("{} {n}", kind.as_str())).collect();
            tracing::info!(steps = done.join(", "), samples = report.samples, "parts made");
        }
    }

    fn now_ms(&self) -> i64 {
        self.config.now_ms.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond())
    }

    /// Everything once: looks, works on each stream whose lease is free, drops what is too old, cleans up.
    ///
    /// # Errors
    /// The store refuses or does not answer; no room on disk; asked to end.
    pub async fn round(&mut self, stop: &CancellationToken) -> Result<Report, WorkError> {
        let mut report = Report::default();
        let mut found = self.look(&mut report).await?;
        let committed = committed::load(&self.catalog).await?;
        self.measure(&found, &committed);
        for stream in self.streams(&found, &committed) {
            if stop.is_cancelled() {
                return Err(WorkError::Ended);
            }
            self.work_on(&stream, &mut found, &mut report, stop).await?;
        }
        self.clean(&found, &mut report).await?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this age are exact")]
        self.metrics.last_round.set(self.now_ms() as f64 / 1e3);
        Ok(report)
    }

    async fn look(&mut self, report: &mut Report) -> Result<Found, WorkError> {
        let looked = self.blocks.look(&self.bucket).await?;
        let there = quarantine::list(&self.bucket).await?;
        let mut quarantined: BTreeSet<Subject> = there.into_keys().collect();
        for (id, stream, reason) in &looked.bad {
            if quarantined.insert(Subject::Block(*id)) {
                self.set_aside(&Subject::Block(*id), stream, reason, report).await?;
            }
        }
        let mut deletions = Vec::new();
        for deletion in erase::deletions(&self.bucket).await? {
            match deletion.erasure() {
                Ok(erasure) => deletions.push(erasure),
                Err(error) => {
                    tracing::error!(id = %deletion.id, %error, "a deletion is not carried out");
                }
            }
        }
        self.metrics.partial.set(i64::try_from(looked.partial).unwrap_or(i64::MAX));
        self.metrics.quarantined.set(i64::try_from(quarantined.len()).unwrap_or(i64::MAX));
        Ok(Found { looked, quarantined, deletions, now_ms: self.now_ms() })
    }

    /// Quarantines something; logged once.
    pub(crate) async fn set_aside(
        &mut self,
        subject: &Subject,
        stream: &str,
        reason: &str,
        report: &mut Report,
    ) -> Result<(), WorkError> {
        quarantine::put(&self.bucket, subject, &Quarantined::now(stream, reason)).await?;
        if self.told.insert(subject.clone()) {
            tracing::error!(%subject, stream, reason, "quarantined; the rest goes on");
        }
        report.quarantined.push((subject.clone(), reason.to_owned()));
        Ok(())
    }

    /// Streams, without replica labels, that have something to do. Two compactors begin at different
    /// ones.
    fn streams(&self, found: &Found, committed: &Committed) -> Vec<Stream> {
        let world = found.world(committed);
        let labels = &self.config.policy.replica_labels;
        let mut streams: BTreeSet<Stream> = BTreeSet::new();
        for step in group::steps(&world, &self.config.policy, &found.deletions) {
            streams.insert(reduced(&step.stream, labels));
        }
        for part in group::expired(&world, &self.config.policy) {
            let part = world.parts.iter().find(|p| p.id == part);
            streams.extend(part.map(|p| reduced(&p.stream, labels)));
        }
        let mut streams: Vec<Stream> = streams.into_iter().collect();
        let start = self.owner.bytes().map(usize::from).sum::<usize>();
        if !streams.is_empty() {
            let middle = start % streams.len();
            streams.rotate_left(middle);
        }
        streams
    }

    /// The backlog.
    fn measure(&self, found: &Found, committed: &Committed) {
        let world = found.world(committed);
        let steps = plan::steps(&world, &self.config.policy);
        let waiting: BTreeSet<Ulid> = steps
            .iter()
            .flat_map(|s| &s.inputs)
            .filter_map(|input| match input {
                Input::Block(id) => Some(*id),
                Input::Part(_) => None,
            })
            .collect();
        let blocks = || world.blocks.iter().filter(|b| waiting.contains(&b.id));
        let bytes: u64 = blocks().map(|b| b.bytes).sum();
        let oldest = blocks().map(|b| b.max_t).min();
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.waiting.set(number(steps.len()));
        self.metrics.backlog_blocks.set(number(waiting.len()));
        self.metrics.backlog_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        #[expect(clippy::cast_precision_loss, reason = "minutes for people")]
        let minutes = oldest.map_or(0.0, |t| found.now_ms.saturating_sub(t).max(0) as f64 / 6e4);
        self.metrics.backlog_minutes.set(minutes);
    }

    async fn clean(&mut self, found: &Found, report: &mut Report) -> Result<(), WorkError> {
        let committed = committed::load(&self.catalog).await?;
        let all: Vec<_> = self.blocks.found().cloned().collect();
        let world = found.world(&committed);
        let with_orphans = self.rounds.is_multiple_of(ORPHANS_EVERY);
        self.rounds += 1;
        report.cleaned = clean::run(self, &all, &world, with_orphans).await?;
        Ok(())
    }

    /// Bytes this process sent to the bucket.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.metrics.bytes.get()
    }

    /// This process's view of the lease `periplus/leases/compactor/NAME.json`.
    ///
    /// # Errors
    /// None in practice: names are made of letters and digits.
    pub(crate) fn lease(&self, name: &str, subject: &str) -> Result<SharedLease, WorkError> {
        let key = Key::parse(&format!("periplus/leases/compactor/{name}.json"));
        let key = key.map_err(BucketError::from)?;
        let about = format!("periplus compactor, process {}", std::process::id());
        let (bucket, ttl) = (self.bucket.clone(), self.config.lease);
        let new = || Lease::new(bucket, key, &self.owner, &about, subject, ttl);
        let mut leases = self.leases.lock();
        let lease = leases.entry(name.to_owned());
        Ok(Arc::clone(lease.or_insert_with(|| Arc::new(tokio::sync::Mutex::new(new())))))
    }

    /// How often a lease is renewed.
    pub(crate) fn lease_tick(&self) -> Duration {
        (self.config.lease / 4).max(Duration::from_millis(20))
    }
}
