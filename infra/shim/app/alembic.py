"""``alembic``, as the runbook calls it. The migrations are those of the Rust service.

``alembic upgrade head`` becomes ``companion migrate``; nothing else of Alembic is needed, and nothing else is done:
the migrator only adds, so there is no way down.
"""

import os
import sys

HELP = """\
This is not Alembic: migrations are applied by the companion itself.

    alembic upgrade head      runs `companion migrate`

Changes of the schema only add, so a rollback needs no downgrade: an earlier release runs on the newer schema.
"""


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["--help"], ["-h"], []):
        print(HELP, end="")
        return 0
    if arguments != ["upgrade", "head"]:
        print(f"alembic {' '.join(arguments)}: not available here.\n{HELP}", end="", file=sys.stderr)
        return 2
    try:
        os.execvp("companion", ["companion", "migrate"])
    except FileNotFoundError:
        print("alembic upgrade head: the program `companion` is not on the PATH", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
