//! Memory that does not grow with a block.

use std::process::Command;

use periplus_block::chunk::{ChunkSamples, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_columnar::{Day, PartMeta, Resolution};
use periplus_compactor::local;
use periplus_compactor::make::input::{Files, Opened};
use periplus_compactor::make::{self, Job};
use periplus_compactor::plan::{Input, Kind, Step};
use periplus_model::Labels;
use ulid::Ulid;

use crate::made_up::START;

const BLOCK: &str = "COMPACT_MEMORY_BLOCK";

fn write(dir: &std::path::Path, series: u32) -> std::path::PathBuf {
    let id = Ulid::generate();
    let mut writer = BlockWriter::create(dir, id).unwrap();
    let mut samples = ChunkSamples::new();
    (0..4).for_each(|i| samples.push(START + i * 1_800_000, i as f64, 0));
    let chunks = encode(&samples).unwrap();
    for n in 0..series {
        let pod = format!("some-workload-with-a-name-{n:09}");
        let labels =
            Labels::from_pairs([("__name__", "requests_total"), ("job", "api"), ("pod", &pod)]);
        writer.add(&labels, &chunks).unwrap();
    }
    writer.finish(BlockInfo::default()).unwrap();
    dir.join(id.to_string())
}

/// Not a test of its own: a process that converts a block and says what memory that took.
#[test]
fn converter() {
    let Some(path) = std::env::var_os(BLOCK) else { return };
    let block = std::sync::Arc::new(local::open(path.as_ref()).unwrap());
    let id = block.meta().ulid;
    let step = Step {
        kind: Kind::Convert,
        stream: [("cluster".to_owned(), "c1".to_owned())].into(),
        replica_labels: Vec::new(),
        day: Day::of_ms(START),
        resolution: Resolution::Raw,
        inputs: vec![Input::Block(id)],
        sources: [id].into(),
        replaces: Vec::new(),
    };
    let meta = PartMeta {
        part: Ulid::generate(),
        external: step.stream.clone(),
        replica_labels: Vec::new(),
        day: step.day,
        resolution: step.resolution,
        sources: vec![id],
        inputs: Vec::new(),
        promoted: vec!["job".to_owned(), "pod".to_owned()],
    };
    let files = Files::Block(block, Resolution::Raw);
    let inputs = vec![Opened { input: Input::Block(id), group: 0, files }];
    let job = Job { step: &step, meta, inputs, erasures: Vec::new(), go_on: &|| true };
    let out = tempfile::tempdir().unwrap();
    let made = make::make(&job, out.path()).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("made {} series in {kib} KiB", made.series);
}

/// Of a block with 200,000 series hardly more is in memory than of one with a fifth of them.
#[test]
fn a_block_of_any_size_takes_the_same() {
    let peak = |series: u32| -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), series);
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::converter", "--nocapture", "--test-threads=1"])
            .env(BLOCK, path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let line = said.lines().find_map(|l| l.split_once(&format!("made {series} series in ")));
        let (_, rest) = line.unwrap_or_else(|| panic!("{said}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (small, large) = (peak(40_000), peak(200_000));
    println!("40,000 series: {small} KiB, 200,000: {large} KiB");
    // A row group of each file, and of each series its place in the block and a bit of the Bloom filters.
    assert!(large < 256 << 10, "{large} KiB");
    assert!(large < small + (48 << 10), "{small} KiB, {large} KiB");
}
