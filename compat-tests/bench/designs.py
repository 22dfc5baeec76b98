"""Ways of taking messages from kombu's keys, side by side: the figures of docs/adr/0002."""

import json
import statistics
import subprocess

from server import Server

COUNT = 100_000
DESIGNS = [("rpop", 256), ("lmove", 256), ("lmove", 64), ("script-move", 256), ("script", 256), ("blmove", 1)]


def compare(client, repetitions, scale):
    """Prints a table: tasks a second and CPU time of Redis for each task, without and with results."""
    found = {}
    for _ in range(repetitions):
        for design, batch in DESIGNS:
            for results in (False, True):
                found.setdefault((design, batch, results), []).append(drain(client, design, batch, results, scale))
    print("| design | messages a round trip | tasks/s | Redis, µs/task | with results, tasks/s | Redis, µs/task |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for design, batch in DESIGNS:
        cells = [f"`{design}`", str(batch)]
        for results in (False, True):
            rates, costs = zip(*found[design, batch, results])
            cells.append(f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})")
            cells.append(f"{statistics.median(costs):.1f}")
        print(f"| {' | '.join(cells)} |")


def drain(client, design, batch, results, scale):
    with Server() as server:
        server.push("bench.noop", int(COUNT * scale) // (50 if batch == 1 else 1))
        before = server.cpu_seconds()
        command = [client, "--broker", server.url, "drain", "--design", design, "--batch", str(batch)]
        run = subprocess.run([*command, *(["--results"] if results else [])], capture_output=True, text=True, check=True)
        report = json.loads(run.stdout)
        return report["rate"], (server.cpu_seconds() - before) * 1e6 / report["tasks"]
