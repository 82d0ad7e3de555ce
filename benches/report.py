#!/usr/bin/env python3
"""Writes the tables and draws the charts of the documentation from benches/results.json.

    python3 benches/report.py            writes and draws them
    python3 benches/report.py --check    fails, and names the files that are not what results.json gives

In a document, `<!-- table: NAME NAME ... -->` begins a table of the rows of those measurements, with the columns that
COLUMNS has for them. `<!-- figure: NAME -->` begins the first figure of a measurement. `<!-- end -->` ends both.

Benchmarks with an option --record put what they have measured into results.json by `record`, with the machine, the
date and the command. The figures of the others are copied by hand from what they print; a row is a line.
"""

import datetime
import json
import math
import os
import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
ROOT = HERE.parent
CHARTS = ROOT / "docs" / "charts"
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("BENCHMARKS", "design", "scale"))]
MARK = re.compile(r"(<!-- (table|figure): ([^>]+) -->).*?(<!-- end -->)", re.DOTALL)

WIDTH = 840
BAR, GAP, TITLE, NAMES = 18, 6, 46, 210
# Readable on light and dark pages.
TEXT, FAINT, OURS, THEIRS = "#6e7781", "#8c959f", "#d1642b", "#8fa3b8"


def machine():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].replace("(R)", "").replace("Processor", "").strip()
            return f"{os.cpu_count()} cores of an {model}"
    return "unknown"


def save(results):
    """Writes one row per line, so that the file can be edited by hand."""
    measured = []
    for name, result in sorted(results.items()):
        words = [f'  "{key}": {json.dumps(result[key], ensure_ascii=False)},\n' for key in sorted({*result} - {"rows"})]
        rows = ",\n".join("   " + json.dumps(row, ensure_ascii=False) for row in result["rows"])
        measured.append(f' "{name}": {{\n{"".join(words)}  "rows": [\n{rows}\n  ]\n }}')
    RESULTS.write_text("{\n" + ",\n".join(measured) + "\n}\n")


def record(name, title, command, rows):
    """Stores a measurement, and replaces the previous one of that name."""
    results = json.loads(RESULTS.read_text())
    results[name] = {
        "title": title,
        "command": command,
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "rows": rows,
    }
    save(results)


def text(x, y, words, size=13, anchor="start", fill=TEXT, weight="normal"):
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{fill}" '
        f'font-weight="{weight}">{escape(words)}</text>'
    )


def bars(title, subtitle, rows, y):
    """Draws a group of bars for rows (name, value, label, ours). Returns its parts and its bottom."""
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
    return picture(name, parts, y)


def picture(name, parts, y):
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - 10}" '
        f'font-family="system-ui, sans-serif">',
        *parts,
        "</svg>",
    ]
    return CHARTS / f"{name}.svg", "\n".join(lines) + "\n"


