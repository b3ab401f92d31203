"""Laboratories from the command line, against one that is simulated: looked at, driven, and what is wrong said."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firstlight import app, config, core, plugins
from firstlight.cli import cli
from firstlight.facilities.lab import discovery
from firstlight.facilities.lab.twin import control

PROGRAM = [sys.executable, "-c", "from firstlight.cli import main; main()"]
LAB = """
instruments:
  handler: {protocol: sila, address: "127.0.0.1:9", options: {insecure: true}}
"""


class Room:
    """One data directory, and the program in this process."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def do(self, *words: str) -> Any:
        return CliRunner().invoke(cli, list(words), env={"FIRSTLIGHT_HOME": str(self.home)})

    def read(self, *words: str) -> Any:
        done = self.do(*words, "--json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    def error(self, code: int, *words: str) -> str:
        """What is said where it ends badly: one document, no bug, no traceback."""
        done = self.do(*words, "--json")
        assert done.exit_code == code, (done.stdout, done.stderr)
        (line,) = done.stderr.splitlines()
        error = json.loads(line)["error"]
        assert error["code"] == code and "internal" not in line and "Traceback" not in line
        return " ".join([error["message"], error["hint"]])

    @property
    def twin(self) -> Path:
        return self.home / "laboratories" / "cell"

    def begun(self) -> list[str]:
        return [f"{e['device']}.{e['operation']}" for e in control.executions(self.twin)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    room = Room(tmp_path_factory.mktemp("lab") / "home")
    # The process that starts a laboratory leaves it behind, and so it is not this one.
    up = subprocess.run(
        [*PROGRAM, "lab", "up", "--speed", "300", "--json"], env=os.environ | {"FIRSTLIGHT_HOME": str(room.home)},
        capture_output=True, check=True, timeout=90,
    )  # fmt: skip
    assert set(json.loads(up.stdout)["instruments"]) >= {"handler", "heater", "mover"}
    yield room
    assert room.do("lab", "down").exit_code == 0
    assert "no simulated laboratory cell is up" in room.error(5, "lab", "down")


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "home")


DISPENSE = ("lab", "drive", "handler.Dispense")


def test_it_is_up_once_and_is_a_facility(lab: Room) -> None:
    assert "is up already" in lab.error(5, "lab", "up")
    assert {f["facility"]: f["kind"] for f in lab.read("facility", "list")["facilities"]}["cell"] == "lab"
    assert lab.do("facility", "doctor", "cell").exit_code == 0


def test_instruments_say_what_they_can_do(lab: Room) -> None:
    (handler,) = lab.read("lab", "describe", "handler")["instruments"]
    volume = handler["schemas"]["Dispense"]["properties"]["Volume"]
    assert (volume["unit"], volume["minimum"], volume["maximum"]) == ("uL", 5, 1000)
    assert "5 to 1000 uL" in lab.do("lab", "describe", "handler").stdout
    assert "no instrument 'nope'; there are: handler" in lab.error(2, "lab", "describe", "nope")


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (5, ("Reagent=ligand", "Well=plate-1/A1", "Volume=0.1 g"), "Volume: g cannot be turned into uL"),
        (5, ("Reagent=ligand", "Well=plate-1/A1", "Volume=9 mL"), "9000 uL is above the highest, 1000 uL"),
        (5, ("Reagent=ligand", "Well=plate-1/A1", "Volume=[1]"), "Volume: [1] is not a number"),
        (5, ("Reagent=gold", "Well=plate-1/A1", "Volume=20"), "'gold' is none of precursor, ligand"),
        (5, ("Reagent=ligand", "Well=c1.7", "Volume=20"), "there is no sample 'c1.7'"),
        (5, ("Reagent=ligand", "Well=plate-1/Z9", "Volume=20"), "there is no well 'plate-1/Z9'"),
        (5, ("Reagent=ligand",), "Dispense is refused: Well is missing; Volume is missing (in uL)"),
        (2, ("Reagent",), "'Reagent' is not NAME=VALUE"),
        (2, ("Reagent=[a",), "Reagent: '[a' cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    lab: Room, code: int, words: tuple[str, ...], said: str
) -> None:
    before = lab.begun()
    assert said in lab.error(code, *DISPENSE, *words)
    assert lab.begun() == before


@pytest.mark.parametrize(
    ("code", "operation", "said"),
    [
        (2, "nope.Mix", "no instrument 'nope'; there are: handler"), (2, "handler", "is not INSTRUMENT.OPERATION"),
        (5, "handler.Nope", "no operation 'Nope'; it has: Dispense"),
    ],
)  # fmt: skip
def test_an_operation_that_is_not_there_is_named(lab: Room, code: int, operation: str, said: str) -> None:
    assert said in lab.error(code, "lab", "drive", operation)


def test_an_action_by_hand_moves_matter_and_the_books_know(lab: Room) -> None:
    given = ("Reagent=solvent", "Well=plate-1/A1", "Volume=0.1 mL")
    before = lab.begun()
    assert "plate-1 is at hotel-1, and handler works at deck" in lab.error(5, *DISPENSE, *given)
    assert lab.do("lab", "drive", "mover.Transfer", "Plate=plate-1", "To=deck").exit_code == 0
    assert lab.read(*DISPENSE, *given, "--dry-run")["sent"] is False
    assert lab.begun()[len(before) :] == ["mover.Transfer"]
    (seen,) = lab.read(*DISPENSE, *given)["outcome"]["observations"]
    assert (seen["value"], seen["unit"]) == (pytest.approx(100, rel=0.1), "uL")
    assert lab.begun()[len(before) :] == ["mover.Transfer", "handler.Dispense"]
    stock = lab.read("lab", "stock")
    assert {m["id"]: m["amount"] for m in stock["materials"]}["solvent"] % 1 == pytest.approx(0.9)
    assert {p["id"]: p["place"] for p in stock["labware"]}["plate-1"] == "deck"
    assert "deck is occupied by plate-1" in lab.error(5, "lab", "drive", "mover.Transfer", "Plate=plate-2", "To=deck")


def test_an_open_door_is_an_interlock(lab: Room) -> None:
    before = lab.begun()
    control.fault(lab.twin, "heater", "door", now=True)
    try:
        said = lab.error(5, "lab", "drive", "heater.Heat", "Temperature=300 K", "Duration=10")
    finally:
        control.clear(lab.twin)
    assert "the door of heater is open" in said
    assert lab.begun() == before


def test_what_somebody_else_has_reserved_is_refused(lab: Room) -> None:
    """Another process looks after a long heating; once it is gone, a stop ends that and gives the heater back."""
    heat = ("lab", "drive", "heater.Heat", "Temperature=100 degC", "Duration=7000")
    other = subprocess.Popen(
        [*PROGRAM, *heat],
        env=os.environ | {"FIRSTLIGHT_HOME": str(lab.home)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    before = len(lab.begun())
    while len(lab.begun()) == before:
        assert other.poll() is None
    assert "heater is reserved by by-hand-" in lab.error(5, *heat)
    other.send_signal(signal.SIGINT)
    _, said = other.communicate(timeout=20)
    assert other.returncode == 3
    assert "heater.Heat goes on; `firstlight lab stop heater` ends it" in said
    assert lab.read("lab", "stop", "heater") == {"stopped": {"heater": ""}}
    assert lab.do("lab", "drive", "heater.Heat", "Temperature=100 degC", "Duration=1").exit_code == 0


def test_stops_refills_and_places(lab: Room) -> None:
    assert set(lab.read("lab", "stop")["stopped"].values()) == {""}
    assert "no instrument 'nope'" in lab.error(2, "lab", "stop", "nope")
    had = {m["id"]: m["amount"] for m in lab.read("lab", "stock")["materials"]}["ligand"]
    assert lab.read("lab", "refill", "ligand", "500 uL")["amount"] == pytest.approx(had + 0.5)
    assert "no material 'gold'; there are: precursor" in lab.error(2, "lab", "refill", "gold", "1 mL")
    assert "g cannot be turned into mL" in lab.error(2, "lab", "refill", "ligand", "1 g")
    assert "no amount" in lab.error(2, "lab", "refill", "ligand", "0 mL")
    assert "do not fit: ligand takes" in lab.error(2, "lab", "refill", "ligand", "500 mL")
    assert "no labware 'plate-99'" in lab.error(2, "lab", "place", "plate-99", "deck")
    assert "no place 'attic'" in lab.error(2, "lab", "place", "plate-3", "attic")
    assert "hotel-4 is occupied by plate-4" in lab.error(5, "lab", "place", "plate-3", "hotel-4")
    assert lab.read("lab", "place", "plate-3", "hotel-3", "--fresh")["fresh"] is True


def test_nothing_waits_and_words_need_a_campaign(lab: Room) -> None:
    assert lab.read("attend") == {"waiting": [], "laboratories": {"cell": []}, "tasks": []}
    assert "no campaign 'nope'" in lab.error(2, "attend", "nope", "--all", "discard")
    assert "no laboratory 'nope'; there are: cell" in lab.error(2, "lab", "stock", "--lab", "nope")


def test_the_app_knows_its_laboratories_and_takes_a_persons_word(lab: Room, room: Room) -> None:
    async def look() -> None:
        async with app.App.open(config.load_settings(lab.home, {})) as opened:
            assert opened.laboratories == ["cell"]
            assert opened.laboratory() is opened.laboratory("cell")
            with pytest.raises(plugins.UnknownPart, match="there is no laboratory 'local'; there are: cell"):
                opened.laboratory("local")
            spec = config.load_campaign(
                "{id: c, parameters: {x: {low: 0, high: 1, unit: mL}}, objectives: {y: {direction: max, unit: '%'}}, "
                "budget: 1, evaluate: 'm:f'}", units=opened.units,
            )  # fmt: skip
            said = opened.attested(spec, "c.1.do", {"x": "200 uL", "y": 3}, "seen")
            assert said.measured.as_run == {"x": pytest.approx(0.2)}
            assert said.measured.observations == (core.Observation(observable="y", value=3.0, unit="%"),)
            assert opened.attested(spec, "c.1.do", {}) == core.ActionAttested(action="c.1.do")
            with pytest.raises(config.BadCampaign, match="z"):
                opened.attested(spec, "c.1.do", {"z": 1})

    asyncio.run(look())


@pytest.mark.parametrize("words", [("describe",), ("stock",), ("stop",), ("drive", "a.B"), ("refill", "a", "1 mL")])
def test_without_a_laboratory_it_is_said_how_to_get_one(room: Room, words: tuple[str, ...]) -> None:
    said = room.error(2, "lab", *words)
    assert "no laboratory in this data directory" in said and "`firstlight lab up`" in said


def test_the_campaign_of_a_laboratory_needs_it(room: Room) -> None:
    assert "`firstlight lab up`" in room.error(2, "run", "autonomous-lab")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lab", "local"), "local is another facility"), (("--lab", "../x"), "cannot name a facility"),
        (("--faults", "gremlins"), "write all, none, or DEVICE.FAULT of handler"),
        (("--faults", "handler.rust"), "handler has no fault 'rust'; it has: clog"),
        (("--faults", "handler.clog=2"), "'2' is no probability"),
    ],
)  # fmt: skip
def test_no_robot_is_started_that_could_not_be_used(room: Room, words: tuple[str, ...], said: str) -> None:
    assert said in room.error(2, "lab", "up", *words)
    assert not (room.home / "laboratories").exists()


def added(room: Room, text: str | bytes) -> None:
    room.home.mkdir(parents=True, exist_ok=True)
    file = room.home / "lab.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    config.add_facility(config.load_settings(room.home, {}), "bench", {"kind": "lab", "file": str(file)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lab.yaml"), ("instruments: [", "is not YAML"), (b"\xff\xfe\x00", "lab.yaml"),
        ("instruments: {a: {protocol: morse}}", "speaks 'morse', for which there is no adapter; there are:"),
        ("instruments: {a: {protocol: sila, options: {sped: 1}}}", "instrument a has no option 'sped'; sila has:"),
        ("instruments: {}\nmaterials: {acid: {amount: lots}}", "'lots' is not a number with a unit"),
        ("instruments: {}\ninstrumints: {}", "unknown field `instrumints`"),
    ],
)  # fmt: skip
def test_a_damaged_file_of_a_laboratory_is_named(room: Room, text: str | bytes, said: str) -> None:
    added(room, text)
    assert said in room.error(2, "lab", "stock")
    assert said in room.read("attend")["laboratories"]["bench"][0]


