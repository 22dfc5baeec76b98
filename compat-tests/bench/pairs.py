"""Compares two builds of our worker: in pairs, one after the other, in alternating order.

What else the machine does falls on both alike, and the ratio within a pair leaves it out. The interval holds the true ratio in
95 of 100 cases (Student's t over the logarithms of the ratios).
"""

import math
import statistics
from pathlib import Path

from contenders import Celeriac
from server import Server

# Two-sided 95 % quantiles of Student's t by degrees of freedom; beyond 30 the normal distribution's is close enough.
T = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09,
     2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04]


def compare(new, old, measures, pairs, scale):
    """Runs each measure in pairs and prints the ratio of the new build's figures to the old one's."""
    new, old = (str(Path(path).resolve()) for path in (new, old))
    for measure in measures:
        found = {figure: [] for figure in measure.figures}
        for number in range(pairs):
            order = (new, old) if number % 2 == 0 else (old, new)
            results = {path: once(measure, Celeriac(path), scale) for path in order}
            for figure in measure.figures:
                values = results[new].get(figure), results[old].get(figure)
                if all(values):
                    found[figure].append(values)
        for figure, values in found.items():
            show(figure, values)


def once(measure, contender, scale):
    with Server() as server:
        return measure.run(contender, server, scale)


def show(figure, values):
    if len(values) < 2:
        print(f"{figure.name}: too few pairs", flush=True)
        return
    logarithms = [math.log(new / old) for new, old in values]
    middle = statistics.mean(logarithms)
    spread = statistics.stdev(logarithms) / math.sqrt(len(logarithms)) * T[min(len(values) - 2, len(T) - 1)]
    low, ratio, high = (math.exp(value) for value in (middle - spread, middle, middle + spread))
    new, old = (statistics.median(side) for side in zip(*values))
    print(
        f"{figure.name}: new {new:,.4g}, old {old:,.4g} {figure.unit}; new/old {ratio:.3f} ({low:.3f} to {high:.3f}, {len(values)} pairs)",
        flush=True,
    )
