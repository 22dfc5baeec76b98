"""Measures workers side by side, in one run, each on a private Redis server, and prints ratios.

Every figure is the median of the repetitions, with the least and the most. The contenders take turns, so that whatever else
the machine does meanwhile falls on all alike. Memory is PSS over the process tree.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import pairs
from contenders import OURS, Bare, Celeriac, RustyCelery, celery_workers
from designs import compare
from measures import Drain, Flat, Memory, Neighbour, Payload, Rate, RoundTrip, Sleep, Start
from report import Report
from server import Server
from soak import soak

PAIR = (OURS, "prefork -c 2")


def main():
    arguments = read_arguments()
    if arguments.soak:
        return soak(Celeriac(arguments.worker), arguments.soak)
    if arguments.designs:
        return compare(arguments.client, arguments.repetitions, arguments.scale)
    if arguments.against:
        measures = chosen(all_measures(arguments), arguments.measures, "measure", lambda measure: measure.key)
        return pairs.compare(arguments.worker, arguments.against, measures, arguments.pairs, arguments.scale)
    contenders = chosen(all_contenders(arguments), arguments.contenders, "contender", lambda contender: contender.name)
    measures = chosen(all_measures(arguments), arguments.measures, "measure", lambda measure: measure.key)
    report = Report(arguments.repetitions)
    began = time.monotonic()
    for measure in measures:
        for _ in range(min(arguments.repetitions, getattr(measure, "repetitions", arguments.repetitions))):
            for contender in contenders:
                if measure.wants(contender):
                    run(measure, contender, report, arguments.scale)
        report.show(measure.figures)
    print(f"\n{time.monotonic() - began:.0f} s in all")
    if arguments.json:
        arguments.json.write_text(report.to_json())
    if arguments.svg:
        arguments.svg.write_text(report.to_svg())
    if arguments.page:
        report.write_into(arguments.page)


def run(measure, contender, report, scale):
    """One run; a contender that does not come to an end is left out and told of, the others go on."""
    try:
        with Server() as server:
            report.add(contender.name, measure.run(contender, server, scale))
    except (TimeoutError, subprocess.SubprocessError) as error:
        print(f"{measure.key} of {contender.name}: {error}", file=sys.stderr)


def all_contenders(arguments):
    others = celery_workers()
    if arguments.rusty_celery:
        others.append(RustyCelery(arguments.rusty_celery))
    bare = [Bare("bare LMOVE client", arguments.client, "lmove"), Bare("bare RPOP client (lossy)", arguments.client, "rpop")]
    return [Celeriac(arguments.worker), *others, *bare]


def all_measures(arguments):
    return [
        Drain("drain", "drain of no-op tasks", results=False),
        Drain("results", "drain of no-op tasks, with results", results=True),
        Drain("two-databases", "drain of no-op tasks, with results in another database of the server", results=True, only=PAIR, database=1),
        Drain("events", "drain of no-op tasks, with events (-E)", results=False, options=["-E"], only=PAIR),
        RoundTrip(arguments.client),
        Rate(arguments.client),
        Sleep(),
        Start(),
        Memory(),
        Flat(),
        Neighbour(),
        Payload(1, 50_000),
        Payload(100, 2_000),
    ]


def chosen(things, names, kind, name_of):
    known = [name_of(thing) for thing in things]
    for name in names or []:
        if name not in known:
            sys.exit(f"no such {kind}: {name}\nhint: one of {', '.join(known)}")
    return [thing for thing in things if not names or name_of(thing) in names]


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {"type": lambda text: text.split(","), "metavar": "NAME,..."}
    parser.add_argument("--repetitions", type=int, default=3, help="of each measure (default 3)")
    parser.add_argument("--quick", action="store_true", help="one repetition of a third of the size")
    parser.add_argument("--measures", help="only these", **names)
    parser.add_argument("--contenders", help="only these", **names)
    parser.add_argument("--soak", type=int, metavar="TASKS", help="only run so many tasks through one worker and watch its memory")
    parser.add_argument("--designs", action="store_true", help="only compare ways of taking messages from Redis")
    parser.add_argument("--against", metavar="WORKER", help="only compare with another build of the worker, in alternating pairs")
    parser.add_argument("--pairs", type=int, default=10, help="of runs of each measure, with --against (default 10)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--svg", type=Path, help="where the chart goes")
    parser.add_argument("--page", type=Path, help="a Markdown page that has marks for a table")
    parser.add_argument("--worker", required=True, help="the program bench-worker")
    parser.add_argument("--client", required=True, help="the program bench-client")
    parser.add_argument("--rusty-celery", help="the program rusty-celery-worker")
    arguments = parser.parse_args()
    arguments.scale = 1.0
    if arguments.quick:
        arguments.repetitions, arguments.scale = 1, 1 / 3
    return arguments


if __name__ == "__main__":
    sys.exit(main())
