"""Call a domain's function as a command: python -m firstlight.domains MODULE:FUNCTION [SETTINGS].

The point is read from the file that $FIRSTLIGHT_POINT names, SETTINGS is a JSON table of further arguments, and what
comes of it is written to outputs.json, as the local facility's command runner expects.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from firstlight.core import Failed


def main(operation: str, settings: str = "{}") -> None:
    """Call it, and write what it gives back, or why it failed."""
    module, _, function = operation.partition(":")
    point = json.loads(Path(os.environ["FIRSTLIGHT_POINT"]).read_bytes())
    try:
        outputs: Any = getattr(import_module(module), function)(point, **json.loads(settings))
    except Failed as failed:
        outputs = {"failure": {"cause": failed.cause, "message": failed.message}}
    # Scalars of array libraries know how to become Python's own.
    Path("outputs.json").write_text(json.dumps(outputs, default=lambda scalar: scalar.item()))


if __name__ == "__main__":
    main(*sys.argv[1:])
