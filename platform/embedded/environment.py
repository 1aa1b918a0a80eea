"""Creates `.venv` from the lock file: `python3 -I platform/embedded/environment.py`.

Runs before anything is installed, on the Python of the machine. It therefore uses only the standard library, and reports
clearly if the Python is too old. Concurrent runs wait for each other.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, ".complete")
LOCK_FILE = os.path.join(ROOT, "requirements-dev.txt")
OLDEST = (3, 11)


def main():
    """Create or update the environment, unless it matches the lock file."""
    if sys.version_info < OLDEST:
        restart_with_newer_python()
    with open(LOCK_FILE) as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        content = locked.read()
        wanted = hashlib.sha256(content.encode()).hexdigest()
        if read(STAMP) == wanted and works(PYTHON, "-c", "import uv"):
            return
        make(content)
        with open(STAMP, "w") as stamp:
            stamp.write(wanted)


def make(locked):
    """Create the environment, or update the existing one if it works."""
    if not works(PYTHON, "-c", "import pip, sys; sys.exit(sys.version_info < %r)" % (OLDEST,)):
        say("Creating the environment in .venv")
        if not works(sys.executable, "-I", "-c", "import venv, ensurepip"):
            sys.exit(
                "This Python (%s) cannot create virtual environments: its venv module is missing.\n"
                "On Debian and Ubuntu it is a separate package: apt install python3-venv" % sys.executable
            )
        run(sys.executable, "-I", "-m", "venv", "--clear", VENV)
    say("Installing the packages of requirements-dev.txt (each is verified against its hash)")
    installer = os.path.join(VENV, "installer.txt")
    with open(installer, "w") as file:
        file.write(re.search(r"^uv==.*\n(?:    --hash=.*\n)+", locked, re.M).group())
    run(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", installer)
    # Compile now, so that the first start is as fast as any other.
    sync = [PYTHON, "-m", "uv", "pip", "sync", "--python", PYTHON, "--require-hashes", "--compile-bytecode", LOCK_FILE]
    run(*sync, *([] if sys.stderr.isatty() else ["-q"]))


def restart_with_newer_python():
    """Run this program again on a newer Python, if the machine has one."""
    for minor in range(20, OLDEST[1] - 1, -1):
        found = shutil.which("python3.%d" % minor)
        if found:
            os.execv(found, [found, "-I", os.path.abspath(__file__)])
    sys.exit(
        "Python 3.11 or newer is required; python3 is %d.%d. Specify another one with PYTHON, for example:"
        " make demo PYTHON=/usr/local/bin/python3.13" % sys.version_info[:2]
    )


def run(*command):
    """Run a program; if it fails, exit with a message that names it."""
    status = subprocess.call(command, env=clean_environment())
    if status:
        sys.exit("%s failed with exit status %d. Fix the cause and run make again." % (" ".join(command[:4]), status))


def works(*command):
    """Whether a program can be started and succeeds."""
    try:
        return (
            subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment()) == 0
        )
    except OSError:
        return False


def clean_environment():
    """The environment variables without those that would make another Python's packages visible."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def read(path):
    """The content of a file; empty if it does not exist."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def say(text):
    """Print a message to standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