def test_a_missing_file_of_a_laboratory_is_named(room: Room) -> None:
    added(room, LAB)
    (room.home / "lab.yaml").unlink()
    assert "lab.yaml cannot be read" in room.error(2, "lab", "describe")


def test_an_instrument_that_is_off_is_unavailable(room: Room) -> None:
    added(room, LAB)
    done = room.do("lab", "describe")
    assert done.exit_code == 6 and "handler cannot be reached" in done.stderr
    assert "handler cannot be reached" in room.error(6, "lab", "drive", "handler.Mix")
    assert room.do("facility", "doctor", "bench").exit_code == 6
    stopped = room.do("lab", "stop")
    assert stopped.exit_code == 6 and "handler: NOT STOPPED" in stopped.stdout


def test_a_damaged_store_is_no_bug(room: Room) -> None:
    added(room, LAB)
    room.do("lab", "stock")
    store = next((room.home / "facilities" / "bench").glob("lab.db"))
    for file in store.parent.glob("lab.db-*"):
        file.unlink()
    store.write_bytes(b"nonsense" * 1000)
    assert "lab.db" in room.error(6, "lab", "stock")


def test_what_announces_itself_is_listed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    from firstlight.facilities.lab import sila  # noqa: PLC0415

    async def found(seconds: float) -> list[Any]:
        from firstlight.facilities.lab._sila_discovery import Discovered  # noqa: PLC0415

        return [Discovered(identity="1", address="10.0.0.1:50052", name="Oven", version="2.1", description="Bakes")]

    monkeypatch.setattr(sila, "discover", found)
    announced = discovery.Announced(
        protocol="sila", address="10.0.0.1:50052", name="Oven", description="Bakes 2.1"
    )  # fmt: skip
    assert asyncio.run(discovery.discover(0.1)) == [announced]
    assert room.read("lab", "discover", "--seconds", "0.1")["found"][0]["address"] == "10.0.0.1:50052"


def test_what_the_program_gives_a_facility_is_not_offered_as_an_option(room: Room) -> None:
    with pytest.raises(plugins.BrokenPart) as caught:
        plugins.make("facilities", "lab", {"zzz": 1})
    said = str(caught.value)
    assert "no option 'zzz'" in said and "file" in said
    assert not [name for name in plugins.GIVEN if name in said.partition("there are:")[2].split(", ")]
