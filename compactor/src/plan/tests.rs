use super::*;

const DAY_MS: i64 = 86_400_000;

fn stream(replica: &str) -> Stream {
    Stream::from([("cluster".into(), "c".into()), ("replica".into(), replica.into())])
}

fn ids(of: &[u128]) -> BTreeSet<Ulid> {
    of.iter().map(|n| Ulid::from(*n)).collect()
}

fn block(id: u128, replica: &str, days: (i64, i64), sources: &[u128]) -> BlockInfo {
    BlockInfo {
        id: Ulid::from(id),
        stream: stream(replica),
        resolution: Resolution::Raw,
        min_t: days.0 * DAY_MS,
        max_t: days.1 * DAY_MS - 1,
        sources: ids(sources),
        bytes: 1,
        samples: 1,
        is_going: false,
        no_compact: false,
        no_downsample: false,
    }
}

fn policy() -> Policy {
    Policy { replica_labels: vec!["replica".into()], ..Policy::default() }
}

/// What carrying a step out does to the catalog.
fn carry_out(world: &mut World, step: &Step, id: u128) {
    for gone in &step.replaces {
        assert!(world.parts.iter().any(|p| p.id == *gone), "{gone} is not there");
    }
    world.parts.retain(|p| !step.replaces.contains(&p.id));
    let clash = world.parts.iter().find(|p| {
        let same = p.stream == step.stream && p.day == step.day && p.resolution == step.resolution;
        same && !p.sources.is_disjoint(&step.sources)
    });
    assert_eq!(clash, None, "counted twice");
    world.parts.push(PartInfo {
        id: Ulid::from(id),
        stream: step.stream.clone(),
        replica_labels: step.replica_labels.clone(),
        day: step.day,
        resolution: step.resolution,
        sources: step.sources.clone(),
        inputs: step.inputs.iter().map(ToString::to_string).collect(),
        series: 1,
        bytes: 1,
    });
}

/// Carries out until nothing is left; the kinds of all steps.
fn settle(world: &mut World, policy: &Policy) -> Vec<(Kind, i32, Resolution)> {
    let mut done = Vec::new();
    for _ in 0..20 {
        let steps = steps(world, policy);
        if steps.is_empty() {
            return done;
        }
        for step in steps {
            let id = world.parts.iter().map(|p| u128::from(p.id)).max().unwrap_or(0).max(1 << 40);
            carry_out(world, &step, id + 1);
            done.push((step.kind, step.day.0, step.resolution));
        }
    }
    panic!("it does not end: {done:?}");
}

#[test]
fn a_block_becomes_deltas_by_day_and_a_finer_one_is_covered() {
    // 22 h of day 10 and 2 h of day 11; the compacted block came while its sources are still there.
    let mut world = World {
        blocks: vec![block(1, "a", (10, 11), &[1]), block(2, "a", (10, 12), &[1, 2])],
        now_ms: 12 * DAY_MS,
        ..World::default()
    };
    let first = steps(&world, &policy());
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|s| s.inputs == [Input::Block(Ulid::from(2u128))]));
    let done = settle(&mut world, &policy());
    let converted: Vec<_> = done.iter().filter(|d| d.0 == Kind::Convert).map(|d| d.1).collect();
    assert_eq!(converted, [10, 11]);
    // Day 11 has not settled yet: no 5 m of it.
    assert_eq!(done.iter().filter(|d| d.0 == Kind::Downsample).count(), 2);
    world.now_ms += DAY_MS;
    assert_eq!(settle(&mut world, &policy()).len(), 2);
}

