"""Listing domains is light, and says what is missing."""

import subprocess
import sys

from msgspec.structs import replace

from firstlight import core
from firstlight.domains import Domain, domains
from firstlight.domains.critical_materials import DOMAIN


def test_listing_loads_no_simulator() -> None:
    code = (
        "import sys; from firstlight.domains import domains; print(*(d.spec().id for d in domains()));"
        "assert not {'phreeqc', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["critical-materials"]


def test_missing_names_the_extra_to_install() -> None:
    absent: Domain = replace(DOMAIN, modules=("surely_not_installed",))
    assert "surely_not_installed" in absent.missing()
    assert "pip install 'firstlight[critical-materials]'" in absent.missing()
    assert "the program surely-not-there" in replace(DOMAIN, programs=("surely-not-there",)).missing()
    assert replace(DOMAIN, modules=("json",)).missing() == ""


def test_specs_are_sound() -> None:
    for domain in domains():
        spec = domain.spec()
        assert spec.id == domain.name
        entry = core.Entry(seq=1, at=0.0, by="test", fact=core.CampaignOpened(spec=spec))
        assert core.decode(core.encode(entry)).fact == entry.fact
        assert all(o.threshold is not None for o in spec.goal.objectives)


def test_a_worker_without_the_simulator_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['phreeqc'] = None\n"
        "from firstlight.domains.critical_materials import evaluate\n"
        "from firstlight.core import Failed\n"
        "try: evaluate({'pH1': 6, 'pH2': 7, 'bicarbonate': 1, 'temperature': 25})\n"
        "except Failed as failed: print(failed)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("invalid-input: ")
    assert "pip install 'firstlight[critical-materials]'" in done.stdout
