//! `topk`, `bottomk`, `limitk`: the best series of each group at each step.
//!
//! Per group and step a heap of at most k entries whose root is the worst kept, so that most values
//! are refused by one comparison. Ties are broken by labels, which makes the result independent of
//! the order of input, and so of how series were divided.

use std::cmp::Ordering;
use std::sync::Arc;

use ahash::AHashMap;
use periplus_model::{FloatHistogram, Labels};

use crate::annotations::{Annotation, Annotations};
use crate::exec::row::Row;
use crate::parse::ast::Span;
use crate::partial::{PartialGroup, PartialHistogram, PartialKind};
use crate::value::Bitmap;

/// A candidate: its value and which series it is.
#[derive(Clone, Copy, Debug)]
struct Entry {
    value: f64,
    series: u32,
}

/// How candidates are ordered.
#[derive(Clone, Copy, Debug)]
enum By {
    Largest,
    Smallest,
    Labels,
}

struct Member {
    group: Labels,
    labels: Labels,
    drop_name: bool,
}

/// The heaps of a group, one a step, in one piece of memory: each has room for `room` entries, and
/// all get more at once. A group of one series then costs one entry a step.
struct Heaps {
    room: usize,
    entries: Vec<Entry>,
    lens: Vec<u32>,
    /// What a value must not be worse than to have a chance, side by side so that a whole series is
    /// compared at once: that of the root where a heap is full.
    bar: Vec<f64>,
}

impl Heaps {
    fn new(steps: usize, by: By) -> Self {
        let bar = match by {
            By::Smallest => f64::INFINITY,
            By::Largest | By::Labels => f64::NEG_INFINITY,
        };
        Self { room: 0, entries: Vec::new(), lens: vec![0; steps], bar: vec![bar; steps] }
    }

    /// Which of the 64 steps from `64 * word` on, of those set in `present`, have a value that may be
    /// among the best.
    fn chances(&self, word: usize, present: u64, values: &[f64], by: By) -> u64 {
        let range = word * 64..(word * 64 + 64).min(values.len());
        let (Some(bar), Some(values)) = (self.bar.get(range.clone()), values.get(range)) else {
            return present;
        };
        let worse = match by {
            By::Labels => 0,
            By::Largest => mask(values, bar, |v, bar| v < bar),
            By::Smallest => mask(values, bar, |v, bar| v > bar),
        };
        present & !worse
    }

    /// Remembers the root of a full heap.
    fn raise(&mut self, step: usize) {
        let root = self.heap(step).first().map(|e| e.value);
        if let (Some(bar), Some(root)) = (self.bar.get_mut(step), root) {
            *bar = root;
        }
    }

    /// Gives every heap more room, up to `k` entries.
    fn grow(&mut self, k: usize) {
        let room = (self.room * 2).max(1).min(k);
        let none = Entry { value: 0.0, series: 0 };
        let mut entries = vec![none; room * self.lens.len()];
        for (step, len) in self.lens.iter().enumerate() {
            let (from, to) = (step * self.room, step * room);
            let len = *len as usize;
            if let (Some(to), Some(from)) =
                (entries.get_mut(to..to + len), self.entries.get(from..from + len))
            {
                to.copy_from_slice(from);
            }
        }
        (self.entries, self.room) = (entries, room);
    }

    fn heap(&self, step: usize) -> &[Entry] {
        let len = self.lens.get(step).map_or(0, |n| *n as usize);
        self.entries.get(step * self.room..step * self.room + len).unwrap_or(&[])
    }

    fn heap_mut(&mut self, step: usize) -> &mut [Entry] {
        let len = self.lens.get(step).map_or(0, |n| *n as usize);
        self.entries.get_mut(step * self.room..step * self.room + len).unwrap_or(&mut [])
    }