#[test]
fn blocks_of_one_day_are_deltas_until_it_is_over() {
    let mut world = World { now_ms: 10 * DAY_MS + 1, ..World::default() };
    let hours = DAY_MS / 12;
    for n in 0..12u128 {
        let mut b = block(n + 1, "a", (10, 11), &[n + 1]);
        (b.min_t, b.max_t) =
            (10 * DAY_MS + n as i64 * hours, 10 * DAY_MS + (n as i64 + 1) * hours - 1);
        world.blocks.push(b);
        world.now_ms = 10 * DAY_MS + (n as i64 + 1) * hours;
        settle(&mut world, &policy());
        assert!(world.parts.len() <= policy().parts_max);
    }
    assert!(world.parts.len() > 1);
    world.now_ms += policy().settle_ms + 1;
    let done = settle(&mut world, &policy());
    assert_eq!(
        done.iter().map(|d| d.0).collect::<Vec<_>>(),
        [Kind::Merge, Kind::Downsample, Kind::Downsample]
    );
    let raw: Vec<_> = world.parts.iter().filter(|p| p.resolution == Resolution::Raw).collect();
    assert_eq!(raw.len(), 1);
    assert_eq!(raw[0].sources.len(), 12);

    // One that comes late joins, and what was derived is made anew.
    let mut late = block(99, "a", (10, 11), &[99]);
    late.max_t = late.min_t + hours;
    world.blocks.push(late);
    let done = settle(&mut world, &policy());
    assert_eq!(
        done.iter().map(|d| d.0).collect::<Vec<_>>(),
        [Kind::Convert, Kind::Downsample, Kind::Downsample]
    );
    assert_eq!(world.parts.len(), 3);
    assert!(world.parts.iter().all(|p| p.sources.len() == 13));
}

#[test]
fn a_compacted_block_takes_the_place_of_its_deltas_only_where_they_were_never_made() {
    let mut world = World {
        blocks: vec![block(1, "a", (10, 11), &[1])],
        now_ms: 12 * DAY_MS,
        ..World::default()
    };
    settle(&mut world, &policy());
    // Thanos compacts: nothing new in it.
    world.blocks = vec![block(5, "a", (10, 11), &[1])];
    assert_eq!(settle(&mut world, &policy()), []);
    // With one that was never seen.
    world.blocks = vec![block(6, "a", (10, 11), &[1, 2])];
    let done = settle(&mut world, &policy());
    assert_eq!(done[0].0, Kind::Convert);
    assert!(world.parts.iter().all(|p| p.sources == ids(&[1, 2])));
    // One that shares a source without having all of them: both become one.
    world.blocks = vec![block(7, "a", (10, 11), &[2, 3])];
    settle(&mut world, &policy());
    assert!(world.parts.iter().all(|p| p.sources == ids(&[1, 2, 3])), "{:?}", world.parts);
}

#[test]
fn replicas_are_merged_and_kept() {
    let mut world = World {
        blocks: vec![block(1, "a", (10, 11), &[1]), block(2, "b", (10, 11), &[2])],
        now_ms: 12 * DAY_MS,
        ..World::default()
    };
    let done = settle(&mut world, &policy());
    assert_eq!(done.iter().filter(|d| d.0 == Kind::Deduplicate).count(), 1);
    // 5 m and 1 h of the merged one alone.
    assert_eq!(world.parts.len(), 5);
    let merged = reduced(&stream("a"), &policy().replica_labels);
    let of = |s: &Stream| world.parts.iter().filter(|p| p.stream == *s).count();
    assert_eq!((of(&stream("a")), of(&stream("b")), of(&merged)), (1, 1, 3));
    // A late block of one replica: the merged one is made anew.
    world.blocks.push(block(3, "b", (10, 11), &[3]));
    let kinds: Vec<_> = settle(&mut world, &policy()).iter().map(|d| d.0).collect();
    assert_eq!(kinds, [Kind::Convert, Kind::Deduplicate, Kind::Downsample, Kind::Downsample]);
    assert_eq!(world.parts.len(), 5);
    // Without replica labels each replica is a stream.
    let mut alone = World { parts: Vec::new(), ..world.clone() };
    settle(&mut alone, &Policy::default());
    assert_eq!(alone.parts.len(), 6);
}

