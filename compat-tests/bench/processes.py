"""Running processes, and what they cost."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Processes:
    """A worker of one or more processes; ends with its block."""

    def __init__(self, commands, env, folder):
        self.started = time.monotonic()
        self.processes = [
            subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                env={**os.environ, **env}, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for command in commands
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def pids(self):
        return [pid for process in self.processes for pid in process_tree(process.pid)]

    def pss_mib(self):
        return sum(pss_kib(pid) for pid in self.pids()) / 1024

    def rss_mib(self):
        return sum(status_kib(pid, "VmRSS:") for pid in self.pids()) / 1024

    def cpu_seconds(self):
        return sum(cpu_seconds(pid) for pid in self.pids())


def process_tree(pid):
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0.0


def pss_kib(pid):
    return field_kib(f"/proc/{pid}/smaps_rollup", "Pss:")


def status_kib(pid, name):
    return field_kib(f"/proc/{pid}/status", name)


def field_kib(path, name):
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
