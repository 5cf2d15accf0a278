//! The process that is measured: the engine over one block, behind HTTP.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use periplus_block::Block;
use periplus_block::chunk::decode_samples;
use periplus_block::index::{Series, SeriesRef};
use periplus_model::{SampleBuffer, TimeRange};
use periplus_promql::engine::{Engine, EngineConfig, Leaves, QuerySpec};
use periplus_promql::limits::Cancel;
use periplus_promql::parse::parse;
use periplus_promql::source::{
    EncodedSeries, SelectRequest, SeriesEntry, SeriesStream, Source, SourceError,
};
use periplus_promql::value::StepGrid;
use periplus_query::api::json;

use super::http::{parameter, read_head};

/// The first argument of a process that serves; the second is the block.
pub(crate) const ROLE: &str = "serve";

/// Serves on a port of its choice, which it prints, until its standard input ends.
pub(crate) fn run(block: &Path) {
    let source = Arc::new(Stored(Arc::new(Block::open(block).expect("a block"))));
    let engine = Arc::new(Engine::new(&EngineConfig::default()).expect("an engine"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (engine, source) = (Arc::clone(&engine), Arc::clone(&source));
            std::thread::spawn(move || connection(stream.expect("a connection"), &engine, &source));
        }
    });
    let _closed = std::io::stdin().read_line(&mut String::new());
}

fn connection(stream: TcpStream, engine: &Engine, source: &Stored) {
    stream.set_nodelay(true).expect("a socket that sends at once");
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader) {
        let target = head.first().and_then(|l| l.split(' ').nth(1)).expect("a request line");
        let body = answer(target, engine, source);
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let stream = reader.get_mut();
        stream.write_all(head.as_bytes()).expect("a head sent");
        stream.write_all(&body).expect("a body sent");
    }
}

/// What Prometheus's API would say.
fn answer(target: &str, engine: &Engine, source: &Stored) -> impl Deref<Target = [u8]> {
    let field = |name: &str| parameter(target, name).expect("all parameters");
    let ms = |name: &str| field(name).parse::<i64>().expect("whole seconds") * 1000;
    let grid = StepGrid { start_ms: ms("start"), end_ms: ms("end"), step_ms: ms("step") };
    let text = field("query");
    let expr = parse(&text).expect("a query that parses");
    let spec = QuerySpec::range(expr, text, grid);
    let mut w = json::Writer::new();
    match engine.execute(&spec, source, &Leaves::new(), &Cancel::new()) {
        Ok(result) => {
            w.raw(b"{\"status\":\"success\",\"data\":{");
            json::result(&mut w, &result.value, None);
            w.raw(b"}}");
        }
        Err(e) => {
            w.raw(b"{\"status\":\"error\",\"error\":");
            w.string(&e.to_string());
            w.raw(b"}");
        }
    }
    w.finish()
}

/// A block as the engine's source.
struct Stored(Arc<Block>);

impl Source for Stored {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let found = self.0.select(&request.matchers).map_err(corrupt)?;
        Ok(Box::new(Stream {
            block: Arc::clone(&self.0),
            found: found.into_iter(),
            range: request.range,
        }))
    }
}

fn corrupt(e: periplus_block::BlockError) -> SourceError {
    SourceError::Corrupt(e.to_string())
}

struct Stream {
    block: Arc<Block>,
    found: std::vec::IntoIter<SeriesRef>,
    range: TimeRange,
}

impl SeriesStream for Stream {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        let mut entries = Vec::new();
        for reference in self.found.by_ref() {
            let mut series = self.block.series(reference).map_err(corrupt)?;
            series.chunks.retain(|c| c.range.overlaps(&self.range));
            if series.chunks.is_empty() {
                continue;
            }
            let labels = series.labels.clone();
            let samples = Arc::new(OneSeries { block: Arc::clone(&self.block), series });
            entries.push(SeriesEntry { labels, samples });
            if entries.len() == 256 {
                break;
            }
        }
        Ok((!entries.is_empty()).then_some(entries))
    }
}

struct OneSeries {
    block: Arc<Block>,
    series: Series,
}

impl EncodedSeries for OneSeries {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        for chunk in self.series.chunks.iter().filter(|c| c.range.overlaps(&range)) {
            let stored = self.block.chunk(&self.series, chunk).map_err(corrupt)?;
            let encoding = stored.encoding().map_err(|e| SourceError::Corrupt(e.to_string()))?;
            decode_samples(encoding, &stored.payload, range, out)
                .map_err(|e| SourceError::Corrupt(e.to_string()))?;
        }
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        self.series.chunks.len() * 200
    }
}
