use super::*;

fn config(directory: &Path) -> SpoolConfig {
    SpoolConfig {
        directory: directory.to_owned(),
        bytes_max: 64 << 20,
        age_max: Duration::from_secs(3600),
        cluster: "eu-1".into(),
    }
}

fn open(config: &SpoolConfig) -> Spool {
    Spool::open(config.clone(), SpoolMetrics::default()).expect("a spool")
}

/// Rows that don't compress well, so that bounds are reached.
fn rows(from: u64, n: u64) -> Vec<Event> {
    let row = |i: u64| {
        let noise: String = (0..40)
            .map(|k| format!("{:x}", (i * 41 + k).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        Event {
            uid: format!("u{i}"),
            count: 1,
            message: noise,
            received_us: now_us(),
            ..Event::default()
        }
    };
    (from..from + n).map(row).collect()
}

fn uids(events: &[Event]) -> Vec<u64> {
    events.iter().map(|e| e.uid[1..].parse().expect("a number")).collect()
}

/// Reads and acknowledges everything.
fn drain(spool: &Spool) -> (Vec<u64>, Vec<Gap>) {
    let (mut all, mut gaps) = (Vec::new(), Vec::new());
    loop {
        let pending = spool.read(1000, 1 << 20).expect("readable");
        if pending.events.is_empty() && pending.gaps.is_empty() {
            return (all, gaps);
        }
        all.extend(uids(&pending.events));
        gaps.extend(pending.gaps.clone());
        spool.acknowledge(&pending).expect("acknowledged");
    }
}

#[test]
fn rows_come_out_in_order_until_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = open(&config(dir.path()));
    spool.append(&rows(0, 1000)).expect("appended");
    spool.append(&rows(1000, 1)).expect("appended");
    let first = spool.read(300, 1 << 20).expect("readable");
    assert_eq!(uids(&first.events), (0..256).collect::<Vec<_>>(), "whole frames");
    assert_eq!(uids(&spool.read(300, 1 << 20).expect("readable").events).len(), 256, "read again");
    spool.acknowledge(&first).expect("acknowledged");
    assert_eq!(spool.len(), 745);
    drop(spool);
    let spool = open(&config(dir.path()));
    assert_eq!(spool.len(), 745, "remembered over a restart");
    assert_eq!(drain(&spool).0, (256..1001).collect::<Vec<_>>());
    assert!(spool.is_empty());
    // Without the acknowledgement everything that is still there comes again: at least once.
    spool.append(&rows(2000, 10)).expect("appended");
    drop(spool);
    std::fs::remove_file(dir.path().join(ACKNOWLEDGED)).expect("removed");
    let (again, _) = drain(&open(&config(dir.path())));
    assert!(again.ends_with(&(2000..2010).collect::<Vec<_>>()));
}

#[test]
fn overflow_drops_the_oldest_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path());
    config.bytes_max = SPOOL_BYTES_LEAST;
    let spool = open(&config);
    for i in 0..100 {
        spool.append(&rows(i * 100, 100)).expect("appended");
    }
    let on_disk: u64 = std::fs::read_dir(dir.path())
        .expect("a directory")
        .map(|e| e.and_then(|e| e.metadata()).map_or(0, |m| m.len()))
        .sum();
    assert!(on_disk <= config.bytes_max + (64 << 10), "{on_disk}");
    assert!(spool.take_lost() && !spool.take_lost());
    drop(spool);
    let (left, gaps) = drain(&open(&config));
    assert_eq!(left.last(), Some(&9999), "the newest are kept");
    assert!(left.windows(2).all(|w| w[0] + 1 == w[1]));
    let [gap] = gaps.as_slice() else { panic!("one gap: {gaps:?}") };
    assert_eq!((gap.reason.as_str(), gap.events), ("spool_bytes", 10_000 - left.len() as u64));
    assert!(gap.from_us > 0 && gap.from_us <= gap.to_us);
}

#[test]
fn old_rows_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = open(&config(dir.path()));
    spool.append(&rows(0, 10)).expect("appended");
    drop(spool);
    std::thread::sleep(Duration::from_millis(2));
    let mut short = config(dir.path());
    short.age_max = Duration::from_millis(1);
    let (left, gaps) = drain(&open(&short));
    assert_eq!((left.len(), gaps[0].reason.as_str(), gaps[0].events), (0, "spool_age", 10));
}

#[test]
fn a_torn_tail_is_cut_at_every_length() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = open(&config(dir.path()));
    spool.append(&rows(0, 3)).expect("appended");
    let whole = std::fs::metadata(segment::path(dir.path(), 1)).expect("there").len();
    spool.append(&rows(3, 2)).expect("appended");
    drop(spool);
    let path = segment::path(dir.path(), 1);
    let bytes = std::fs::read(&path).expect("readable");
    for end in usize::try_from(whole).expect("small")..bytes.len() {
        std::fs::write(&path, &bytes[..end]).expect("written");
        let spool = open(&config(dir.path()));
        assert_eq!(spool.len(), 3, "cut at {end}");
        spool.append(&rows(7, 1)).expect("appended");
        let pending = spool.read(1000, 1 << 20).expect("readable");
        assert_eq!(uids(&pending.events), [0, 1, 2, 7], "cut at {end}");
    }
}

#[test]
fn damage_costs_a_segment_and_is_a_gap() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path());
    config.bytes_max = 2 << 20;
    let spool = open(&config);
    for i in 0..20 {
        spool.append(&rows(i * 100, 100)).expect("appended");
    }
    let segments = spool.inner.lock().segments.clone();
    assert!(segments.len() > 2);
    let second = &segments[1];
    overwrite(&segment::path(dir.path(), second.id), 200, b"????").expect("damaged");
    drop(spool);
    let spool = open(&config);
    let (left, gaps) = drain(&spool);
    assert_eq!((left.first(), left.last()), (Some(&0), Some(&1999)));
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].reason, "spool_damaged");
    assert!(left.len() < 2000 && gaps[0].from_us > 0 && gaps[0].from_us <= gaps[0].to_us);
    spool.append(&rows(5000, 1)).expect("still works");
    assert_eq!(drain(&spool).0, [5000]);
}

#[test]
fn gaps_stay_until_the_hub_has_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = open(&config(dir.path()));
    let gap = Gap { id: "g".into(), reason: "watch_lost".into(), to_us: 7, ..Gap::default() };
    spool.gap(gap.clone()).expect("kept");
    drop(spool);
    let spool = open(&config(dir.path()));
    let pending = spool.read(10, 1000).expect("readable");
    assert_eq!(pending.gaps, [gap]);
    spool.acknowledge(&pending).expect("acknowledged");
    drop(spool);
    assert!(open(&config(dir.path())).read(10, 1000).expect("readable").gaps.is_empty());
}
