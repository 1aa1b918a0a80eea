"""One settings module per service: `settings.gateway`, `settings.users`, `settings.orders`, `settings.payments`.

Every entry point imports the settings first, so this is where `platform/` becomes a source root. It is appended to
`sys.path`, never inserted at the front: a `platform` or `http` folder before the standard library would shadow its modules.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_source_root = str(ROOT / "platform")
if _source_root not in sys.path:
    sys.path.append(_source_root)
