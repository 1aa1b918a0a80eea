"""A class data sharing (CDS) archive of the broker's classes, which halves the time that Kafka takes to start.

The Java runtime in the wheel has no archive, so it loads even its own classes from scratch at each start. The archive is
created by the first run on a machine; Kafka also starts without it.
"""

import os
import subprocess

from embedded import cache, jars
from embedded.display import say
from embedded.kafka import JVM, Kafka, archive_path, java


def make() -> None:
    """Create the archive for this runtime and these jars, unless it exists: start a broker and record the classes it loads."""
    archive = archive_path()
    with cache.lock("archive"):
        if archive.exists():
            return
        say("Preparing Kafka for fast starts (once)")
        with cache.temporary_folder("archive") as folder:
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
                # An empty file, so that a runtime that does not support this is not tried again.
                archive.touch()
