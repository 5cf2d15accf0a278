"""Reads a part with DuckDB, pyarrow and pandas and prints what they make of it, as JSON."""

import json
import sys

import duckdb
import pyarrow.parquet as pq

part = sys.argv[1]
series, samples = f"{part}/series.parquet", f"{part}/samples.parquet"
histograms = f"{part}/histograms.parquet"

joined = duckdb.sql(
    f"""SELECT labels['pod'] AS pod, label_pod, external_cluster, count(*) AS n, sum(v) AS total,
               epoch_ms(min(ts)) AS first
        FROM '{samples}' JOIN '{series}' USING (sid) WHERE __name__ = 'counter_total'
        GROUP BY ALL ORDER BY pod"""
).fetchall()

turned = duckdb.sql(
    f"""SELECT sum(len(ts)), sum(list_sum(count)), sum(list_sum(positive)) FROM '{histograms}'
        WHERE aggregate = 'raw'"""
).fetchall()

# pyarrow verifies the checksums of pages, and its own page index and Bloom filter code see ours.
table = pq.read_table(samples, page_checksum_verification=True)
frame = table.to_pandas()
described = pq.read_table(series, page_checksum_verification=True).to_pandas()
merged = frame.merge(described, on="sid")
runs = pq.read_table(histograms, page_checksum_verification=True)
meta = pq.read_metadata(series).metadata[b"periplus"]

print(
    json.dumps(
        {
            "duckdb": [list(row) for row in joined],
            "histograms": [float(x) for x in turned[0]],
            "pandas_rows": len(merged),
            "pandas_sum": float(merged[merged["__name__"] == "counter_total"]["v"].sum()),
            "pyarrow_runs": runs.num_rows,
            "labels": sorted(dict(described["labels"].iloc[0]).items()),
            "day": json.loads(meta)["day"],
        }
    )
)
