"""Things in a laboratory, durably and for every process: labware, samples, materials, and their history."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...core import Sample, Use
from ._layout import BadLaboratory, Layout

_TABLES = """
CREATE TABLE IF NOT EXISTS labware(
    id TEXT PRIMARY KEY, wells TEXT NOT NULL, place TEXT NOT NULL, purpose TEXT NOT NULL DEFAULT '',
    begun INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS materials(
    id TEXT PRIMARY KEY, amount REAL NOT NULL, unit TEXT NOT NULL, reserve REAL NOT NULL);
CREATE TABLE IF NOT EXISTS promised(material TEXT, action TEXT, trial TEXT, amount REAL, PRIMARY KEY(material, action));
CREATE TABLE IF NOT EXISTS samples(
    id TEXT PRIMARY KEY, trial TEXT NOT NULL, labware TEXT NOT NULL, well TEXT NOT NULL, state TEXT NOT NULL DEFAULT '',
    uses BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS one_sample_a_well ON samples(labware, well);
CREATE INDEX IF NOT EXISTS samples_of_trial ON samples(trial);
CREATE TABLE IF NOT EXISTS history(
    at REAL NOT NULL, thing TEXT NOT NULL, what TEXT NOT NULL, run TEXT NOT NULL DEFAULT '');
"""


class Plate(NamedTuple):
    """A piece of labware: its wells, where it is ("" while nobody knows), and what it was set apart for."""

    id: str
    wells: tuple[str, ...]
    place: str
    purpose: str
    begun: bool


class Stock(NamedTuple):
    """A consumable: what is there, what of it is promised, and what is never drawn, in `unit`."""

    id: str
    amount: float
    unit: str
    reserve: float
    promised: float

    @property
    def free(self) -> float:
        """What may still be promised."""
        return self.amount - self.reserve - self.promised


class Things:
    """One SQLite file. Every method is one transaction, durable when it returns."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(file, timeout=30.0, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it, or nothing. Nested ones are part of the outer one."""
        with self._lock:
            if self._db.in_transaction:
                yield self._db
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, args).fetchall()

    def stock(
        self, layout: Layout, quantity: Callable[[str], tuple[float, str]],
        convert: Callable[[float, str, str], float],
    ) -> None:  # fmt: skip
        """Take in what the laboratory's file names and the store does not know yet; what is known stays as it is.

        Raises BadLaboratory where a reserve or a capacity is no amount of its material.
        """
        with self.changing() as db:
            for id, piece in layout.labware.items():
                db.execute(
                    "INSERT OR IGNORE INTO labware(id, wells, place) VALUES(?, ?, ?)",
                    (id, json.dumps(piece.names()), piece.place),
                )
            for id, material in layout.materials.items():
                try:
                    amount, unit = quantity(material.amount)
                    reserve, _ = (convert(*quantity(said), unit) if said else 0.0
                                  for said in (material.reserve, material.capacity))  # fmt: skip
                except ValueError as error:
                    raise BadLaboratory(f"material {id}: {error}") from error
                db.execute("INSERT OR IGNORE INTO materials VALUES(?, ?, ?, ?)", (id, amount, unit, reserve))

    def plates(self) -> list[Plate]:
        return [
            Plate(id, tuple(json.loads(wells)), place, purpose, bool(begun))
            for id, wells, place, purpose, begun in self._rows(
                "SELECT id, wells, place, purpose, begun FROM labware ORDER BY rowid"
            )
        ]

    def plate(self, id: str) -> Plate | None:
        return next((p for p in self.plates() if p.id == id), None)

    def place(self, labware: str, place: str, run: str = "") -> None:
        """Where a piece of labware is from now on; "" where nobody knows."""
        with self.changing() as db:
            db.execute("UPDATE labware SET place=? WHERE id=?", (place, labware))
            self._note(db, labware, f"moved to {place}" if place else "somewhere between", run)

    def last_place(self, labware: str) -> str:
        """Where a piece of labware was last known to be, "" where nobody has moved it."""
        places = [what.rpartition(" to ")[2] for _, _, what, _ in self.history(labware) if " to " in what]
        return places[-1] if places else ""

    def add_labware(self, id: str, wells: Sequence[str], place: str) -> None:
        """A fresh piece of labware, also in place of a used one of the same name."""
        with self.changing() as db:
            db.execute(
                "INSERT OR REPLACE INTO labware(id, wells, place) VALUES(?, ?, ?)", (id, json.dumps(list(wells)), place)
            )
            # The samples keep their history; their wells are those of a plate that is gone.
            db.execute(
                "UPDATE samples SET well=well || ' of ' || rowid, labware=? WHERE labware=?", (f"{id} (old)", id)
            )
            self._note(db, id, f"brought to {place}", "")

    def set_apart(self, labware: str, purpose: str) -> None:
        with self.changing() as db:
            db.execute("UPDATE labware SET purpose=? WHERE id=?", (purpose, labware))

    def take_plate(self, labware: str) -> None:
        """Something has been done to all of it: no further sample is put on it."""
        with self.changing() as db:
            db.execute("UPDATE labware SET begun=1 WHERE id=?", (labware,))

    def samples(self, trial: str = "", labware: str = "") -> list[tuple[Sample, str, str]]:
        """Those of a trial or on a piece of labware, or all, each with its labware and well."""
        where, args = ("WHERE trial=?", (trial,)) if trial else ("WHERE labware=?", (labware,)) if labware else ("", ())
        return [
            (
                Sample(
                    id=id, kind="well", location=f"{plate}/{well}", state=state,
                    uses=msgspec.json.decode(uses, type=tuple[Use, ...]),
                ),
                plate, well,
            )
            for id, plate, well, state, uses in self._rows(
                f"SELECT id, labware, well, state, uses FROM samples {where} ORDER BY rowid", *args
            )
        ]  # fmt: skip

    def sample(self, id: str) -> tuple[str, str] | None:
        """The labware and the well of a sample."""
        rows = self._rows("SELECT labware, well FROM samples WHERE id=?", id)
        return rows[0] if rows else None

    def put_sample(self, id: str, trial: str, labware: str, well: str) -> None:
        with self.changing() as db:
            db.execute(
                "INSERT OR IGNORE INTO samples(id, trial, labware, well, uses) VALUES(?, ?, ?, ?, ?)",
                (id, trial, labware, well, b"[]"),
            )
            self._note(db, id, f"given {labware}/{well}", "")

    def use(self, sample: str, use: Use) -> None:
        """Something went into a sample or was done to it."""
        with self.changing() as db:
            row = db.execute("SELECT uses FROM samples WHERE id=?", (sample,)).fetchone()
            if row is not None:
                uses = (*msgspec.json.decode(row[0], type=tuple[Use, ...]), use)
                db.execute("UPDATE samples SET uses=? WHERE id=?", (msgspec.json.encode(uses), sample))

    def mark(self, trial: str, state: str) -> None:
        """What became of the samples of a trial."""
        with self.changing() as db:
            db.execute("UPDATE samples SET state=? WHERE trial=?", (state, trial))

    def materials(self) -> dict[str, Stock]:
        return {
            id: Stock(id, amount, unit, reserve, promised)
            for id, amount, unit, reserve, promised in self._rows(
                "SELECT id, amount, unit, reserve, COALESCE((SELECT SUM(amount) FROM promised WHERE material=id), 0)"
                " FROM materials ORDER BY rowid"
            )
        }

    def promise(self, wanted: Sequence[tuple[str, str, float]], trial: str) -> str:
        """Set aside what the actions of a trial draw (material, action, amount), or nothing; what is missing, or ""."""
        with self.changing() as db:
            total: dict[str, float] = {}
            for material, action, amount in wanted:
                if not db.execute(
                    "SELECT 1 FROM promised WHERE material=? AND action=?", (material, action)
                ).fetchone():
                    total[material] = total.get(material, 0.0) + amount
            there = self.materials()
            for material, amount in total.items():
                stock = there[material]
                if amount > stock.free * (1 + 1e-9) + 1e-12:
                    unit = f" {stock.unit}"
                    return (
                        f"{material} runs out: {trial} needs {amount:.4g}{unit}, and {max(0.0, stock.free):.4g}{unit}"
                        f" of {stock.amount:.4g}{unit} is free; refill it"
                    )
            db.executemany(
                "INSERT OR IGNORE INTO promised VALUES(?, ?, ?, ?)",
                [(material, action, trial, amount) for material, action, amount in wanted],
            )
        return ""

    def draw(self, action: str, run: str) -> None:
        """What was promised to an action has been drawn."""
        with self.changing() as db:
            for material, amount in db.execute(
                "SELECT material, amount FROM promised WHERE action=?", (action,)
            ).fetchall():
                db.execute("UPDATE materials SET amount=MAX(0, amount - ?) WHERE id=?", (amount, material))
                self._note(db, material, f"{amount:.6g} drawn", run)
            db.execute("DELETE FROM promised WHERE action=?", (action,))

    def promised(self, action: str) -> list[tuple[str, float, str]]:
        """What is promised to an action: material, amount, unit."""
        return [
            (str(m), float(a), str(u))
            for m, a, u in self._rows(
                "SELECT material, p.amount, unit FROM promised p JOIN materials m ON m.id=material WHERE action=?",
                action,
            )
        ]

    def refill(self, material: str, amount: float) -> Stock:
        """So much more of it is there. Raises LookupError."""
        with self.changing() as db:
            db.execute("UPDATE materials SET amount=amount+? WHERE id=?", (amount, material))
            self._note(db, material, f"{amount:.6g} added", "")
        return self.materials()[material]

    def history(self, thing: str = "") -> list[tuple[float, str, str, str]]:
        """What happened to a thing, or to all: when, what it was, what happened, by which run."""
        where = "WHERE thing=?" if thing else ""
        rows = self._rows(
            f"SELECT at, thing, what, run FROM history {where} ORDER BY rowid", *([thing] if thing else [])
        )
        return [(float(at), str(t), str(what), str(run)) for at, t, what, run in rows]

    def _note(self, db: sqlite3.Connection, thing: str, what: str, run: str) -> None:
        db.execute("INSERT INTO history VALUES(?, ?, ?, ?)", (time.time(), thing, what, run))
