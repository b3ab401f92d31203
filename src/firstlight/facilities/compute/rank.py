"""One of several processes that perform an action together: python -m firstlight.facilities.compute.rank ATTEMPT."""

import sys
from pathlib import Path

from ._perform import perform_rank

if __name__ == "__main__":
    sys.exit(perform_rank(Path(sys.argv[1])))
