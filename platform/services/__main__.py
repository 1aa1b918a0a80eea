"""`python -m services`: the names of the services; `--write`: write what is generated from their declarations."""

import argparse

from services import SERVICES
from services.discovery import ROOT
from services.generated import files


def main() -> None:
    """Print or write."""
    parser = argparse.ArgumentParser(prog="python -m services", description="Print the names of the services.")
    parser.add_argument("--with-database", action="store_true", help="only those that have one")
    parser.add_argument("--with-kafka", action="store_true", help="only those that publish or consume events")
    parser.add_argument("--write", action="store_true", help="write the generated files instead")
    options = parser.parse_args()
    if options.write:
        for path, text in files(ROOT, SERVICES):
            path.write_text(text, encoding="utf-8")
        return
    for service in SERVICES:
        if (service.database or not options.with_database) and (service.uses_kafka or not options.with_kafka):
            print(service.name)


if __name__ == "__main__":
    main()
