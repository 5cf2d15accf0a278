//! What Grafana's Prometheus data source sends, as its requests look on the wire.

use serde_json::Value;

use super::setup::{Shop, query};
use crate::ask::client;
use crate::prometheus::flavours;

/// A request in Grafana's words, and what has to be in the answer.
struct Sent<'a> {
    method: &'a str,
    path: String,
    form: Vec<(&'a str, String)>,
    expect: fn(u16, &Value) -> bool,
}

fn listed(v: &Value) -> usize {
    v["data"].as_array().map_or(0, Vec::len)
}

fn ok(status: u16, v: &Value) -> bool {
    status == 200 && v["status"] == "success"
}

fn requests(settled: i64) -> Vec<Sent<'static>> {
    let get = |path: String, expect| Sent { method: "GET", path, form: Vec::new(), expect };
    let post = |path: &str, form: Vec<(&'static str, String)>, expect| Sent {
        method: "POST",
        path: path.to_owned(),
        form,
        expect,
    };
    let text = str::to_owned;
    let (from, to) = (format!("{}.123", settled - 4), format!("{settled}.456"));
    let span = || vec![("start", from.clone()), ("end", to.clone()), ("step", text("0.5"))];
    let long = || vec![("start", format!("{}.5", settled - 600)), ("end", to.clone())];
    let with = |expr: &str, mut more: Vec<(&'static str, String)>| {
        more.insert(0, ("query", expr.to_owned()));
        more
    };
    vec![
        // Health check and flavour detection.
        post("/api/v1/query", with("1+1", vec![("time", text("4"))]), |s, v| {
            ok(s, v) && v["data"]["result"][1] == "2"
        }),
        get(text("/api/v1/status/buildinfo"), |s, v| {
            ok(s, v) && v["data"]["version"].as_str().is_some_and(|v| v.starts_with("3."))
        }),
        get(text("/api/v1/status/flags"), |s, v| ok(s, v) && v["data"].is_object()),
        // Panels: a form, seconds with fractions, steps of less than a second, custom parameters.
        post("/api/v1/query_range", with("rate(shop_requests_total[4s])", span()), |s, v| {
            ok(s, v) && v["data"]["resultType"] == "matrix"
        }),
        post("/api/v1/query_range?team=x&dedup=true", with("up", span()), ok),
        post("/api/v1/query", with("up", vec![("time", to.clone())]), |s, v| {
            ok(s, v) && v["data"]["result"][0]["metric"]["cluster"] == "a"
        }),
        // Exemplars: first a probe with milliseconds where seconds belong, then the panel's.
        get(
            format!("/api/v1/query_exemplars?query=test&start={settled}000&end={settled}001"),
            |s, v| ok(s, v) && listed(v) == 0,
        ),
        post("/api/v1/query_exemplars", with("shop_requests_total", long()), |s, v| {
            ok(s, v) && v["data"][0]["exemplars"][0]["labels"]["trace_id"].is_string()
        }),
        // Variables and the query builder.
        get(format!("/api/v1/labels?start={}&end={settled}&limit=40000", settled - 4), |s, v| {
            ok(s, v) && listed(v) > 3
        }),
        post("/api/v1/labels", vec![("match[]", text("{__name__!=\"\"}"))], |s, v| {
            ok(s, v) && listed(v) > 3
        }),
        get(text("/api/v1/label/__name__/values?limit=40000&match[]={__name__!=\"\"}"), |s, v| {
            ok(s, v) && listed(v) > 3
        }),
        get(
            text("/api/v1/label/__name__/values?match[]={__name__=~\".*temp.*\"}&limit=40000"),
            |s, v| ok(s, v) && listed(v) == 1,
        ),
        get(text("/api/v1/label/cluster/values?match[]=up&limit=40000"), |s, v| {
            ok(s, v) && v["data"] == serde_json::json!(["a"])
        }),
        get(text("/api/v1/label/U__http_2e_code/values"), |s, v| ok(s, v) && listed(v) == 0),
        get(text("/api/v1/label/U__cluster/values"), |s, v| ok(s, v) && listed(v) == 1),
        post(
            "/api/v1/series",
            vec![("match[]", text("{__name__=\"up\"}")), ("limit", text("40000"))],
            |s, v| ok(s, v) && listed(v) == 1,
        ),
        get(text("/api/v1/metadata?limit=40000"), |s, v| {
            ok(s, v) && v["data"]["shop_requests"][0]["type"] == "counter"
                || v["data"]["shop_requests_total"][0]["type"] == "counter"
        }),
        get(text("/api/v1/metadata?metric=shop_temperature_celsius"), |s, v| {
            ok(s, v) && v["data"]["shop_temperature_celsius"][0]["help"] == "How warm it is."
        }),
        // Alerting.
        get(text("/api/v1/rules"), |s, v| {
            ok(s, v) && v["data"]["groups"].as_array().is_some_and(|g| g.len() == 2)
        }),
        get(
            text(
                "/api/v1/rules?type=alert&rule_name[]=ShopIsUp&rule_group[]=one&exclude_alerts=true",
            ),
            |s, v| {
                let rule = &v["data"]["groups"][0]["rules"][0];
                ok(s, v) && rule["name"] == "ShopIsUp" && rule["alerts"].is_null()
            },
        ),
        get(text("/api/v1/rules?group_limit=1"), |s, v| {
            ok(s, v) && v["data"]["groupNextToken"].is_string()
        }),
        get(text("/api/v1/rules?file[]=nothing"), |s, v| {
            ok(s, v) && v["data"]["groups"] == serde_json::json!([])
        }),
        get(text("/api/v1/alerts"), |s, v| {
            ok(s, v) && v["data"]["alerts"][0]["labels"]["cluster"] == "a"
        }),
        // Annotations of a query come back as warnings and infos, not as errors.
        post(
            "/api/v1/query",
            with("rate(shop_temperature_celsius[4s])", vec![("time", to.clone())]),
            |s, v| ok(s, v) && v["infos"].is_array(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grafana_sends_is_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let external = [("cluster", "a")];
    let shop = Shop::start(&flavour, "shop", &external, dir.path()).await;
    let query = query(&[&shop], &[], dir.path()).await;
    for sent in requests(shop.settled) {
        let address = format!("{}{}", query.url, sent.path);
        let request = match sent.method {
            "POST" => client().post(address).form(&sent.form),
            _ => client().get(address),
        };
        // Headers that Grafana adds, or is told to add.
        let request = request
            .header("X-Grafana-Org-Id", "1")
            .header("X-Dashboard-Uid", "a")
            .header("X-Scope-OrgID", "somebody")
            .header("Accept-Encoding", "gzip");
        let answer = request.send().await.expect("an answer");
        let (status, packed) =
            (answer.status().as_u16(), answer.headers().contains_key("content-encoding"));
        let bytes = answer.bytes().await.expect("a body");
        let body = if packed { unpacked(&bytes) } else { bytes.to_vec() };
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        assert!((sent.expect)(status, &json), "{} {}: {status} {json}", sent.method, sent.path);
    }
    for encoding in ["gzip", "zstd"] {
        let url = format!("{}/api/v1/query?query={{__name__!=\"\"}}", query.url);
        // One that shows what came, instead of unpacking it.
        let plain = reqwest::Client::builder().no_gzip().build().expect("a client");
        let answer = plain.get(url).header("Accept-Encoding", encoding).send().await;
        let answer = answer.expect("an answer");
        let used = answer.headers().get("content-encoding").and_then(|v| v.to_str().ok());
        assert_eq!(used, Some(encoding));
    }
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip");
    out
}
