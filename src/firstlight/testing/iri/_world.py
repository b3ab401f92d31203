"""What the facility is, says of itself and gives: its resources, incidents, projects and allocations."""

import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

NODE_HOURS = "urn:doe-iri:allocation:compute:node-hours"
BYTES = "urn:doe-iri:allocation:storage:bytes"
Item = dict[str, Any]


class Fault(msgspec.Struct):
    """What goes wrong with the next `times` requests of an operation ("" for any).

    `how`: a status such as "503"; "drop" (it is done, and the connection ends without an answer); "slow" (it is
    answered after `seconds`).
    """

    how: str
    operation: str = ""
    times: int = 1
    seconds: float = 0.0
    detail: str = ""


class Incident(msgspec.Struct):
    id: str
    resource: str
    status: str
    type: str
    description: str
    start: float
    end: float | None = None
    resolution: str = "unresolved"


class World(msgspec.Struct):
    """Everything that tests turn; it is kept on disk."""

    status: dict[str, str] = {}
    incidents: list[Incident] = []
    faults: list[Fault] = []
    granted: float = 1000.0
    used: float = 0.0
    hold: bool = False
    task_seconds: float = 0.0
    changed: float = 0.0


class Facility:
    """The world as the specification shows it. `base` is the URL that links begin with."""

    def __init__(self, file: Path, base: str) -> None:
        self._file, self._base = file, base
        self.world = msgspec.json.decode(file.read_bytes(), type=World) if file.exists() else World(changed=time.time())

    def keep(self) -> None:
        self.world.changed = time.time()
        private = self._file.with_name(".world.json")
        private.write_bytes(msgspec.json.encode(self.world))
        os.replace(private, self._file)

    def uri(self, path: str) -> str:
        return f"{self._base}/{path}"

    def open_incident(self, resource: str, type: str, status: str, description: str, hours: float | None) -> str:
        now = time.time()
        self.world.incidents.append(Incident(
            id=secrets.token_hex(4), resource=resource, status=status, type=type, description=description, start=now,
            end=None if hours is None else now + 3600 * hours,
        ))  # fmt: skip
        return self.world.incidents[-1].id

    def close_incident(self, id: str) -> None:
        for incident in self.world.incidents:
            if incident.id == id:
                incident.end, incident.resolution = time.time(), "completed"

    # ------------------------------------------------------------------ facility and status

    def facility(self) -> Item:
        return {
            **self._named("testbed", "Firstlight test bed", "facility"), "short_name": "testbed",
            "organization_name": "Nobody", "site_uris": [self.uri("facility/sites/here")],
        }  # fmt: skip

    def sites(self) -> list[Item]:
        about = {"short_name": "here", "operating_organization": "Nobody", "country_name": "USA"}
        resources = [self.uri(f"status/resources/{r}") for r in ("hpc", "scratch")]
        return [self._named("here", "This machine", "facility/sites/here") | about | {"resource_uris": resources}]

    def resources(self) -> list[Item]:
        hpc = {
            "group": "testbed", "current_status": self.world.status.get("hpc", "up"),
            "resource_type": "urn:doe-iri:resource:compute:system", "supported_endpoints": ["compute"],
            "site_uri": self.uri("facility/sites/here"), "capability_uris": [self.uri("account/capabilities/cpu")],
        }  # fmt: skip
        scratch = hpc | {
            "current_status": self.world.status.get("scratch", "up"), "supported_endpoints": ["filesystem"],
            "resource_type": "urn:doe-iri:resource:storage:system",
            "capability_uris": [self.uri("account/capabilities/disk")],
        }  # fmt: skip
        return [
            self._named("hpc", "Loopback", "status/resources/hpc") | hpc,
            self._named("scratch", "Scratch", "status/resources/scratch") | scratch,
        ]

    def incidents(self) -> list[Item]:
        return [
            self._named(i.id, f"{i.type} incident", f"status/incidents/{i.id}") | {
                "description": i.description, "status": i.status, "start": _iso(i.start), "type": i.type,
                "end": None if i.end is None else _iso(i.end), "resolution": i.resolution,
                "event_uris": [self.uri(f"status/events/{i.id}-1")],
                "resource_uris": [self.uri(f"status/resources/{i.resource}")],
            }
            for i in self.world.incidents
        ]  # fmt: skip

    def events(self) -> list[Item]:
        return [
            self._named(f"{i.id}-1", "opened", f"status/events/{i.id}-1") | {
                "description": i.description, "status": i.status, "occurred_at": _iso(i.start),
                "resource_uri": self.uri(f"status/resources/{i.resource}"),
                "incident_uri": self.uri(f"status/incidents/{i.id}"),
            }
            for i in self.world.incidents
        ]  # fmt: skip

    # ------------------------------------------------------------------ account

    def capabilities(self) -> list[Item]:
        units = {"cpu": [NODE_HOURS], "disk": [BYTES]}
        return [self._named(name, name, f"account/capabilities/{name}") | {"units": u} for name, u in units.items()]

    def projects(self) -> list[Item]:
        return [self._named("m0001", "first light", "account/projects/m0001") | {"user_ids": ["u1"]}]

    def project_allocations(self) -> list[Item]:
        return [
            self._allocation("a1", "cpu", self.world.granted, self.world.used, NODE_HOURS),
            self._allocation("a2", "disk", 1e12, 0.0, BYTES),
        ]

    def user_allocations(self, allocation: str) -> list[Item]:
        uri = self.uri(f"account/projects/m0001/project_allocations/{allocation}")
        entries = next(a["entries"] for a in self.project_allocations() if a["id"] == allocation)
        return [{"id": f"u-{allocation}", "user_id": "u1", "entries": entries, "project_allocation_uri": uri}]

    # ------------------------------------------------------------------ storage

    def locations(self, root: Path) -> list[Item]:
        access = {"read": True, "write": True, "execute": True}
        return [{"logical_name": "scratch", "path": str(root), "filesystem": "scratch", "shared": False,
                 "access": access}]  # fmt: skip

    def _allocation(self, id: str, capability: str, granted: float, used: float, unit: str) -> Item:
        return {
            "id": id, "entries": [{"allocation": granted, "usage": used, "unit": unit}],
            "project_uri": self.uri("account/projects/m0001"),
            "capability_uri": self.uri(f"account/capabilities/{capability}"),
        }  # fmt: skip

    def _named(self, id: str, name: str, path: str) -> Item:
        changed = _iso(self.world.changed)
        return {"id": id, "name": name, "description": name, "last_modified": changed, "self_uri": self.uri(path)}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