#[test]
fn thanos_has_downsampled_already() {
    let five = |id, sources: &[u128]| BlockInfo {
        resolution: Resolution::FiveMinutes,
        ..block(id, "a", (10, 11), sources)
    };
    let mut world = World {
        blocks: vec![block(1, "a", (10, 11), &[1, 2]), five(2, &[1, 2])],
        now_ms: 20 * DAY_MS,
        ..World::default()
    };
    let done = settle(&mut world, &policy());
    // 1 h alone is ours.
    let own: Vec<_> = done.iter().filter(|d| d.0 == Kind::Downsample).map(|d| d.2).collect();
    assert_eq!(own, [Resolution::OneHour]);
}

#[test]
fn marks_are_honoured() {
    let mut going = block(1, "a", (10, 11), &[1]);
    going.is_going = true;
    let mut alone = block(2, "a", (10, 11), &[2]);
    alone.no_compact = true;
    let mut plain = block(4, "a", (10, 11), &[4]);
    plain.no_downsample = true;
    let mut world = World {
        blocks: vec![going, alone, block(3, "a", (10, 11), &[3]), plain],
        now_ms: 12 * DAY_MS,
        ..World::default()
    };
    let done = settle(&mut world, &policy());
    assert_eq!(done.iter().map(|d| d.0).collect::<Vec<_>>(), [Kind::Convert, Kind::Convert]);
    let mut sources: Vec<_> = world.parts.iter().map(|p| p.sources.clone()).collect();
    sources.sort();
    assert_eq!(sources, [ids(&[2]), ids(&[3, 4])]);
}

#[test]
fn what_is_quarantined_stops_nothing_else() {
    let mut world = World {
        blocks: vec![
            block(1, "a", (10, 12), &[1]),
            block(2, "a", (10, 12), &[1, 2]),
            block(3, "a", (11, 12), &[3]),
        ],
        now_ms: 14 * DAY_MS,
        ..World::default()
    };
    // The compacted block is bad: its source steps in.
    world.quarantined.insert(Subject::Block(Ulid::from(2u128)));
    world.quarantined.insert(Subject::BlockDay(Ulid::from(1u128), Day(11)));
    settle(&mut world, &policy());
    let raw = world.parts.iter().filter(|p| p.resolution == Resolution::Raw);
    let mut there: Vec<_> = raw.map(|p| (p.day.0, p.sources.clone())).collect();
    there.sort();
    assert_eq!(there, [(10, ids(&[1])), (11, ids(&[3]))]);
    // A part that turned out bad is made anew from its block.
    let bad = world
        .parts
        .iter()
        .find(|p| p.day == Day(11) && p.resolution == Resolution::Raw)
        .unwrap()
        .id;
    world.quarantined.insert(Subject::Part(bad));
    let done = settle(&mut world, &policy());
    assert_eq!(done[0], (Kind::Convert, 11, Resolution::Raw));
    assert!(world.parts.iter().all(|p| p.id != bad));
}

#[test]
fn what_is_too_old_is_not_made() {
    let retention = crate::retention::Retention::new(vec!["raw=5d,5m=20d,1h=50d".parse().unwrap()]);
    let policy = Policy { retention, ..policy() };
    let mut world = World {
        blocks: vec![block(1, "a", (10, 11), &[1])],
        now_ms: 20 * DAY_MS,
        ..World::default()
    };
    // Raw is over, but 5 m is not and needs it.
    let kinds: Vec<_> = steps(&world, &policy).iter().map(|s| s.kind).collect();
    assert_eq!(kinds, [Kind::Convert]);
    settle(&mut world, &policy);
    world.parts.retain(|p| p.resolution != Resolution::Raw);
    assert_eq!(steps(&world, &policy), []);
    world.parts.clear();
    world.now_ms = 40 * DAY_MS;
    assert_eq!(steps(&world, &policy), []);
}
