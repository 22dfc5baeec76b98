"""What was found, as text, JSON and a chart."""

import html
import json
import os
import platform
import statistics
import subprocess
from importlib.metadata import version

from contenders import OURS, celery_workers
from server import Server

CELERY = {worker.name for worker in celery_workers()}


class Report:
    """The figures of all runs, by figure and contender."""

    def __init__(self, repetitions):
        self.machine = describe_machine()
        self.repetitions = repetitions
        self.rows = {}

    def add(self, contender, figures):
        for figure, value in figures.items():
            if value is not None:
                self.rows.setdefault(figure, {}).setdefault(contender, []).append(value)

    def show(self, figures):
        for figure in figures:
            if figure not in self.rows:
                continue
            print(f"\n{figure.name} ({figure.unit})")
            for row in self.table(figure):
                limits = f"({number(row['min'])} to {number(row['max'])})"
                ratio = f"celeriac is {row['ratio']:.1f}x" if "ratio" in row else ""
                print(f"  {row['name']:<24} {number(row['median']):>12}   {limits:<26} {ratio}")
        print(end="", flush=True)

    def table(self, figure):
        """A row for each contender: median, least, most, and how much better ours is."""
        contenders = self.rows[figure]
        ours = statistics.median(contenders[OURS]) if OURS in contenders else None
        for name, values in contenders.items():
            median = statistics.median(values)
            row = {"name": name, "median": median, "min": min(values), "max": max(values), "values": values}
            if ours and median and name != OURS:
                row["ratio"] = ours / median if figure.better == "more" else median / ours
            yield row

    def to_json(self):
        figures = [
            {"name": figure.name, "unit": figure.unit, "better": figure.better, "rows": list(self.table(figure))}
            for figure in self.rows
        ]
        return json.dumps({"machine": self.machine, "repetitions": self.repetitions, "figures": figures}, indent=1) + "\n"

    def to_markdown(self):
        """A table of what can be compared: ours, the best worker of Celery, and the ratio."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        lines = [
            f"One run of `scripts/bench`, medians of {self.repetitions}, least and most in brackets ({machine}).",
            "All of it is in [bench.json](bench.json), the chart in [bench.svg](bench.svg).",
            "",
            "| measure | celeriac | best of Celery | ratio | others |",
            "| --- | ---: | ---: | ---: | --- |",
        ]
        for figure in self.rows:
            rows = {row["name"]: row for row in self.table(figure)}
            ours = rows.pop(OURS, None)
            if not ours:
                continue
            celery = [rows.pop(name) for name in list(rows) if name in CELERY]
            best = (max if figure.better == "more" else min)(celery, key=lambda row: row["median"], default=None)
            cells = [f"{figure.name}, {figure.unit}", spread(ours)]
            cells += [f"{best['name']}: {spread(best)}", f"{best.get('ratio', 0):.1f}"] if best else ["", ""]
            cells.append("; ".join(f"{name}: {spread(row)}" for name, row in rows.items()))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def write_into(self, page):
        """Puts the table between the marks of a page."""
        begin, end = "<!-- results: written by scripts/bench -->\n", "<!-- end of results -->"
        before, rest = page.read_text().split(begin)
        page.write_text(before + begin + self.to_markdown() + end + rest.split(end)[1])

    def to_svg(self):
        """Horizontal bars of the medians with lines from least to most, each figure on a scale of its own."""
        parts, y = [], 10
        for figure in self.rows:
            rows = list(self.table(figure))
            if len(rows) < 2:
                continue
            y += 16
            better = "more is better" if figure.better == "more" else "less is better"
            parts.append(text(10, y, f"{figure.name}, {figure.unit} ({better})", "font-weight='bold'"))
            longest = max(row["max"] for row in rows) or 1
            for row in rows:
                y += 20
                width, least, most = (380 * row[key] / longest for key in ("median", "min", "max"))
                colour = "#0f766e" if row["name"] == OURS else "#94a3b8"
                parts.append(text(20, y, row["name"]))
                parts.append(f"<rect x='180' y='{y - 11}' width='{max(width, 1):.1f}' height='14' fill='{colour}'/>")
                parts.append(f"<path d='M{180 + least:.1f} {y - 4}H{180 + most:.1f}' stroke='#334155'/>")
                ratio = f", celeriac {row['ratio']:.1f}x" if "ratio" in row else ""
                parts.append(text(186 + max(width, most), y, number(row["median"]) + ratio))
            y += 22
        head = f"<svg xmlns='http://www.w3.org/2000/svg' width='760' height='{y}' font-family='sans-serif' font-size='12'>"
        return "\n".join([head, f"<rect width='760' height='{y}' fill='white'/>", *parts, "</svg>"]) + "\n"


def spread(row):
    return f"{number(row['median'])} ({number(row['min'])} to {number(row['max'])})"


def text(x, y, words, more=""):
    return f"<text x='{x:.0f}' y='{y}' fill='#0f172a' {more}>{html.escape(words)}</text>"


def number(value):
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}"


def describe_machine():
    versions = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()
    with Server() as server:
        ping = server.ping_ms()
    return {
        "cores": os.cpu_count(),
        "PING and back, ms": round(ping, 3),
        "load at the start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "redis": next(word[2:] for word in versions if word.startswith("v=")),
        "celery": version("celery"),
        "kombu": version("kombu"),
        "redis-py": version("redis"),
        "gevent": version("gevent"),
    }
