"""``alembic``, as the runbook calls it. The migrations are those of the Rust service.

Each command becomes one of ``companion``. The migrator only adds, so there is no way down, and no revision in between to
upgrade to.
"""

import os
import sys

HELP = """\
This is not Alembic: migrations are applied by the companion itself.

    alembic upgrade head      runs `companion migrate`
    alembic current           shows the revision that the database has
    alembic history           shows all revisions, the newest first
    alembic heads             shows the newest revision
    alembic check             tells whether the database has all revisions
    alembic stamp REVISION    records a revision (or head, or base) without changing anything else

Changes of the schema only add, so a rollback needs no downgrade: an earlier release runs on the newer schema.
"""

IGNORED = {"-v", "--verbose"}


def companion(arguments):
    """The arguments of ``companion`` for those of ``alembic``; None when there are none."""
    match [argument for argument in arguments if argument not in IGNORED]:
        case ["upgrade", "head" | "heads"]:
            return ["migrate"]
        case ["current" | "history" | "heads" | "check" as command]:
            return ["schema", command]
        case ["stamp", revision]:
            return ["schema", "stamp", revision]
    return None


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["--help"], ["-h"], []):
        print(HELP, end="")
        return 0
    command = companion(arguments)
    if command is None:
        print(f"alembic {' '.join(arguments)}: not available here.\n{HELP}", end="", file=sys.stderr)
        return 2
    try:
        os.execvp("companion", ["companion", *command])
    except FileNotFoundError:
        print(f"alembic {' '.join(arguments)}: the program `companion` is not on the PATH", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
