"""Who and what made data, of what, and when: agents, activities and entities, as W3C PROV-DM has them."""

from typing import Literal

from firstlight.core import Value

AgentKind = Literal["person", "organization", "software", "instrument", "facility", "model"]
ActivityKind = Literal["campaign", "trial", "action", "decision", "approval", "import", "correction"]
EntityKind = Literal["dataset", "observation", "asset", "model", "plan", "sample"]


class Agent(Value, frozen=True):
    """Who or what bears responsibility. `acted_for` is the id of the agent on whose behalf it did, "" for none."""

    id: str
    kind: AgentKind
    name: str
    version: str = ""
    acted_for: str = ""


class Activity(Value, frozen=True):
    """What happened. `started` and `ended` are seconds since 1970 UTC, 0 where unknown.

    `agents`, `used`, `generated` and `informed_by` are ids of agents, entities and other activities. `status` says how
    it ended: "succeeded", "failed: <cause>: <message>", "rejected: <reason>" ...
    """

    id: str
    name: str
    kind: ActivityKind
    started: float = 0.0
    ended: float = 0.0
    status: str = ""
    settings: dict[str, object] = {}
    agents: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()
    informed_by: tuple[str, ...] = ()


class Entity(Value, frozen=True):
    """A thing that was used or made. `derived_from` are the ids of the entities that it was made from."""

    id: str
    name: str
    kind: EntityKind
    digest: str = ""
    derived_from: tuple[str, ...] = ()


class Provenance(Value, frozen=True):
    """A graph. Every id that one of its parts names is the id of another part of it."""

    agents: tuple[Agent, ...] = ()
    activities: tuple[Activity, ...] = ()
    entities: tuple[Entity, ...] = ()
