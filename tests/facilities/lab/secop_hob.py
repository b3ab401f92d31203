"""A hob as a SECoP node in a process of its own. Usage: PORT"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.facilities.lab.devices import Hob

from firstlight.facilities.lab.twin.serve_secop import serve

if __name__ == "__main__":
    asyncio.run(serve(Hob(), int(sys.argv[1])))
