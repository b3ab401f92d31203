"""How data came to be, in the words of the Workflow Run RO-Crate profiles 0.5: actions, who acted, with what."""

from collections.abc import Sequence

from firstlight import core

from .._graph import Activity, Agent, AgentKind, Provenance
from .._records import File
from ._package import CAMPAIGN, DATA, PROVENANCE, Json, Package, encoded, iso

_TYPES: dict[AgentKind, str] = {
    "person": "Person", "organization": "Organization", "software": "SoftwareApplication",
    "model": "SoftwareApplication", "instrument": "IndividualProduct", "facility": "Place",
}  # fmt: skip


def one(values: Sequence[object]) -> object:
    """None of nothing, one value by itself, several as a list: as JSON-LD has it in its compact form."""
    return None if not values else values[0] if len(values) == 1 else list(values)


class Nodes:
    """The entities of a crate by their ids."""

    def __init__(self) -> None:
        self.found: dict[str, Json] = {}

    def add(self, id: str, type: str, **said: object) -> Json:
        """A reference to an entity; what is "" or None of it is not said."""
        node = {"@id": id, "@type": type, **{name: v for name, v in said.items() if v not in ("", None)}}
        self.found.setdefault(id, node)
        return {"@id": id}


def runs(
    nodes: Nodes, package: Package, data: Sequence[File], spec: core.CampaignSpec | None, actions: int
) -> tuple[list[str], list[Json]]:
    """Add what was done, at most `actions` of each kind; what the crate is to say of that, and references to it."""
    graph = package.provenance
    if graph is None:
        acted = [] if spec is None else [_campaign(nodes, package, spec, data, None)]
        return (["How these data came to be is not known beyond this."] if spec is None else []), acted
    teller = _Teller(nodes, graph, package, data)
    if spec is None:
        chosen = [a for a in graph.activities if a.kind in ("import", "action")]
        return _words(actions, chosen), [teller.act(a) for a in chosen[:actions]]
    acted = [_campaign(nodes, package, spec, data, teller)]
    chosen = [a for a in graph.activities if a.kind == "action"]
    approved = {id for a in chosen[:actions] for id in a.informed_by}
    attested = {a.id for a in chosen[:actions]}
    said = [
        a for a in graph.activities
        if a.kind == "approval" and (a.id in approved or attested & set(a.informed_by))
    ]  # fmt: skip
    added = [a for a in graph.activities if a.kind in ("import", "correction")]
    steps = [teller.act(a) for a in chosen[:actions]]
    people = [teller.control(a, chosen) for a in (*said[:actions], *added[:actions])]
    acted += [*steps, *people, _organized(nodes, teller, acted[0], people)]
    return _words(actions, chosen), acted


def _words(actions: int, chosen: Sequence[Activity]) -> list[str]:
    if len(chosen) <= actions:
        return [f"All {len(chosen)} actions are described in the metadata, and in `{PROVENANCE}`."]
    return [
        f"{actions} of {len(chosen)} actions are described in the metadata: the first ones. "
        f"All of them are in `{PROVENANCE}` (W3C PROV-JSON)."
    ]


