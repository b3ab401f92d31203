"""Whether an action may be submitted now: the resource, its incidents, the project and what is left of it."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from ._http import Api, Refused

KEPT = 5.0
"""Seconds for which what was asked is believed."""
NODE_HOURS = "urn:doe-iri:allocation:compute:node-hours"
OVER = ("completed", "cancelled")


class Share(msgspec.Struct, frozen=True):
    """An allocation in node-hours: what was granted, what is left, and whose it is."""

    whose: str
    granted: float
    left: float


class Standing(msgspec.Struct, frozen=True):
    """The resource now: its id, "up" and so on, why if not, and the shares of the project there."""

    id: str
    name: str
    state: str
    against: str
    incidents: tuple[str, ...]
    project: str
    shares: tuple[Share, ...]


class Look:
    """Asks, and remembers the answer for some seconds. `project` is "" where none was chosen."""

    def __init__(self, api: Api, resource: str, project: str) -> None:
        self._api, self._resource, self._project = api, resource, project
        self._kept: dict[str, tuple[float, Standing]] = {}
        self._ids: dict[str, str] = {}
        self._asking = asyncio.Lock()

    async def standing(self, account: str = "") -> Standing:
        """Raises Unavailable, and Refused where the token does not allow to look."""
        project = account or self._project
        async with self._asking:
            at, standing = self._kept.get(project, (0.0, None))
            if standing is None or time.monotonic() - at > KEPT:
                standing = await self._ask(project)
                self._kept[project] = time.monotonic(), standing
            return standing

    async def id(self, resource: str, endpoint: str) -> str:
        """The id of a resource by its id or name. "" finds the only one that supports the endpoint."""
        known = f"{endpoint} {resource}"
        if known not in self._ids:
            found = [r for r in await self._api.everything("status/resources") if _supports(r, endpoint)]
            fit = [r for r in found if not resource or resource in (r["id"], r.get("name"))]
            if len(fit) != 1:
                names = ", ".join(f"{r.get('name') or r['id']}" for r in found) or "none"
                wrong = "several" if fit else "no"
                raise Refused(404, f"there is {wrong} {endpoint} resource {resource or '(none was named)'}: "
                                   f"there are {names}")  # fmt: skip
            self._ids[known] = str(fit[0]["id"])
        return self._ids[known]

    async def _ask(self, project: str) -> Standing:
        id = await self.id(self._resource, "compute")
        resource = await self._api.get(f"status/resources/{quote(id, safe='')}")
        incidents = await self._api.everything("status/incidents", resource_id=id)
        state = str(resource.get("current_status") or "unknown")
        now = datetime.now(UTC)
        current = [i for i in incidents if _concerns(i, id) and _current(i, now)]
        said = tuple(_words(i) for i in current)
        serious = [_words(i) for i in current if i["status"] in ("down", "unknown")]
        against = "; ".join(([f"{resource.get('name') or id} is down"] if state == "down" else []) + serious)
        found = await self._shares(project, set(resource.get("capability_uris", ()))) if project else ()
        return Standing(
            id=id, name=str(resource.get("name") or id), state=state, against=against, incidents=said,
            project=project, shares=found,
        )  # fmt: skip

    async def _shares(self, project: str, capabilities: set[str]) -> tuple[Share, ...]:
        projects = await self._api.get("account/projects")
        mine = [p for p in projects if project in (p["id"], p.get("name"))]
        if not mine:
            names = ", ".join(str(p["id"]) for p in projects) or "none"
            raise Refused(403, f"project {project} is none of those that the token may use: {names}")
        path = f"account/projects/{quote(mine[0]['id'], safe='')}/project_allocations"
        shares = []
        for allocation in await self._api.get(path):
            if allocation["capability_uri"] not in capabilities:
                continue
            shares += _shares(f"project {project}", allocation)
            users = await self._api.get(f"{path}/{quote(allocation['id'], safe='')}/user_allocations")
            # With several it is not said which one is this token's.
            if len(users) == 1:
                shares += _shares(f"user {users[0]['user_id']} in project {project}", users[0])
        return tuple(shares)


def refusal(standing: Standing, node_hours: float) -> str:
    """Why an action that may take so many node-hours is not to be submitted at all; "" where it may be."""
    for share in standing.shares:
        if share.left < node_hours:
            return (
                f"{share.whose} has {share.left:.4g} of {share.granted:.4g} node-hours left on {standing.name}, "
                f"and this may take {node_hours:.4g}"
            )
    return ""


def _shares(whose: str, allocation: Any) -> list[Share]:
    entries = [e for e in allocation["entries"] if e["unit"] == NODE_HOURS]
    return [Share(whose=whose, granted=e["allocation"], left=e["allocation"] - e["usage"]) for e in entries]


def _supports(resource: Any, endpoint: str) -> bool:
    kind = {"compute": "compute", "filesystem": "storage"}[endpoint]
    return endpoint in resource.get("supported_endpoints", ()) or f":{kind}" in resource.get("resource_type", "")


def _concerns(incident: Any, id: str) -> bool:
    return any(str(uri).rpartition("/")[2] == id for uri in incident.get("resource_uris", ()))


def _current(incident: Any, now: datetime) -> bool:
    if incident["type"] == "reservation" or incident["resolution"] in OVER or incident["status"] == "up":
        return False
    end = incident.get("end")
    return _time(incident["start"]) <= now and (end is None or _time(end) > now)


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _words(incident: Any) -> str:
    until = f" until {incident['end']}" if incident.get("end") else ""
    about = incident.get("description") or incident.get("name") or incident["id"]
    return f"{incident['type']} incident{until}: {about}"
