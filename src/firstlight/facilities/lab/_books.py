"""What runs did to samples, labware and stock, and what is told of them."""

import dataclasses
import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ...core import Asset, Failure, Measured, Observation, Outcome, Use
from ..assets import AssetStore
from ._orders import Desk, Order, booked_order
from ._runs import Ended
from ._store import Job, RunRow, Store


class Books:
    """Writes down how runs ended. What it writes of one run is one transaction."""

    def __init__(self, store: Store, desk: Desk, assets: AssetStore) -> None:
        self.store, self.desk, self.assets = store, desk, assets

    def conclude(self, run: RunRow, order: Order, ended: Ended, interlock: str) -> None:
        """A run that has ended: what it did, and the outcome of each of its actions."""
        state, last = ("failed" if ended.state == "doubt" else ended.state), ended.run
        results, unseen = dict(last.results) if last else {}, out_of_sight(order, ended)
        assets = self._assets(run.id, results)
        outcome: Outcome
        if state == "succeeded" and not interlock:
            outcome = Measured(observations=_observed(order, results), assets=assets)
        else:
            why = interlock or ended.message or f"{run.operation} {state}"
            outcome = Failure(cause="interlock" if interlock else ended.cause, message=why, assets=assets)
        with self.store.changing():
            self.store.settle(
                run.id, "doubt" if unseen else "failed" if interlock else state, interlock or ended.message,
                _plain(results), last.started if last else 0.0, last.ended if last else 0.0,
            )  # fmt: skip
            kept = self.store.run(run.id) or run
            if not unseen:
                self.did(kept, order, done=state == "succeeded")
            self.store.release(run.id, order.instrument if unseen else "")
            for member in run.members:
                samples = tuple(s for s, _, _ in self.store.samples(trial=member.rpartition(".")[0]))
                self.store.end(member, replace(outcome, samples=samples, started=kept.started, ended=kept.ended))

    def never(self, run: RunRow, order: Order) -> None:
        """A run that was never begun: its actions wait again, and its labware is where it was."""
        with self.store.changing():
            self.put_back(run, order)
            self.store.requeue(run.id)

    def again(self, run: RunRow, order: Order, why: str, owner: str) -> None:
        """A run in doubt that may be repeated."""
        with self.store.changing():
            self.store.settle(run.id, "doubted", why)
            self.store.release(run.id)
            for job in self._jobs(run):
                self.store.again(job.permit, owner)
            self.put_back(run, order)

    def doubt(self, run: RunRow, order: Order, why: str) -> None:
        """A run of which nobody knows what came: a person must look."""
        message = f"{order.instrument}.{run.operation} ({run.id}) was sent, and nobody knows what came of it: {why}"
        with self.store.changing():
            self.store.settle(run.id, "doubt", why)
            # Others may go on, but for where labware may be on its way.
            self.store.release(run.id, order.instrument if order.form.moves else "")
            for member in run.members:
                self.store.doubt(member, message)

    def not_performed(self, job: Job) -> None:
        """A person has said that a run in doubt never happened."""
        run, order = self.store.run(job.run), booked_order(job.permit.action, self.desk.layout)
        if run is not None and order is not None and run.state == "doubt":
            with self.store.changing():
                self.store.settle(run.id, "never", run.message)
                self.put_back(run, order)
                self.store.release(run.id)

    def attest(self, job: Job, at: float) -> None:
        """A person has said that a run in doubt was performed."""
        run, order = self.store.run(job.run), booked_order(job.permit.action, self.desk.layout)
        with self.store.changing():
            if run is not None and order is not None and run.state == "doubt":
                self.store.settle(run.id, "attested", run.message, run.results, ended=at)
                self.did(run._replace(ended=at), order, done=True)
                self.store.release(run.id)
            self.store.end(job.id, Measured(ended=at))

    def give_up(self, job: Job) -> None:
        """Nobody asks any more what became of an action: what it was to draw may be gone."""
        run, order = self.store.run(job.run), booked_order(job.permit.action, self.desk.layout)
        with self.store.changing():
            self.store.end(job.id, Failure(cause="lost", message=job.message))
            if run is None or order is None or run.state != "doubt":
                return
            self._draw(order, job.id, run._replace(ended=time.time()), done=False)
            if any(j.state == "doubt" for j in self._jobs(run)):
                return
            # What labware on its way may stand on stays reserved until somebody has found it.
            if not any(p.id in run.arguments.values() and not p.place for p in self.store.plates()):
                self.store.settle(run.id, "abandoned", run.message)
                self.store.release(run.id)

    def put_back(self, run: RunRow, order: Order) -> None:
        """Labware that was not moved after all is where it was."""
        moves = order.form.moves
        if moves:
            what = str(run.arguments[moves.what])
            piece = self.desk.layout.labware.get(what)
            home = piece.place if piece else ""
            origin = run.arguments.get(moves.origin) or self.store.last_place(what) or home
            if origin:
                self.store.place(what, str(origin), run.id)

    def did(self, run: RunRow, order: Order, done: bool) -> None:
        """What was drawn is gone, also where it failed; what was moved is where it was to go, if it succeeded."""
        moves = order.form.moves
        if moves:
            what = str(run.arguments[moves.what])
            if done:
                self.store.place(what, str(run.arguments[moves.to]), run.id)
            else:
                self.put_back(run, order)
        touched = list[str]()
        if order.carries:
            for plate in self.desk.plates(order, run.arguments):
                touched += [sample.id for sample, _, _ in self.store.samples(labware=plate)]
        for member in run.members:
            job = self.store.job(member)
            if job is None:
                continue
            mine = dataclasses.replace(order, action=job.permit.action)
            self._draw(mine, member, run, done)
            if not order.carries and not order.form.draws:
                touched += mine.samples
        word = f"{run.instrument}.{run.operation}" + ("" if done else " (failed)")
        for sample in dict.fromkeys(touched):
            self.store.use(sample, Use(material=word, action=run.id, at=run.ended))

    def _draw(self, order: Order, job: str, run: RunRow, done: bool) -> None:
        """What was promised to a job is gone; how much of it arrived before a fault, nobody knows."""
        for material, amount, unit in self.store.promised(job):
            name = material if done else f"{material} (perhaps)"
            for sample in order.samples or self._in_wells(order, run):
                self.store.use(sample, Use(material=name, amount=amount, unit=unit, action=job, at=run.ended))
        self.store.draw(job, run.id)

    def _in_wells(self, order: Order, run: RunRow) -> list[str]:
        """The samples in wells that an order names itself; what nobody has put there before is one from now on."""
        found = list[str]()
        for plate, _, well in (str(run.arguments.get(draw.to, "")).partition("/") for draw in order.form.draws):
            there = [sample.id for sample, _, where in self.store.samples(labware=plate) if where == well]
            if well and not there:
                there = [f"{order.action.trial}-{len(found) + 1}"]
                self.store.put_sample(there[0], order.action.trial, plate, well)
            found += there
        return found

    def _jobs(self, run: RunRow) -> list[Job]:
        return [job for member in run.members if (job := self.store.job(member))]

    def _assets(self, run: str, results: Mapping[str, Any]) -> tuple[Asset, ...]:
        """Results that are no single values (spectra, event documents), as files."""
        kept = []
        for name, value in results.items():
            if isinstance(value, list | tuple | dict):
                with tempfile.TemporaryDirectory() as scratch:
                    file = Path(scratch) / f"{run}.{name}.json".replace("/", "-")
                    file.write_text(json.dumps(value, default=str))
                    kept.append(self.assets.put(file, media_type="application/json"))
        return tuple(kept)


def out_of_sight(order: Order, ended: Ended) -> bool:
    """Whether labware was on its way when its move failed: where it is, only a person can tell."""
    begun = ended.state == "doubt" or (ended.run is not None and ended.state != "succeeded")
    return begun and order.form.moves is not None


def _observed(order: Order, results: Mapping[str, Any]) -> tuple[Observation, ...]:
    """Its numbers, under the names by which they are observed, in the units of the instrument."""
    units = {r.name: r.unit for r in order.operation.results}
    form = order.form
    return tuple(
        Observation(
            observable=form.observe.get(name, name), value=float(value), unit=units.get(name, ""),
            sigma=form.sigma.get(name, 0.0),
        )
        for name, value in results.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )  # fmt: skip


def _plain(results: Mapping[str, Any]) -> dict[str, Any]:
    """What later steps may refer to: single values and short lists."""
    return {k: v for k, v in results.items() if not isinstance(v, dict) and not (_long(v))}


def _long(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str) and len(list(value)) > 64
