//! Work on one stream and its replicas, while its lease lasts.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use periplus_bucket::lease::{Held, Lease};
use periplus_columnar::{Resolution, stream_id};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::{Compactor, Found, Report};
use crate::committed::{self, Commit, Committed};
use crate::erase::{self, Erasure};
use crate::metrics::{Done, Reason};
use crate::plan::{
    self, Input, Kind, PartInfo, Policy, Step, Stream, Subject, World, reduced, stream_name,
};
use crate::work::{Outcome, WorkError};

/// Plans are made again so often at most before other streams have their turn.
const PASSES_MAX: usize = 8;

/// What is to be made and what is to be made anew for what is to be gone.
pub(super) fn steps(world: &World, policy: &Policy, deletions: &[Erasure]) -> Vec<Step> {
    let mut steps = plan::steps(world, policy);
    let busy: BTreeSet<Ulid> = steps.iter().flat_map(|s| s.replaces.clone()).collect();
    for part in world.parts.iter().filter(|p| p.series > 0 && !busy.contains(&p.id)) {
        let noted = erase::noted(&part.inputs);
        let erasures = erasures(part, policy, deletions, world.now_ms);
        let lacks = erasures.iter().any(|e| !noted.contains(e.note().as_str()));
        if lacks && !world.quarantined.contains(&Subject::Part(part.id)) {
            steps.push(Step {
                kind: Kind::Erase,
                stream: part.stream.clone(),
                replica_labels: part.replica_labels.clone(),
                day: part.day,
                resolution: part.resolution,
                inputs: vec![Input::Part(part.id)],
                sources: part.sources.clone(),
                replaces: vec![part.id],
            });
        }
    }
    steps
}

fn erasures(part: &PartInfo, policy: &Policy, deletions: &[Erasure], now_ms: i64) -> Vec<Erasure> {
    of_place((&part.stream, part.resolution, part.day), policy, deletions, now_ms)
}

fn of_place(
    (stream, resolution, day): (&Stream, Resolution, periplus_columnar::Day),
    policy: &Policy,
    deletions: &[Erasure],
    now_ms: i64,
) -> Vec<Erasure> {
    let mut all: Vec<Erasure> =
        erase::concerning(deletions, stream, day).into_iter().cloned().collect();
    all.extend(policy.retention.erasures(stream, resolution, day, now_ms));
    all
}

/// The parts that are too old. Raw ones stay until what is kept for longer was made of them.
pub(super) fn expired(world: &World, policy: &Policy) -> Vec<Ulid> {
    let over = |p: &PartInfo, res| policy.retention.is_over(&p.stream, res, p.day, world.now_ms);
    let has = |p: &PartInfo, res| {
        let one = reduced(&p.stream, &policy.replica_labels);
        world.parts.iter().any(|other| {
            let same = other.stream == p.stream || other.stream == one;
            same && other.day == p.day && other.resolution == res
        })
    };
    let next = |res| match res {
        Resolution::Raw => Some(Resolution::FiveMinutes),
        Resolution::FiveMinutes => Some(Resolution::OneHour),
        Resolution::OneHour => None,
    };
    let is_needed = |p: &PartInfo| {
        policy.downsample && next(p.resolution).is_some_and(|res| !over(p, res) && !has(p, res))
    };
    let gone = world.parts.iter().filter(|p| over(p, p.resolution) && !is_needed(p));
    gone.map(|p| p.id).collect()
}

impl Compactor {
    /// Does what there is to do for a stream, where its lease is free.
    pub(super) async fn work_on(
        &mut self,
        one: &Stream,
        found: &mut Found,
        report: &mut Report,
        stop: &CancellationToken,
    ) -> Result<(), WorkError> {
        let subject = stream_name(one);
        let lease = self.lease(&stream_id(one), &subject)?;
        if let Held::Theirs { .. } = lease.lock().await.hold().await? {
            report.theirs.push(subject);
            return Ok(());
        }
        self.metrics.streams.inc();
        let token = stop.child_token();
        let (keeping, tick) = (Arc::clone(&lease), self.lease_tick());
        let lost = async {
            loop {
                tokio::time::sleep(tick).await;
                let mut lease = keeping.lock().await;
                match lease.hold().await {
                    Ok(Held::Theirs { .. }) => return,
                    Ok(Held::Ours) => {}
                    Err(_) if lease.is_fresh() => {}
                    Err(_) => return,
                }
            }
        };
        let worked = {
            let guard = token.clone().drop_guard();
            let worked = tokio::select! {
                biased;
                worked = self.passes(one, found, report, (&token, &lease)) => Some(worked),
                () = lost => None,
            };
            drop(guard);
            worked
        };
        self.worker.dir.clear();
        self.metrics.streams.dec();
        match worked {
            // Found out at a commit that the lease is another one's.
            Some(Err(WorkError::Ended)) if !stop.is_cancelled() => {
                report.theirs.push(subject);
                Ok(())
            }
            Some(worked) => {
                if let Err(error) = lease.lock().await.release().await {
                    tracing::warn!(%error, "a stream is not given back; it is free when its time is over");
                }
                worked
            }
            None => {
                tracing::warn!(stream = subject, "another compactor has taken the stream over");
                self.metrics.failures.get_or_create(&Reason { reason: "lease" }).inc();
                report.theirs.push(subject);
                Ok(())
            }
        }
    }

