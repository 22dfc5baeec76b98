"""Celery's sdist, which has the suite, and a Python that has that version of Celery."""
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = ROOT / "compat-tests" / "requirements.txt"
SDISTS = Path(__file__).resolve().parent / "sdists.txt"


def suite_of(version, folder):
    """The unpacked sdist, without its `celery` package: the installed one is tested."""
    place = folder / f"celery-{version}"
    if (place / "docs").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    pins = [line for line in SDISTS.read_text().splitlines() if line.startswith(f"celery=={version} ")]
    if not pins:
        sys.exit(f"the sdist of Celery {version} is not pinned\nhint: add its line to {SDISTS}")
    wanted = downloads / f"celery-{version}.txt"
    wanted.write_text(pins[0] + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", ":all:", "--require-hashes", "--dest", downloads, "--requirement", wanted]
    subprocess.run(command, check=True)
    partial = folder / f"unpacking-{version}"
    with tarfile.open(downloads / f"celery-{version}.tar.gz") as archive:
        paths = tuple(f"celery-{version}/{part}" for part in ("t/", "docs/", "pyproject.toml"))
        wanted = [member for member in archive if member.name.startswith(paths)]
        archive.extractall(partial, wanted, filter="data")
    (partial / f"celery-{version}").rename(place)
    return place


def undocumented_here(suite):
    """The settings that Celery's documentation names and docs/settings.md does not."""
    pages = "".join(page.read_text() for page in sorted((suite / "docs").rglob("*.rst")))
    theirs = {name.lower() for name in re.findall(r"^\.\. setting:: (\S+)", pages, re.MULTILINE)}
    ours = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))
    return sorted(theirs - ours) if theirs else ["none is found at all"]


def python_with(version, folder):
    """The Python of the project's environment, or of one made for another version of Celery."""
    pins = REQUIREMENTS.read_text().splitlines()
    if f"celery=={version}" in pins:
        return ROOT / ".venv" / "bin" / "python"
    # An older Celery wants the kombu of its time, whose versions follow its own; the rest of it is pip's choice.
    direct = (ROOT / "compat-tests" / "requirements.in").read_text().splitlines()
    others = [line for line in direct if line and not line.startswith(("#", "celery", "flower", "poetry"))]
    wanted = [f"celery[redis]=={version}", f"kombu=={version.rpartition('.')[0]}.*", *others]
    stamp = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    place = folder / f"venv-{version}"
    if not (place / stamp).exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        install = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *wanted], check=True)
        (place / stamp).touch()
    return place / "bin" / "python"