class _Teller:
    """Tells activities of one graph as actions of schema.org."""

    def __init__(self, nodes: Nodes, graph: Provenance, package: Package, data: Sequence[File]) -> None:
        self.nodes, self.agents = nodes, {a.id: a for a in graph.agents}
        self._units = {v.name: v.unit for v in package.record.variables}
        self._names = {e.id: (e.name, e.digest) for e in graph.entities}
        self._files = {file.digest: f"{DATA}/{encoded(file.path)}" for file in data}
        self._first = next(iter(self._files.values()), "./")
        self.software = {a.name: a for a in graph.agents if a.kind == "software" and a.version}
        campaign = next((a for a in graph.activities if a.kind == "campaign"), None)
        self.whole = campaign
        self.opened = self._persons(campaign) if campaign else []

    def act(self, a: Activity) -> Json:
        """A CreateAction: a program or driver (`instrument`) made files or values (`result`) of others (`object`)."""
        made = [self._files[d] for id in a.generated if (d := self._names[id][1]) in self._files]
        points = a.settings.get("point")
        objects = [self._value(a, name, value) for name, value in points.items()] if isinstance(points, dict) else []
        objects += [self._thing(id) for id in a.used]
        places = [self.agent(self.agents[id]) for id in a.agents if self.agents[id].kind in ("facility", "instrument")]
        return self.nodes.add(
            f"#{encoded(a.id)}", "CreateAction", name=a.name, description=_words_of(a), **_times(a), **_status(a),
            instrument=self._program(a), agent=one(self._persons(a) or self.opened), object=one(objects),
            result=one([{"@id": id} for id in dict.fromkeys(made or [self._first])]), location=one(places),
        )  # fmt: skip

    def control(self, a: Activity, chosen: Sequence[Activity]) -> Json:
        """A person's word (an approval, a correction ...) as a ControlAction on what it was about."""
        about = [f"#{encoded(c.id)}" for c in chosen if a.id in c.informed_by or c.id in a.informed_by]
        known = [{"@id": id} for id in about if id in self.nodes.found]
        return self.nodes.add(
            f"#{encoded(a.id)}", "ControlAction", name=a.name, description=_words_of(a), **_times(a), **_status(a),
            agent=one(self._persons(a)), object=one(known or [{"@id": "#campaign-run"}]),
        )  # fmt: skip

    def _persons(self, a: Activity) -> list[Json]:
        """People behind an activity: those named, or those for whom its programs ran."""
        found = list[Json]()
        for id in a.agents:
            agent: Agent | None = self.agents[id]
            while agent is not None and agent.kind not in ("person", "organization"):
                agent = self.agents.get(agent.acted_for)
            if agent is not None and (ref := self.agent(agent)) not in found:
                found.append(ref)
        return found

    def programs(self, a: Activity) -> list[Json]:
        """The programs among its agents."""
        return [self.agent(self.agents[id]) for id in a.agents if self.agents[id].kind in ("software", "model")]

    def _program(self, a: Activity) -> object:
        operation = str(a.settings.get("operation", ""))
        if not operation:
            unknown = {"name": "not known", "description": "Nobody has said by which program"}
            return one(self.programs(a)) or self.nodes.add("#program", "SoftwareApplication", **unknown)
        known = self.software.get(operation.replace(":", ".").partition(".")[0])
        return self.nodes.add(
            f"#operation/{encoded(operation)}", "SoftwareApplication", name=operation,
            softwareVersion=known.version if known else "", description="What performed the action",
        )  # fmt: skip

    def agent(self, agent: Agent) -> Json:
        software = agent.kind in ("software", "model")
        return self.nodes.add(
            f"#{encoded(agent.id)}", _TYPES[agent.kind], name=agent.name,
            softwareVersion=agent.version if software else "", version="" if software else agent.version,
        )  # fmt: skip

    def _thing(self, id: str) -> Json:
        name, digest = self._names[id]
        if digest in self._files:
            return {"@id": self._files[digest]}
        return self.nodes.add(
            f"#{encoded(id)}", "CreativeWork", name=name, sha256=digest.removeprefix("sha256:"), identifier=id
        )

    def _value(self, a: Activity, name: str, value: object) -> Json:
        return self.nodes.add(
            f"#{encoded(a.id)}/{encoded(name)}", "PropertyValue", name=name, value=value,
            unitText=self._units.get(name, ""),
        )  # fmt: skip


def _campaign(
    nodes: Nodes, package: Package, spec: core.CampaignSpec, data: Sequence[File], teller: _Teller | None
) -> Json:
    """The run of the whole campaign: its specification is the instrument, the dataset its result."""
    whole = teller.whole if teller is not None else None
    record = package.record
    people = teller.opened if teller is not None else []
    return nodes.add(
        "#campaign-run", "CreateAction", name=f"Campaign {spec.id}",
        description=f"The campaign {spec.title or spec.id}" + (f", ended: {whole.status}" if whole else ""),
        instrument={"@id": CAMPAIGN}, agent=one(people),
        result=one([{"@id": f"{DATA}/{encoded(file.path)}"} for file in data]) or {"@id": "./"},
        actionStatus="http://schema.org/CompletedActionStatus" if whole and whole.status else "",
        **(_times(whole) if whole else {"endTime": iso(record.created)} if record.created else {}),
    )  # fmt: skip


def _organized(nodes: Nodes, teller: _Teller, run: Json, people: Sequence[Json]) -> Json:
    """The engine that performed the campaign's steps, on whose behalf, and what people said meanwhile."""
    runner = next((a for a in teller.agents.values() if a.kind == "software" and a.acted_for), None)
    engine = teller.software.get("firstlight")
    return nodes.add(
        "#organization", "OrganizeAction", name="Closed loop", agent=one(teller.opened),
        description="Points were chosen, tried and learned from in a closed loop"
        + (f", run by {runner.name}" if runner else ""),
        instrument=teller.agent(engine) if engine else None, object=one(list(people)), result=run,
    )  # fmt: skip


def _times(a: Activity) -> dict[str, str]:
    return {"startTime": iso(a.started) if a.started else "", "endTime": iso(a.ended) if a.ended else ""}


def _status(a: Activity) -> dict[str, str]:
    if a.status.startswith("failed"):
        return {"actionStatus": "http://schema.org/FailedActionStatus", "error": a.status.removeprefix("failed: ")}
    return {"actionStatus": "http://schema.org/CompletedActionStatus"} if a.status else {}


def _words_of(a: Activity) -> str:
    said = [f"{a.kind}: {a.name}", *([a.status] if a.status else [])]
    for key in ("question", "asked", "note", "reason", "source", "policies", "agreement"):
        if value := a.settings.get(key):
            said.append(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return "; ".join(said)