    async fn passes(
        &mut self,
        one: &Stream,
        found: &mut Found,
        report: &mut Report,
        (token, lease): (&CancellationToken, &tokio::sync::Mutex<Lease>),
    ) -> Result<(), WorkError> {
        let policy = self.config.policy.clone();
        let is_ours = |s: &Stream| reduced(s, &policy.replica_labels) == *one;
        for _ in 0..PASSES_MAX {
            let committed = committed::load(&self.catalog).await?;
            let world = found.world(&committed);
            let mut steps = steps(&world, &policy, &found.deletions);
            steps.retain(|s| is_ours(&s.stream));
            if steps.is_empty() {
                let mut gone = expired(&world, &policy);
                gone.retain(|id| world.parts.iter().any(|p| p.id == *id && is_ours(&p.stream)));
                if !gone.is_empty() && is_held(lease).await? {
                    let commit = Commit { add: None, remove: committed.references(&gone) };
                    if committed::commit(&self.catalog, &[commit]).await? {
                        report.expired += gone.len();
                        let kind = "expired_part";
                        self.metrics
                            .deleted
                            .get_or_create(&Done { kind })
                            .inc_by(gone.len() as u64);
                    }
                }
                return Ok(());
            }
            if !self.pass(steps, &committed, found, report, (token, lease)).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Carries steps out and commits what they made. Whether anything changed.
    async fn pass(
        &mut self,
        steps: Vec<Step>,
        committed: &Committed,
        found: &mut Found,
        report: &mut Report,
        (token, lease): (&CancellationToken, &tokio::sync::Mutex<Lease>),
    ) -> Result<bool, WorkError> {
        for id in steps.iter().flat_map(|s| &s.inputs).filter_map(block_of) {
            self.worker.dir.expect(id, 1);
        }
        self.progress.lock().more(steps.len() as u64);
        let (worker, policy) = (self.worker.clone(), self.config.policy.clone());
        let (deletions, now_ms) = (found.deletions.clone(), found.now_ms);
        let work = |step: Step| {
            let (worker, token) = (worker.clone(), token.clone());
            let parts = committed.parts.clone();
            let place = (&step.stream, step.resolution, step.day);
            let erasures = of_place(place, &policy, &deletions, now_ms);
            async move {
                let outcome = worker.carry_out(&step, &parts, erasures, &token).await;
                for id in step.inputs.iter().filter_map(block_of) {
                    worker.dir.done(id);
                }
                (step, outcome)
            }
        };
        let mut working = stream::iter(steps.into_iter().map(work))
            .buffer_unordered(self.config.concurrency.max(1));
        let (mut pending, mut changed) = (Pending::default(), false);
        while let Some((step, outcome)) = working.next().await {
            let name = format!("{} {} {}", step.kind.as_str(), stream_name(&step.stream), step.day);
            self.progress.lock().step(&name);
            match outcome? {
                Outcome::Made { part, samples, bytes } => {
                    self.metrics.samples.inc_by(samples);
                    self.metrics.bytes.inc_by(bytes);
                    let remove = committed.references(&step.replaces);
                    pending.commits.push(Commit { add: Some(*part), remove });
                    pending.made.push((step.kind, samples));
                }
                Outcome::Bad { subjects, reason, differs } => {
                    let word = if differs { "differs" } else { "input" };
                    self.metrics.failures.get_or_create(&Reason { reason: word }).inc();
                    for subject in subjects {
                        let stream = stream_name(&step.stream);
                        self.set_aside(&subject, &stream, &reason, report).await?;
                        found.quarantined.insert(subject);
                        changed = true;
                    }
                }
                Outcome::Gone(what) => {
                    tracing::debug!(what, "an input is gone since it was planned");
                }
            }
            if pending.commits.len() >= self.config.commit_parts {
                changed |= self.commit(std::mem::take(&mut pending), report, lease).await?;
            }
        }
        changed |= self.commit(pending, report, lease).await?;
        Ok(changed)
    }

    async fn commit(
        &self,
        pending: Pending,
        report: &mut Report,
        lease: &tokio::sync::Mutex<Lease>,
    ) -> Result<bool, WorkError> {
        if pending.commits.is_empty() {
            return Ok(false);
        }
        if !is_held(lease).await? {
            return Err(WorkError::Ended);
        }
        if committed::commit(&self.catalog, &pending.commits).await? {
            self.count(&pending.made, report);
            return Ok(true);
        }
        // One that does not apply any more must not hold up the others.
        let mut changed = false;
        for (commit, made) in pending.commits.iter().zip(pending.made) {
            if committed::commit(&self.catalog, std::slice::from_ref(commit)).await? {
                self.count(&[made], report);
                changed = true;
            } else {
                report.conflicts += 1;
                self.metrics.failures.get_or_create(&Reason { reason: "conflict" }).inc();
            }
        }
        Ok(changed)
    }

    fn count(&self, made: &[(Kind, u64)], report: &mut Report) {
        for (kind, samples) in made {
            report.samples += samples;
            *report.done.entry(*kind).or_default() += 1;
            self.metrics.steps.get_or_create(&Done { kind: kind.as_str() }).inc();
        }
    }
}

/// Made and sent, but not committed.
#[derive(Default)]
struct Pending {
    commits: Vec<Commit>,
    made: Vec<(Kind, u64)>,
}

async fn is_held(lease: &tokio::sync::Mutex<Lease>) -> Result<bool, WorkError> {
    Ok(matches!(lease.lock().await.hold().await?, Held::Ours))
}

fn block_of(input: &Input) -> Option<Ulid> {
    match input {
        Input::Block(id) => Some(*id),
        Input::Part(_) => None,
    }
}
