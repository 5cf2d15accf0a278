//! What was written is read back before it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use periplus_block::chunk::{ChunkSamples, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_columnar::{Day, PartFile, PartMeta, Resolution};
use periplus_compactor::local;
use periplus_compactor::make::input::{Files, Opened};
use periplus_compactor::make::{self, Job, MakeError};
use periplus_compactor::plan::{Input, Kind, Step};
use periplus_model::Labels;
use ulid::Ulid;

use crate::made_up::START;

const SERIES: usize = 600;

/// Each of a part's files goes bad between being written and being read back.
#[test]
fn a_part_that_is_not_what_it_was_made_from_never_counts() {
    let dir = tempfile::tempdir().unwrap();
    let id = Ulid::generate();
    let mut writer = BlockWriter::create(dir.path(), id).unwrap();
    for n in 0..SERIES {
        let mut samples = ChunkSamples::new();
        (0..240).for_each(|i| samples.push(START + i * 30_000, (n as i64 * i) as f64 / 7.0, 0));
        let labels = Labels::from_pairs([("__name__", "m"), ("n", &format!("{n:04}"))]);
        writer.add(&labels, &encode(&samples).unwrap()).unwrap();
    }
    writer.finish(BlockInfo::default()).unwrap();
    let block = Arc::new(local::open(&dir.path().join(id.to_string())).unwrap());
    let step = Step {
        kind: Kind::Convert,
        stream: BTreeMap::new(),
        replica_labels: Vec::new(),
        day: Day::of_ms(START),
        resolution: Resolution::Raw,
        inputs: vec![Input::Block(id)],
        sources: BTreeSet::from([id]),
        replaces: Vec::new(),
    };
    let meta = PartMeta {
        part: Ulid::generate(),
        external: BTreeMap::new(),
        replica_labels: Vec::new(),
        day: step.day,
        resolution: step.resolution,
        sources: vec![id],
        inputs: Vec::new(),
        promoted: Vec::new(),
    };
    let make = |spoilt: Option<PartFile>| {
        let out = tempfile::tempdir().unwrap();
        // Asked every 256 series: twice while the part is written, the third time while it is read back.
        let asked = AtomicU32::new(0);
        let go_on = || {
            if asked.fetch_add(1, Ordering::Relaxed) == 2
                && let Some(file) = spoilt
            {
                let path = out.path().join(file.name());
                let mut bytes = std::fs::read(&path).unwrap();
                let at = bytes.len() * 3 / 5;
                bytes[at..at + 8].iter_mut().for_each(|b| *b ^= 0x55);
                std::fs::write(&path, bytes).unwrap();
            }
            true
        };
        let files = Files::Block(Arc::clone(&block), Resolution::Raw);
        let inputs = vec![Opened { input: Input::Block(id), group: 0, files }];
        let meta = meta.clone();
        let job = Job { step: &step, meta, inputs, erasures: Vec::new(), go_on: &go_on };
        make::make(&job, out.path()).map_err(Box::new)
    };
    assert_eq!(make(None).unwrap().samples, SERIES as u64 * 240);
    let error = make(Some(PartFile::Samples)).unwrap_err();
    assert!(matches!(*error, MakeError::Differs(_)), "{error}");
    let name = meta.directory();
    assert!(error.to_string().contains(&name), "{error}");
}
