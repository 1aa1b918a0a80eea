"""The broker's classes, loaded and checked once for all: an archive that halves what a start of Kafka costs.

Java calls it class data sharing. The runtime from the wheel brings no archive of its own, so even its own classes are
read anew at each start. Made at the first run on a machine; without it Kafka starts all the same.
"""

import os
import subprocess

from embedded import cache, jars
from embedded.display import say
from embedded.kafka import JVM, Kafka, archive_path, java


def make() -> None:
    """Make the archive if there is none for this runtime and these jars: start a broker once, and note what it loads."""
    archive = archive_path()
    with cache.lock("archive"):
        if archive.exists():
            return
        say("Preparing Kafka for quick starts (once)")
        with cache.throwaway("archive") as folder:
            classes = folder / "classes"
            broker = Kafka(folder / "kafka", jvm=(f"-XX:DumpLoadedClassList={classes}",))
            try:
                broker.start()
            finally:
                broker.abandon()
            staging = folder / archive.name
            class_path = os.pathsep.join(map(str, jars.fetch()))
            options = ["-Xshare:dump", f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={staging}"]
            done = subprocess.run([java(), *JVM, *options, "-cp", class_path], capture_output=True, check=False)
            if done.returncode == 0 and staging.exists():
                staging.replace(archive)
            else:
                # Not tried again at every start: this runtime cannot do it.
                archive.touch()