    /// Appends to a heap that has fewer than `k`.
    fn push(&mut self, step: usize, e: Entry, k: usize) {
        let Some(len) = self.lens.get(step).map(|n| *n as usize) else { return };
        if len == self.room {
            self.grow(k);
        }
        if let Some(slot) = self.entries.get_mut(step * self.room + len) {
            *slot = e;
        }
        if let Some(n) = self.lens.get_mut(step) {
            *n += 1;
        }
    }

    fn bytes(&self) -> usize {
        self.entries.len() * 16 + self.lens.len() * 12
    }
}

/// A bit for each of up to 64 pairs that pass, lowest first.
#[inline(always)]
fn mask(values: &[f64], bars: &[f64], test: impl Fn(f64, f64) -> bool) -> u64 {
    // Mostly all of them do, and a count is made of several pairs at a time.
    let passed: usize = values.iter().zip(bars).map(|(v, bar)| usize::from(test(*v, *bar))).sum();
    if passed == values.len() {
        return u64::MAX;
    }
    let bits = values.iter().zip(bars).enumerate();
    bits.fold(0, |mask, (i, (v, bar))| mask | u64::from(test(*v, *bar)) << i)
}

pub(crate) struct Best {
    kind: PartialKind,
    by: By,
    k: usize,
    /// The k of each step, where they differ; none above `k`.
    k_at: Option<Arc<Vec<u64>>>,
    steps: usize,
    members: Vec<Member>,
    ids: AHashMap<Labels, usize>,
    groups: Vec<Heaps>,
    /// Histograms by (series, step), for `limitk`.
    hist: AHashMap<(u32, u32), Arc<FloatHistogram>>,
    /// Bytes of all heaps and members.
    bytes: usize,
}

/// The order of the result: best first. NaN is worst, whichever way.
fn order(by: By, members: &[Member], a: &Entry, b: &Entry) -> Ordering {
    let by_value = match by {
        By::Labels => Ordering::Equal,
        By::Largest => by_value(b.value, a.value, a.value.is_nan(), b.value.is_nan()),
        By::Smallest => by_value(a.value, b.value, a.value.is_nan(), b.value.is_nan()),
    };
    by_value.then_with(|| {
        let label = |e: &Entry| members.get(e.series as usize).map(|m| &m.labels);
        label(a).cmp(&label(b))
    })
}

fn by_value(x: f64, y: f64, a_nan: bool, b_nan: bool) -> Ordering {
    match (a_nan, b_nan) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ => x.partial_cmp(&y).unwrap_or(Ordering::Equal),
    }
}

/// Moves the root of a heap down to where it belongs; the worst is on top.
fn sift_down(heap: &mut [Entry], worse: &impl Fn(&Entry, &Entry) -> bool) {
    let mut i = 0;
    loop {
        let (l, r) = (2 * i + 1, 2 * i + 2);
        let mut top = i;
        if l < heap.len() && worse(&heap[l], &heap[top]) {
            top = l;
        }
        if r < heap.len() && worse(&heap[r], &heap[top]) {
            top = r;
        }
        if top == i {
            return;
        }
        heap.swap(i, top);
        i = top;
    }
}

fn sift_up(heap: &mut [Entry], worse: &impl Fn(&Entry, &Entry) -> bool) {
    let mut i = heap.len().saturating_sub(1);
    while i > 0 {
        let parent = (i - 1) / 2;
        if !worse(&heap[i], &heap[parent]) {
            return;
        }
        heap.swap(i, parent);
        i = parent;
    }
}

