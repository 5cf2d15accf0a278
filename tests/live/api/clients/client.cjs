// What npm's @prometheus-io/codemirror-promql asks while somebody writes a query, against the query at the
// address that is the argument.
const assert = require("node:assert");
const { HTTPPrometheusClient } = require("@prometheus-io/codemirror-promql/dist/cjs/client/prometheus.js");
const { newCompleteStrategy } = require("@prometheus-io/codemirror-promql/dist/cjs/complete/index.js");
const { EditorState } = require("@codemirror/state");
const { CompletionContext } = require("@codemirror/autocomplete");
const { PromQLExtension } = require("@prometheus-io/codemirror-promql/dist/cjs/promql.js");

async function all(httpMethod) {
  const failed = [];
  const client = new HTTPPrometheusClient({
    url: process.argv[2], httpMethod, httpErrorHandler: (e) => failed.push(e),
  });
  assert.deepStrictEqual(await client.labelValues("job"), ["shop"]);
  assert.deepStrictEqual(await client.labelValues("code", "shop_requests_total"), ["200", "500"]);
  assert.ok((await client.labelNames("shop_temperature_celsius")).includes("room"));
  assert.ok((await client.metricNames()).includes("up"));
  const metadata = await client.metricMetadata();
  assert.strictEqual(metadata.shop_temperature_celsius[0].type, "gauge");
  assert.strictEqual((await client.series("shop_temperature_celsius")).length, 2);
  assert.ok(Object.keys(await client.flags()).length > 0);
  assert.deepStrictEqual(failed, []);
}

async function complete() {
  const text = "sum(shop_temp";
  const promql = new PromQLExtension().setComplete({ remote: { url: process.argv[2] } });
  const state = EditorState.create({ doc: text, extensions: promql.asExtension() });
  const strategy = newCompleteStrategy({ remote: { url: process.argv[2] } });
  const found = await strategy.promQL(new CompletionContext(state, text.length, true));
  const labels = found.options.map((o) => o.label);
  assert.ok(labels.includes("shop_temperature_celsius"), labels.slice(0, 20).join());
}

(async () => {
  await all("POST");
  await all("GET");
  await complete();
})().catch((e) => { console.error(e); process.exit(1); });
