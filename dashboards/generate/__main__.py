"""Writes the dashboards that Grafana loads.

    python3 dashboards/generate            writes dashboards/provisioning/dashboards/periplus/*.json
    python3 dashboards/generate --check    says what would change, and fails if anything would

Needs Grafana's foundation SDK in the version that script/setup names (`script/setup test` gets it into
target/tools/venv). What is written is kept in version control: nobody needs this to use the dashboards.
"""

import json
import pathlib
import sys

# Nothing beside the sources.
sys.dont_write_bytecode = True

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

import cluster
import events
import fleet
import itself
import node
import pod

BOARDS = {
    "fleet": fleet.board,
    "cluster": cluster.board,
    "node": node.board,
    "pod": pod.board,
    "events": events.board,
    "itself": itself.board,
}


def text(builder):
    built = builder.build()
    # Numbers that stay, so that links to panels do.
    for n, panel in enumerate(built.panels):
        panel.id_val = n + 1
    out = json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
    # What the SDK reads back is what it wrote: no field that Grafana's schema does not know.
    again = json.dumps(Dashboard.from_json(json.loads(out)), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
    if out != again:
        sys.exit(f"{built.title}: the SDK does not read back what it wrote")
    return out


def main():
    into = pathlib.Path(__file__).parent.parent / "provisioning" / "dashboards" / "periplus"
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    wanted = {f"{name}.json": text(board()) for name, board in BOARDS.items()}
    there = {f.name: f.read_text() for f in into.glob("*.json")}
    changed = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
    if check:
        sys.exit(f"not as generated: {', '.join(changed)}; run: python3 dashboards/generate" if changed else 0)
    into.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in wanted:
            (into / name).write_text(wanted[name])
        else:
            (into / name).unlink()
    print(f"{len(changed)} of {len(wanted)} changed")


main()
