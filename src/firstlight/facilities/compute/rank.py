"""One of several processes that perform an action together: python -m firstlight.facilities.compute.rank ATTEMPT."""

import signal
import sys
from pathlib import Path

from ._command import WARNING
from ._perform import perform_rank

if __name__ == "__main__":
    signal.signal(WARNING, lambda *_: None)  # A function that knows nothing of it goes on.
    sys.exit(perform_rank(Path(sys.argv[1])))
