"""What PyPI's prometheus-api-client does, against a query and, where values matter, the Prometheus below it."""

import datetime
import sys

from prometheus_api_client import PrometheusConnect

url, asked, settled = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = PrometheusConnect(url=url, disable_ssl=True)
below = PrometheusConnect(url=asked, disable_ssl=True)
assert client.check_prometheus_connection(), "not connected"
names = client.all_metrics()
assert "shop_requests_total" in names, names
assert client.get_label_values("job") == ["shop"], client.get_label_values("job")
now = client.custom_query("sum by (code) (shop_requests_total)")
assert {r["metric"]["code"]: r["value"][1] for r in now} == {"200": "17", "500": "3"}, now
at = client.get_current_metric_value("up", label_config={"job": "shop"})
assert [r["value"][1] for r in at] == ["1"], at
end = datetime.datetime.fromtimestamp(settled)
start = end - datetime.timedelta(seconds=4)
span = client.custom_query_range("up", start_time=start, end_time=end, step="1")
theirs = below.custom_query_range("up", start_time=start, end_time=end, step="1")
assert len(span) == 1 and span[0]["values"] == theirs[0]["values"], (span, theirs)
raw = client.get_metric_range_data("shop_temperature_celsius", start_time=start, end_time=end)
assert len(raw) == 2, raw
series = client.get_series(start=start, end=end, params={"match[]": "up"}) if hasattr(client, "get_series") else [1]
assert len(series) == 1, series
