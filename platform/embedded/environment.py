"""Make `.venv` from the lock file, once: `python3 -I platform/embedded/environment.py`.

Runs before anything is installed, on whatever Python the machine has: so only the standard library, and a clear message
for a Python that is too old. Two that run at once wait for each other.
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
FLOOR = (3, 11)


def main():
    """Exit 0 when the environment is there and is what the lock file says."""
    if sys.version_info < FLOOR:
        start_again_with_newer_python()
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
    """Make the environment; what is there already is kept, if it works."""
    if not works(PYTHON, "-c", "import pip, sys; sys.exit(sys.version_info < %r)" % (FLOOR,)):
        say("Making the environment in .venv")
        if not works(sys.executable, "-I", "-c", "import venv, ensurepip"):
            sys.exit(
                "This Python (%s) cannot make virtual environments: its venv module is missing.\n"
                "Debian and Ubuntu have it in a package of its own: apt install python3-venv" % sys.executable
            )
        run(sys.executable, "-I", "-m", "venv", "--clear", VENV)
    say("Installing what requirements-dev.txt locks (each package checked against its hash)")
    installer = os.path.join(VENV, "installer.txt")
    with open(installer, "w") as file:
        file.write(re.search(r"^uv==.*\n(?:    --hash=.*\n)+", locked, re.M).group())
    run(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", installer)
    # Compiled now, so that the first start is as quick as any other.
    sync = [PYTHON, "-m", "uv", "pip", "sync", "--python", PYTHON, "--require-hashes", "--compile-bytecode", LOCK_FILE]
    run(*sync, *([] if sys.stderr.isatty() else ["-q"]))


def start_again_with_newer_python():
    """Replace this process by the same on a newer Python, if the machine has one."""
    for minor in range(20, FLOOR[1] - 1, -1):
        found = shutil.which("python3.%d" % minor)
        if found:
            os.execv(found, [found, "-I", os.path.abspath(__file__)])
    sys.exit(
        "Python 3.11 or newer is needed; python3 here is %d.%d. Name another one with PYTHON, for example:"
        " make demo PYTHON=/usr/local/bin/python3.13" % sys.version_info[:2]
    )


def run(*command):
    """Run a program; when it fails, end with a message that says which."""
    status = subprocess.call(command, env=clean_environment())
    if status:
        sys.exit(
            "%s failed with exit status %d. Run make again when the cause is gone." % (" ".join(command[:4]), status)
        )


def works(*command):
    """Whether a program can be started and ends well."""
    try:
        return (
            subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment()) == 0
        )
    except OSError:
        return False


def clean_environment():
    """The environment without what would make another Python's packages look like this one's."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def read(path):
    """The text of a file; nothing if there is none."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def say(text):
    """Tell the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
