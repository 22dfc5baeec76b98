"""Queues ``app.tasks.reminders.send_due_reminders`` by hand.

    python -m app.tasks.reminders.send_due_reminders [--at ISO-TIME] [--wait SECONDS]

Prints the id of the task; with ``--wait`` also its result, the number of reminders that were queued.
"""

import argparse
import sys
from datetime import datetime

from app.queueing import wait_option, queue


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m app.tasks.reminders.send_due_reminders")
    parser.add_argument("--at", type=iso_time, metavar="ISO-TIME", help="scan as if it were this time; default: now")
    wait_option(parser)
    options = parser.parse_args(arguments)
    return queue("app.tasks.reminders.send_due_reminders", [[options.at] if options.at else []], options.wait)


def iso_time(text):
    datetime.fromisoformat(text.replace("Z", "+00:00"))
    return text


if __name__ == "__main__":
    sys.exit(main())
