#!/usr/bin/env python3
"""Draws the charts in docs/charts from benches/results.json.

    python3 benches/report.py            draws them
    python3 benches/report.py --check    fails when one that is there is not what would be drawn

Benchmarks with an option --record put what they have measured into that file by `record`, with the machine, the date
and the command; the others' figures are copied from what they print.
"""

import datetime
import json
import os
import sys
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
CHARTS = HERE.parent / "docs" / "charts"

WIDTH = 840
BAR, GAP, TITLE, NAMES = 18, 6, 46, 210
# Readable on a light and on a dark page.
TEXT, FAINT, OURS, THEIRS = "#6e7781", "#8c959f", "#d1642b", "#8fa3b8"


def machine():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].replace("(R)", "").replace("Processor", "").strip()
            return f"{os.cpu_count()} cores of an {model}"
    return "unknown"


def record(name, title, command, rows):
    """Puts a measurement into the file, in the place of the last one of that name."""
    results = json.loads(RESULTS.read_text())
    results[name] = {
        "title": title,
        "command": command,
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def text(x, y, words, size=13, anchor="start", fill=TEXT, weight="normal"):
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{fill}" '
        f'font-weight="{weight}">{escape(words)}</text>'
    )


def bars(title, subtitle, rows, y):
    """A group of bars: rows are (name, value, label, ours). Returns its parts, and where it ends."""
    parts = [text(0, y + 15, title, 15, weight="bold"), text(0, y + 33, subtitle, 12, fill=FAINT)]
    y += TITLE
    longest = max(value for _, value, _, _ in rows)
    room = WIDTH - NAMES - 190
    for name, value, label, ours in rows:
        length = max(2, room * value / longest)
        parts.append(text(NAMES - 8, y + 14, name, anchor="end", weight="bold" if ours else "normal"))
        parts.append(
            f'<rect x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{OURS if ours else THEIRS}"/>'
        )
        parts.append(text(NAMES + length + 6, y + 14, label))
        y += BAR + GAP
    return parts, y + 14


def chart(name, groups):
    parts, y = [], 0
    for group in groups:
        more, y = bars(*group, y)
        parts += more
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - 10}" '
        f'font-family="system-ui, sans-serif">',
        *parts,
        "</svg>",
    ]
    return CHARTS / f"{name}.svg", "\n".join(lines) + "\n"


def group(results, name, value, label, title=None):
    """A group of bars from a recorded measurement; ours are the rows of which `ours` is true."""
    result = results[name]
    rows = [(row["name"], row[value], label(row), row.get("ours", False)) for row in result["rows"]]
    return title or result["title"], f"{result['command']}, {result['machine']}, {result['date']}", rows


def draw():
    results = json.loads(RESULTS.read_text())
    ratio = lambda row: f"{row['processor']:.2f}"
    seconds = lambda row: f"{row['seconds']:.2f} s"
    built = lambda row: f"{row['seconds']:.1f} s, recall {row['recall_50']:.3f} / {row['recall_100']:.3f}"
    extract = group(results, "extract", "processor", ratio)
    export = group(results, "export", "seconds", seconds)
    memory = group(
        results, "export", "mebibytes", lambda row: f"{row['mebibytes']:.0f} MiB", "Peak memory of the same"
    )
    large = group(results, "build-100000x384-euclidean-2", "seconds", built)
    yield chart("overview", [extract, export, memory, large])
    builds = sorted(name for name in results if name.startswith("build-"))
    yield chart("build", [group(results, name, "seconds", built) for name in builds])


def main():
    CHARTS.mkdir(exist_ok=True)
    stale = []
    for path, drawn in draw():
        if sys.argv[1:] != ["--check"]:
            path.write_text(drawn)
        elif not path.exists() or path.read_text() != drawn:
            stale.append(path.name)
    if stale:
        sys.exit(f"{', '.join(stale)}: not what benches/results.json says; run `make bench-report`")


if __name__ == "__main__":
    main()
