"""Many tasks through one worker: its memory must not grow."""

import time

from server import Server, wait_until

STEP = 100_000
# Most messages that wait at a time.
WAITING = 20_000


def soak(contender, tasks):
    """Prints the worker's resident memory after each 100,000 tasks; fails when it ends above 1.2 times the first."""
    # Results are kept for seconds: what grows here is to be the worker.
    options = ["--result-expires", "5"]
    with Server() as server, contender.start(server, options=options) as worker:
        first, done = None, 0
        while done < tasks:
            for _ in range(STEP // WAITING):
                server.push("bench.noop", WAITING)
                wait_until(120, server.is_drained)
            done += STEP
            time.sleep(0.5)
            resident = worker.rss_mib()
            first = first or resident
            print(f"{done:>10,} tasks   {resident:6.1f} MiB   {resident / first:.3f}", flush=True)
        return 0 if resident <= 1.2 * first else 1