def curves(title, subtitle, series):
    """Draws recall against time for series (name, points (seconds, recall, label), ours)."""
    left, top, right, bottom = 60, TITLE + 10, WIDTH - 110, 340
    points = [point for _, points, _ in series for point in points]
    low, high = (math.log(pick(seconds for seconds, _, _ in points)) for pick in (min, max))
    least = min(recall for _, recall, _ in points)
    least, most = math.floor(least * 100) / 100, math.ceil(max(recall for _, recall, _ in points) * 100) / 100
    x = lambda seconds: left + (right - left) * (math.log(seconds) - low) / (high - low)
    y = lambda recall: bottom - (bottom - top) * (recall - least) / (most - least)
    parts = [text(0, 15, title, 15, weight="bold"), text(0, 33, subtitle, 12, fill=FAINT)]
    for step in range(round(least * 100), round(most * 100) + 1):
        height = y(step / 100)
        parts.append(f'<path d="M{left} {height:.1f}H{right}" stroke="{FAINT}" stroke-opacity="0.3"/>')
        parts.append(text(left - 8, height + 4, f"{step / 100:.2f}", 12, "end", FAINT))
    seconds = 2 ** math.ceil(low / math.log(2))
    while math.log(seconds) <= high:
        parts.append(text(x(seconds), bottom + 20, f"{seconds} s", 12, "middle", FAINT))
        seconds *= 2
    for name, points, ours in series:
        color = OURS if ours else THEIRS
        path = "L".join(f"{x(seconds):.1f} {y(recall):.1f}" for seconds, recall, _ in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        for seconds, recall, label in points:
            parts.append(f'<circle cx="{x(seconds):.1f}" cy="{y(recall):.1f}" r="3.5" fill="{color}"/>')
            parts.append(text(x(seconds), y(recall) + 17, label, 11, "middle", FAINT))
        seconds, recall, _ = points[-1]
        parts.append(text(x(seconds) + 8, y(recall) - 6, name, weight="bold" if ours else "normal"))
    return parts, bottom + 40


def group(results, name, value, label, title=None):
    """Draws a group of bars from a recorded measurement; rows with `ours` set are ours."""
    result = results[name]
    rows = [(row["name"], row[value], label(row), row.get("ours", False)) for row in result["rows"]]
    return title or result["title"], f"{result['command']}, {result['machine']}, {result['date']}", rows


def short(value):
    """Formats with two or three significant digits."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2g}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def field(name):
    return lambda row: row[name]


def measured(name, unit):
    return lambda row: f"{short(row[name])} {unit}" if name in row else ""


def span(name):
    return lambda row: f"{row[f'{name}_low']} – {row[f'{name}_high']}" if f"{name}_low" in row else ""


def value(row):
    """Formats a recorded number, or a range of two, with its unit."""
    number = str(row["value"]) if "value" in row else span("value")(row)
    return f"{number} {row.get('unit', '')}".strip()


def recall(name, digits=".3f"):
    """Formats the values at ef 50 and at ef 100."""
    return lambda row: f"{row[f'{name}_50']:{digits}} / {row[f'{name}_100']:{digits}}" if f"{name}_50" in row else ""


def vectors(row):
    return int(re.search(r"Build ([\d,]+) ", row["title"])[1].replace(",", ""))


WALL, PROCESSOR, MEMORY = measured("seconds", "s"), measured("processor", "s"), measured("mebibytes", "MiB")

# The columns of a table by a pattern for the name of its first measurement. The first match counts.
COLUMNS = {
    "export|export-again": {
        "": field("name"),
        "wall time": WALL,
        "ratio": lambda row: short(row["seconds"] / row["first"]["seconds"]),
        "processor time": PROCESSOR,
        "peak memory": MEMORY,
    },
    "repair-store-.*|import-.*": {
        "": lambda row: f"{row['title']}: {row['name']}",
        "wall time": WALL,
        "ratio": lambda row: short(row["seconds"] / row["first"]["seconds"]),
        "processor time": PROCESSOR,
        "peak memory": MEMORY,
        "recall": lambda row: f"{row['recall']:.3f}" if "recall" in row else "",
    },
    r"build-\d+x32-.*": {
        "": field("title"),
        "wall time": WALL,
        "processor time": PROCESSOR,
        "processor time of a vector": lambda row: f"{1e6 * row['processor'] / vectors(row):.0f} µs",
        "recall": recall("recall"),
        "memory": measured("heap_megabytes", "MB"),
        "memory of a vector": lambda row: f"{1e6 * row['heap_megabytes'] / vectors(row):.0f} bytes",
    },
    "effort-.*": {
        "": field("name"),
        "ef_construction": lambda row: str(row["ef_construction"]),
        "wall time": WALL,
        "processor time": PROCESSOR,
        "recall": recall("recall"),
    },
    r"build-\d.*": {
        "": field("title"),
        "program": field("name"),
        "wall time": WALL,
        "processor time": PROCESSOR,
        "recall": recall("recall"),
        "memory": measured("heap_megabytes", "MB"),
    },
    r"amd-build-.*": {
        "": field("title"),
        "program": field("name"),
        "wall time": WALL,
        "processor time": PROCESSOR,
        "recall": recall("recall"),
    },
    "build-order": {
        "processor time": field("name"),
        "scattered": measured("scattered", "s"),
        "in the order of the rows": measured("in_order", "s"),
        "more": lambda row: f"{row['scattered'] / row['in_order'] - 1:.0%}".replace("%", " %"),
    },
    r"search-\d.*": {
        "": field("title"),
        "compared with": field("name"),
        "mapped": span("mapped"),
        "loaded": span("loaded"),
    },
    "order": {
        "data": field("name"),
        "native": recall("native"),
        "partition": recall("partition"),
        "hnswlib": recall("hnswlib"),
        "unreachable there": lambda row: f"{row['hnswlib_unreachable']:,}",
    },
    "hard": {
        "data": field("name"),
        "native": recall("native"),
        "partition": recall("partition"),
        "hnswlib": recall("hnswlib"),
    },
    "repair-recall": {
        "": field("name"),
        "deleted": measured("deleted", "%"),
        "`keep` less the index": recall("keep", "+z.4f"),
        "`build` less the index": recall("build", "+z.4f"),
        "the index": recall("index"),
    },
    "repair-cost": {
        "deleted": measured("deleted", "%"),
        "`cp -r`": measured("copy", "s"),
        "`keep`": WALL,
        "ratio": lambda row: short(row["seconds"] / row["copy"]),
        "processor time": PROCESSOR,
        "peak memory": MEMORY,
    },
    ".*": {"": field("name"), " ": value},
}


def table(head, rows):
    """Formats a table. A first cell equal to the one above is left empty."""
    lines, above = [head, ["---"] * len(head)], None
    for first, *others in rows:
        lines.append(["" if first == above else first, *others])
        above = first
    return "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def measurements(results, names):
    """Formats the measurements' rows as a table, below the commands that produced them."""
    columns = next(columns for pattern, columns in COLUMNS.items() if re.fullmatch(pattern, names[0]))
    rows, made = [], {}
    for result in (results[name] for name in names):
        made.setdefault(f"`{result['command']}`, {result['machine']}", set()).add(result["date"])
        context = {"title": result["title"], "first": result["rows"][0]}
        rows += [[cell(context | row) for cell in columns.values()] for row in result["rows"]]
    how = "; ".join(f"{how}, {' and '.join(sorted(dates))}" for how, dates in made.items())
    return f"\n{how}:\n{table(list(columns), rows)}"


def scale(results):
    """Extrapolates the cost of many exports from one."""
    export, large = results["export"]["rows"][0], results["export-memory"]["rows"][0]
    gibibytes_of_one = results["export-input"]["rows"][0]["value"] / 1024
    rows = []
    for name, vectors, memory in [
        ("10,000 tenants of 10,000 vectors", 1e8, measured("mebibytes", "MiB")(export)),
        ("a billion vectors in collections of a million", 1e9, value(large)),
    ]:
        # The measured export has 100,000 vectors.
        seconds, gibibytes = (of_one * vectors / 1e5 for of_one in (export["processor"], gibibytes_of_one))
        on_16 = f"{short(seconds / 16)} s, reading {short(gibibytes / (seconds / 16))} GiB/s"
        rows.append([name, f"{short(gibibytes)} GiB", f"{short(seconds)} s", on_16, memory])
    return table(["", "input", "processor time", "on 16 cores", "memory of a process"], rows)


def document(results, path):
    def content(mark):
        begin, kind, names, end = mark.groups()
        if kind == "figure":
            return begin + value(results[names]["rows"][0]) + end
        return begin + (scale(results) if names == "scale" else measurements(results, names.split())) + end

    return path, MARK.sub(content, path.read_text())


def draw(results):
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
    builds = [name for name in results if re.match(r"build-\d", name) and len(results[name]["rows"]) > 1]
    builds.sort(key=lambda name: max(row["seconds"] for row in results[name]["rows"]))
    yield chart("build", [group(results, name, "seconds", built) for name in builds])
    yield effort(results["effort-100000x384-euclidean-2"])


def effort(result):
    series = {}
    for row in result["rows"]:
        point = row["processor"], row["recall_50"], str(row["ef_construction"])
        series.setdefault(row["name"].removeprefix("hnsw-toolbox, "), []).append(point)
    subtitle = "recall@10 at ef 50 against processor time; the numbers are ef_construction"
    series = [(name, points, name == "partition") for name, points in series.items()]
    return picture("effort", *curves(result["title"], subtitle, series))


def main():
    CHARTS.mkdir(exist_ok=True)
    results = json.loads(RESULTS.read_text())
    stale = []
    for path, content in [*draw(results), *(document(results, path) for path in DOCUMENTS)]:
        if sys.argv[1:] != ["--check"]:
            path.write_text(content)
        elif not path.exists() or path.read_text() != content:
            stale.append(str(path.relative_to(ROOT)))
    if stale:
        sys.exit(f"{', '.join(stale)}: not what benches/results.json gives; run `make bench-report`")


if __name__ == "__main__":
    main()
