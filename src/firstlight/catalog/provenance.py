"""Who and what made data, of what, and when: a small graph in the words of W3C PROV-DM.

https://www.w3.org/TR/prov-dm/: agents (people, programs, instruments ...) bear responsibility for activities, which use
and generate entities. `trace` reads it out of a campaign's journal, `of_import` says it of data that came from
elsewhere, and `prov_json` writes it for others (https://www.w3.org/submissions/prov-json/).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from ._graph import Activity, Agent, AgentKind, Entity, Provenance
from ._records import Record
from ._trace import trace

__all__ = ["Activity", "Agent", "Entity", "Provenance", "from_prov_json", "of_import", "prov_json", "trace"]


def of_import(record: Record, by: str, software: Mapping[str, str]) -> Provenance:
    """Where data come from that `by` added from a file or another facility, with this software (versions by name).

    What the record says of those who made the data is the word of whoever gave them.
    """
    agents = [_person(by)] if by else []
    agents += [Agent(id=f"software/{n}@{v}", kind="software", name=n, version=v) for n, v in software.items()]
    dataset = Entity(
        id=f"dataset/{record.id}", name=record.card.title or record.name, kind="dataset", digest=record.digest,
        derived_from=tuple(f"dataset/{id}" for id in record.used),
    )  # fmt: skip
    earlier = [Entity(id=f"dataset/{id}", name=id, kind="dataset") for id in record.used if id != record.id]
    activities, origin = list[Activity](), list[Entity]()
    makers = list(_makers(record))
    where = record.address or record.provider
    if where:
        origin = [Entity(id="source", name=where, kind="dataset")]
        dataset = msgspec.structs.replace(dataset, derived_from=(*dataset.derived_from, "source"))
        makers += [Agent(id=f"organization/{n}", kind="organization", name=n) for n in (record.provider,) if n]
    if makers:
        activities.append(Activity(
            id="making", name="made elsewhere", kind="action", ended=record.created,
            settings={"synthetic": record.synthetic}, agents=_ids(makers), used=_ids(earlier),
            generated=("source",) if where else (dataset.id,),
        ))  # fmt: skip
    activities.append(Activity(
        id="import", name=f"import of {record.name}", kind="import", started=record.retrieved, ended=record.retrieved,
        status="succeeded", agents=_ids(agents), used=_ids(origin),
        generated=(dataset.id,) if where or not makers else (), informed_by=("making",) if makers else (),
    ))  # fmt: skip
    unique = {agent.id: agent for agent in (*makers, *agents)}
    return Provenance(
        agents=tuple(unique.values()), activities=tuple(activities), entities=(*earlier, *origin, dataset)
    )


def _makers(record: Record) -> Iterator[Agent]:
    yield from (_person(name) for name in record.people)
    yield from (Agent(id=f"facility/{n}", kind="facility", name=n) for n in record.facilities)
    yield from (Agent(id=f"instrument/{n}", kind="instrument", name=n) for n in record.instruments)
    yield from (Agent(id=f"model/{n}", kind="model", name=n) for n in record.models)
    for name, version in record.software.items():
        yield Agent(id=f"software/{name}@{version}", kind="software", name=name, version=version)


def _person(name: str) -> Agent:
    return Agent(id=f"person/{name}", kind="person", name=name)


def _ids(parts: Iterable[Agent | Entity]) -> tuple[str, ...]:
    return tuple(part.id for part in parts)


# ---------------------------------------------------------------------- PROV-JSON

_TYPES: Mapping[AgentKind, str] = {
    "person": "prov:Person", "organization": "prov:Organization", "software": "prov:SoftwareAgent",
    "model": "prov:SoftwareAgent", "instrument": "fl:Instrument", "facility": "fl:Facility",
}  # fmt: skip
_NAMESPACE = "urn:firstlight:"


def prov_json(p: Provenance) -> dict[str, Any]:
    """A graph as W3C PROV-JSON. Ids become qualified names under the prefix "fl", what is not allowed in them
    percent-encoded; times are xsd:dateTime in UTC. Raises ValueError where a part names an id that the graph lacks."""
    relations = _Relations(p)
    entities, agents, activities = (relations.names[what] for what in ("entity", "agent", "activity"))
    found: dict[str, Any] = {"prefix": {"fl": _NAMESPACE}}
    if p.entities:
        found["entity"] = {entities[e.id]: _plain(e.name, f"fl:{e.kind}", digest=e.digest) for e in p.entities}
    if p.agents:
        found["agent"] = {
            agents[a.id]: _plain(a.name, _TYPES[a.kind], kind="model" if a.kind == "model" else "", version=a.version)
            for a in p.agents
        }  # fmt: skip
    if p.activities:
        found["activity"] = {activities[a.id]: _activity(a) for a in p.activities}
    for entity in p.entities:
        relations.add("wasDerivedFrom", entity.id, entity.derived_from)
    for agent in p.agents:
        relations.add("actedOnBehalfOf", agent.id, (agent.acted_for,) if agent.acted_for else ())
    for activity in p.activities:
        relations.add("used", activity.id, activity.used)
        relations.add("wasGeneratedBy", activity.id, activity.generated)
        relations.add("wasAssociatedWith", activity.id, activity.agents)
        relations.add("wasInformedBy", activity.id, activity.informed_by)
    return found | relations.found


def from_prov_json(said: Mapping[str, Any]) -> Provenance:
    """The graph that `prov_json` wrote; times to the microsecond. Raises ValueError for PROV-JSON of anybody else."""
    try:
        ends = {relation: _ends(said, relation) for relation in _RELATIONS}
        agents = tuple(
            msgspec.convert({
                "id": _id(name), "kind": _agent_kind(a), "name": a["prov:label"], "version": a.get("fl:version", ""),
                "acted_for": next(iter(ends["actedOnBehalfOf"].get(name, ())), ""),
            }, Agent)
            for name, a in said.get("agent", {}).items()
        )  # fmt: skip
        activities = tuple(
            msgspec.convert({
                "id": _id(name), "name": a["prov:label"], "kind": a["prov:type"]["$"].removeprefix("fl:"),
                "started": _at(a.get("prov:startTime")), "ended": _at(a.get("prov:endTime")),
                "status": a.get("fl:status", ""), "settings": msgspec.json.decode(a.get("fl:settings", "{}")),
                "agents": ends["wasAssociatedWith"].get(name, ()), "used": ends["used"].get(name, ()),
                "generated": ends["wasGeneratedBy"].get(name, ()), "informed_by": ends["wasInformedBy"].get(name, ()),
            }, Activity)
            for name, a in said.get("activity", {}).items()
        )  # fmt: skip
        entities = tuple(
            msgspec.convert({
                "id": _id(name), "name": e["prov:label"], "kind": e["prov:type"]["$"].removeprefix("fl:"),
                "digest": e.get("fl:digest", ""), "derived_from": ends["wasDerivedFrom"].get(name, ()),
            }, Entity)
            for name, e in said.get("entity", {}).items()
        )  # fmt: skip
        return Provenance(agents=agents, activities=activities, entities=entities)
    except (KeyError, TypeError, AttributeError, ValueError, StopIteration) as error:
        raise ValueError(f"this is no provenance that Firstlight wrote: {error!r}") from error


_RELATIONS: Mapping[str, tuple[str, str, str, str]] = {
    "wasDerivedFrom": ("generatedEntity", "entity", "usedEntity", "entity"),
    "actedOnBehalfOf": ("delegate", "agent", "responsible", "agent"),
    "used": ("activity", "activity", "entity", "entity"),
    "wasGeneratedBy": ("activity", "activity", "entity", "entity"),
    "wasAssociatedWith": ("activity", "activity", "agent", "agent"),
    "wasInformedBy": ("informed", "activity", "informant", "activity"),
}
"""The relations of PROV: the role and kind of the part that names the other, and the role and kind of the other."""


class _Relations:
    """The relations of a graph by their PROV names, each with ends that exist."""

    def __init__(self, p: Provenance) -> None:
        self.found: dict[str, dict[str, dict[str, str]]] = {}
        self.names = {
            "entity": {e.id: _name(e.id) for e in p.entities},
            "agent": {a.id: _name(a.id) for a in p.agents},
            "activity": {a.id: _name(a.id) for a in p.activities},
        }
        self._count = 0

    def add(self, relation: str, id: str, others: Iterable[str]) -> None:
        one, kind, other, what = _RELATIONS[relation]
        names = self.names[what]
        for end in others:
            if end not in names:
                raise ValueError(f"the graph names {what} {end!r}, and has none: {relation} would have a loose end")
            self._count += 1
            ends = {f"prov:{one}": self.names[kind][id], f"prov:{other}": names[end]}
            self.found.setdefault(relation, {})[f"_:r{self._count}"] = ends


def _ends(said: Mapping[str, Any], relation: str) -> dict[str, list[str]]:
    """The ids that each part names, by the part's qualified name."""
    one, _, other, what = _RELATIONS[relation]
    ids = {name: _id(name) for name in said.get(what, {})}
    found = dict[str, list[str]]()
    for ends in said.get(relation, {}).values():
        found.setdefault(ends[f"prov:{one}"], []).append(ids[ends[f"prov:{other}"]])
    return found


def _agent_kind(a: Mapping[str, Any]) -> AgentKind:
    if a.get("fl:kind") == "model":
        return "model"
    return next(kind for kind, type in _TYPES.items() if type == a["prov:type"]["$"])


def _id(name: str) -> str:
    return unquote(name.removeprefix("fl:"))


def _at(time: str | None) -> float:
    return datetime.fromisoformat(time).timestamp() if time else 0.0


def _activity(a: Activity) -> dict[str, Any]:
    found = _plain(a.name, f"fl:{a.kind}", status=a.status)
    if a.started:
        found["prov:startTime"] = _time(a.started)
    if a.ended:
        found["prov:endTime"] = _time(a.ended)
    if a.settings:
        found["fl:settings"] = msgspec.json.encode(a.settings, order="sorted").decode()
    return found


def _plain(label: str, type: str, **attributes: str) -> dict[str, Any]:
    said = {f"fl:{name}": value for name, value in attributes.items() if value}
    return {"prov:label": label, "prov:type": {"$": type, "type": "prov:QUALIFIED_NAME"}, **said}


def _name(id: str) -> str:
    # A colon would end a prefix, and a point must not end a name.
    return "fl:" + re.sub(r"\.$", "%2E", quote(id, safe="/@-._~+"))


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
