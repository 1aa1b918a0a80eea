"""`python -m services` prints the names of the services; with `--write` it writes the files generated from their declarations."""

import argparse

from services import SERVICES
from services.discovery import ROOT
from services.generated import files, orphans


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m services", description="Print the names of the services.")
    parser.add_argument("--with-database", action="store_true", help="only services with a database")
    parser.add_argument("--with-kafka", action="store_true", help="only services that publish or consume events")
    parser.add_argument("--write", action="store_true", help="write the generated files instead")
    options = parser.parse_args()
    if options.write:
        for path, text in files(ROOT, SERVICES):
            path.write_text(text, encoding="utf-8")
        for path in orphans(ROOT, SERVICES):
            path.unlink()
        return
    for service in SERVICES:
        if (service.database or not options.with_database) and (service.uses_kafka or not options.with_kafka):
            print(service.name)


if __name__ == "__main__":
    main()
