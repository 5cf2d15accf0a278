//! All rows as an Arrow stream: each once, in its latest state, wherever it lies.

use std::collections::BTreeMap;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use periplus_events::Event;

use crate::process::Process;
use crate::{event, post};

async fn export(
    client: &reqwest::Client,
    url: &str,
    query: &str,
) -> Result<Vec<RecordBatch>, String> {
    let answer = client.get(format!("{url}/api/v1/events/export?{query}")).send().await.unwrap();
    if answer.status() != 200 {
        return Err(answer.text().await.unwrap());
    }
    assert_eq!(answer.headers()["content-type"], "application/vnd.apache.arrow.stream");
    let bytes = answer.bytes().await.map_err(|e| format!("broken off: {e}"))?;
    let reader = StreamReader::try_new(bytes.as_ref(), None).map_err(|e| e.to_string())?;
    reader.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

fn counts(batches: &[RecordBatch]) -> BTreeMap<String, i64> {
    let mut out = BTreeMap::new();
    for batch in batches {
        let uids = batch.column_by_name("uid").unwrap().as_string::<i32>();
        let counts = batch.column_by_name("count").unwrap().as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let doubled = out.insert(uids.value(row).to_owned(), counts.value(row));
            assert_eq!(doubled, None, "{} is there twice", uids.value(row));
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_once_in_its_latest_state() {
    let dir = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut hub = Process::start(dir.path()).await;
    let of = |uid: usize, version: u64| Event { cluster: "c1".into(), ..event(uid, version) };
    let mut want = BTreeMap::new();
    // (That rows in files are there, too, is tested beside the search.)
    for (first, version) in [(0, 1), (400, 1), (200, 3), (800, 1), (0, 5)] {
        for part in (first..first + 300).collect::<Vec<_>>().chunks(100) {
            post(&client, &hub.url, &part.iter().map(|uid| of(*uid, version)).collect::<Vec<_>>())
                .await
                .unwrap();
        }
        for uid in first..first + 300 {
            let count = i64::try_from(version).unwrap();
            let kept = want.entry(format!("uid-{uid}")).or_insert(count);
            *kept = count.max(*kept);
        }
    }
    let all = export(&client, &hub.url, "").await.unwrap();
    assert_eq!(counts(&all), want);
    assert_eq!(all[0].num_columns(), 24);
    // Columns as asked for, and a region, which no row has.
    let some = export(&client, &hub.url, "columns=region,uid,count&namespace=ns3&text=back-OFF")
        .await
        .unwrap();
    let schema = some[0].schema();
    let names: Vec<&String> = schema.fields().iter().map(|f| f.name()).collect();
    assert_eq!(names, ["region", "uid", "count"]);
    assert_eq!(some[0].column(0).as_string::<i32>().value(0), "north");
    assert_eq!(counts(&some).len(), want.keys().filter(|u| u.ends_with(['3', '8'])).count());
    let limited = export(&client, &hub.url, "columns=uid,count&limit=123").await.unwrap();
    assert_eq!(counts(&limited).len(), 123);
    assert_eq!(export(&client, &hub.url, "namespace=nobody").await, Ok(Vec::new()));
    for wrong in ["columns=uid,nonsense", "columns=", "limit=0", "nothing=x"] {
        assert!(export(&client, &hub.url, wrong).await.is_err(), "{wrong}");
    }
    hub.kill();
}
