//! What is an error at Prometheus is one here, whatever a plan leaves out.

#![expect(clippy::unwrap_used, reason = "a test says what it finds")]

use std::sync::Arc;

use periplus_model::{Labels, SampleBuffer};
use periplus_promql::engine::{Engine, EngineConfig, Leaves, QuerySpec};
use periplus_promql::limits::Cancel;
use periplus_promql::parse::parse;
use periplus_promql::source::{SelectRequest, SeriesEntry, SeriesStream, Source, SourceError};

/// `a` and `b`, of two pods and two jobs each.
struct Few;

struct Once(Option<Vec<SeriesEntry>>);

impl SeriesStream for Once {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        Ok(self.0.take())
    }
}

impl Source for Few {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let mut all = Vec::new();
        for (name, job, pod) in [
            ("a", "x", "0"),
            ("a", "x", "1"),
            ("a", "y", "0"),
            ("b", "x", "0"),
            ("b", "y", "0"),
            ("b", "y", "1"),
        ] {
            let labels = Labels::from_pairs([("__name__", name), ("job", job), ("pod", pod)]);
            let mut samples = SampleBuffer::new();
            (0..10).for_each(|i| samples.push(i * 30_000, i as f64));
            all.push(SeriesEntry { labels, samples: Arc::new(samples) });
        }
        all.retain(|e| request.matchers.iter().all(|m| m.matches(e.labels.value(&m.name))));
        Ok(Box::new(Once(Some(all))))
    }
}

fn ask(query: &str) -> Result<usize, String> {
    let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap();
    let spec = QuerySpec::instant(parse(query).unwrap(), query, 200_000);
    let result = engine.execute(&spec, &Few, &Leaves::new(), &Cancel::new());
    match result.map_err(|e| e.to_string())?.value {
        periplus_promql::value::Value::Vector(m) => Ok(m.series.len()),
        other => panic!("{query} gives {other:?}"),
    }
}

#[track_caller]
fn refused(query: &str, words: &str) {
    let e = ask(query).unwrap_err();
    assert!(e.contains(words), "{query}: {e}");
}

#[test]
fn a_comparison_does_not_hide_that_two_series_became_one() {
    let words = "vector cannot contain metrics with the same labelset";
    refused("abs({__name__=~\"a|b\"})", words);
    refused("abs({__name__=~\"a|b\"}) > 100", words);
    refused("sqrt(stddev_over_time({__name__=~\"a|b\"}[1m])) <= -1", words);
    refused("start_timestamp(abs({__name__=~\"a|b\"}))", words);
    assert_eq!(ask("{__name__=~\"a|b\"} > 100"), Ok(0));
    assert_eq!(ask("abs(a) > 100"), Ok(0));
}

#[test]
fn matchers_of_one_side_do_not_hide_doubles_of_the_other() {
    let words = "found duplicate series for the match group";
    // Two of job y on the right, and there is an `a`, though none of job y and pod 1.
    refused("a{pod=\"1\"} + on (job) b{job=\"y\"}", words);
    refused("a{job=\"x\"} * on (job) group_left b{job!=\"x\"}", words);
    refused("a + {__name__=~\"a|b\",pod=\"0\",job=\"y\"}", words);
    assert_eq!(ask("a{pod=\"7\"} + on (job) b{job=\"y\"}"), Ok(0));
    assert_eq!(ask("a * on (job) group_left sum by (job) (b{job=\"x\"})"), Ok(2));
}

#[test]
fn arguments_are_looked_at_where_series_are() {
    refused("start_timestamp(double_exponential_smoothing(a[1m], 0, 0.5))", "smoothing factor");
    refused("double_exponential_smoothing(a[1m], 2, 0.5) and b{job=\"z\"}", "smoothing factor");
    assert_eq!(ask("start_timestamp(abs(a))"), Ok(0));
}

#[test]
fn expressions_of_label_replace_are_go_s_and_utf_8() {
    let words = "invalid regular expression in label_replace()";
    refused("label_replace(a, \"x\", \"$1\", \"job\", \"\\xff\")", words);
    refused("label_replace(a, \"x\", \"$1\", \"job\", \"(?=x)\")", words);
    assert_eq!(ask("label_replace(a, \"x\", \"$1\", \"job\", \"(.*)\")"), Ok(3));
}
