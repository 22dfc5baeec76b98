"""Queues the delivery of chosen reminders by hand.

    python -m app.tasks.reminders.deliver_reminder ID [ID ...] [--wait SECONDS]

Prints the id of each task; with ``--wait`` also its result. A reminder that was sent is not sent again.
"""

import argparse
import sys
import uuid

from app.queueing import queue, wait_option


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m app.tasks.reminders.deliver_reminder")
    parser.add_argument("ids", nargs="+", type=uuid.UUID, metavar="ID", help="the id (UUID) of a reminder")
    wait_option(parser)
    options = parser.parse_args(arguments)
    return queue("app.tasks.reminders.deliver_reminder", [[str(id)] for id in options.ids], options.wait)


if __name__ == "__main__":
    sys.exit(main())