impl Best {
    pub(crate) fn new(kind: PartialKind, steps: usize, k_at: Option<Arc<Vec<u64>>>) -> Self {
        let (by, k) = match kind {
            PartialKind::Topk { k } => (By::Largest, k),
            PartialKind::Bottomk { k } => (By::Smallest, k),
            PartialKind::Limitk { k } => (By::Labels, k),
            _ => (By::Labels, 0),
        };
        Self {
            kind,
            by,
            k: usize::try_from(k).unwrap_or(usize::MAX),
            k_at,
            steps,
            members: Vec::new(),
            ids: AHashMap::new(),
            groups: Vec::new(),
            hist: AHashMap::new(),
            bytes: 0,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether nothing has been taken in.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn offer(&mut self, group: usize, step: usize, e: Entry) {
        let by = self.by;
        let k = match &self.k_at {
            Some(all) => all.get(step).map_or(0, |k| *k as usize),
            None => self.k,
        };
        let members = &self.members;
        let Some(heaps) = self.groups.get_mut(group) else { return };
        let worse = |a: &Entry, b: &Entry| order(by, members, a, b) == Ordering::Greater;
        let heap = heaps.heap_mut(step);
        if heap.len() < k {
            let before = heaps.bytes();
            heaps.push(step, e, self.k);
            self.bytes += heaps.bytes() - before;
            let heap = heaps.heap_mut(step);
            sift_up(heap, &worse);
            if heap.len() == k {
                heaps.raise(step);
            }
            return;
        }
        let Some(root) = heap.first_mut() else { return };
        // Most values are clearly worse than the worst kept.
        match by {
            By::Largest if e.value < root.value => return,
            By::Smallest if e.value > root.value => return,
            _ => {}
        }
        if worse(root, &e) {
            *root = e;
            sift_down(heap, &worse);
            heaps.raise(step);
        }
    }

    fn group_id(&mut self, group: Labels) -> usize {
        let next = self.groups.len();
        let id = *self.ids.entry(group).or_insert(next);
        if id == next {
            let heaps = Heaps::new(self.steps, self.by);
            self.bytes += heaps.bytes();
            self.groups.push(heaps);
        }
        id
    }

    fn member(&mut self, group: Labels, labels: Labels, drop_name: bool) -> u32 {
        self.bytes += 64;
        self.members.push(Member { group, labels, drop_name });
        (self.members.len() - 1) as u32
    }

    /// Takes in a series.
    pub(crate) fn add(
        &mut self,
        group: Labels,
        row: &Row,
        span: Span,
        annotations: &mut Annotations,
    ) {
        if self.k == 0 {
            return;
        }
        let keeps_histograms = matches!(self.kind, PartialKind::Limitk { .. });
        if !row.hist.is_empty() && !keeps_histograms {
            let name =
                if matches!(self.kind, PartialKind::Topk { .. }) { "topk" } else { "bottomk" };
            annotations.add(Annotation::histogram_ignored_in_aggregation(name, span));
        }
        let id = self.group_id(group.clone());
        if !row.hist.is_empty() {
            let series = self.member(group, row.labels.clone(), row.drop_name);
            for i in row.present.ones() {
                if let Some(h) = row.histogram(i) {
                    if !keeps_histograms {
                        continue;
                    }
                    self.hist.insert((series, i as u32), Arc::clone(h));
                }
                self.offer(id, i, Entry { value: row.values[i], series });
            }
            return;
        }
        // Most series have no chance at any step, and nothing is kept of them.
        let (mut group, mut known) = (Some(group), None);
        for (word, present) in row.present.words().iter().enumerate() {
            let Some(heaps) = self.groups.get(id) else { return };
            let mut chances = heaps.chances(word, *present, &row.values, self.by);
            while chances != 0 {
                let i = word * 64 + chances.trailing_zeros() as usize;
                chances &= chances - 1;
                let series = *known.get_or_insert_with(|| {
                    let group = group.take().unwrap_or_default();
                    self.member(group, row.labels.clone(), row.drop_name)
                });
                self.offer(id, i, Entry { value: row.values[i], series });
            }
        }
    }

    /// Takes in what another part of the same run kept.
    pub(crate) fn merge(&mut self, other: Self) {
        let Self { members, groups, mut hist, ids, .. } = other;
        let mut places: Vec<Option<u32>> = vec![None; members.len()];
        let mut labels: Vec<Labels> = vec![Labels::empty(); groups.len()];
        for (l, id) in ids {
            if let Some(slot) = labels.get_mut(id) {
                *slot = l;
            }
        }
        for (heaps, group) in groups.iter().zip(labels) {
            let id = self.group_id(group.clone());
            for i in 0..self.steps {
                for e in heaps.heap(i) {
                    let at = e.series as usize;
                    let (Some(place), Some(m)) = (places.get_mut(at), members.get(at)) else {
                        continue;
                    };
                    let series = match *place {
                        Some(known) => known,
                        None => {
                            let new = self.member(group.clone(), m.labels.clone(), m.drop_name);
                            *place = Some(new);
                            new
                        }
                    };
                    if let Some(h) = hist.remove(&(e.series, i as u32)) {
                        self.hist.insert((series, i as u32), h);
                    }
                    self.offer(id, i, Entry { value: e.value, series });
                }
            }
        }
    }

    /// Takes in what another part kept.
    pub(crate) fn add_partial(&mut self, g: PartialGroup) {
        let id = self.group_id(g.group.clone());
        let series = self.member(g.group, g.labels, g.drop_name);
        for h in g.histograms {
            self.hist.insert((series, h.step), h.value);
        }
        let values = g.columns.into_iter().next().unwrap_or_default();
        for i in g.present.ones() {
            let value = values.get(i).copied().unwrap_or(f64::NAN);
            self.offer(id, i, Entry { value, series });
        }
    }

    /// The series kept, each with the steps at which it is among the best, in order of group and
    /// labels.
    pub(crate) fn finish(self) -> Vec<PartialGroup> {
        let Self { members, groups, hist, steps, .. } = self;
        let mut out: Vec<Option<PartialGroup>> = (0..members.len()).map(|_| None).collect();
        for (i, e) in groups
            .iter()
            .flat_map(|g| (0..steps).flat_map(move |i| g.heap(i).iter().map(move |e| (i, e))))
        {
            let at = e.series as usize;
            let (Some(slot), Some(m)) = (out.get_mut(at), members.get(at)) else { continue };
            let g = slot.get_or_insert_with(|| PartialGroup {
                group: m.group.clone(),
                labels: m.labels.clone(),
                drop_name: m.drop_name,
                columns: vec![vec![0.0; steps]],
                present: Bitmap::new(steps, false),
                flags: Vec::new(),
                histograms: Vec::new(),
            });
            g.present.set(i, true);
            if let Some(h) = hist.get(&(e.series, i as u32)) {
                let value = Arc::clone(h);
                g.histograms.push(PartialHistogram { step: i as u32, value, compensation: None });
            } else if let Some(slot) = g.columns.first_mut().and_then(|c| c.get_mut(i)) {
                *slot = e.value;
            }
        }
        let mut out: Vec<PartialGroup> = out.into_iter().flatten().collect();
        for g in &mut out {
            g.histograms.sort_by_key(|h| h.step);
        }
        out.sort_by(|a, b| (&a.group, &a.labels).cmp(&(&b.group, &b.labels)));
        out
    }
}

/// Sorts the rows of an instant result: group by group, best first.
pub(crate) fn sort_instant(kind: PartialKind, groups: &mut [PartialGroup]) {
    let value = |g: &PartialGroup| g.columns.first().and_then(|c| c.first()).copied();
    groups.sort_by(|a, b| {
        let (x, y) = (value(a).unwrap_or(f64::NAN), value(b).unwrap_or(f64::NAN));
        let by = match kind {
            PartialKind::Topk { .. } => by_value(y, x, x.is_nan(), y.is_nan()),
            PartialKind::Bottomk { .. } => by_value(x, y, x.is_nan(), y.is_nan()),
            _ => Ordering::Equal,
        };
        a.group.cmp(&b.group).then(by).then_with(|| a.labels.cmp(&b.labels))
    });
}
