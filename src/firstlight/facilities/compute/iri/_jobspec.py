"""From an action to a JobSpec (PSI/J's, as the IRI Facility API has it)."""

import math
import shlex
from typing import Any

import msgspec

from ....core import Action, Asset

PIECE = 5_000_000
"""Bytes that are moved at once: a request carries at most 5 MiB."""
LARGEST = 5_242_880
MARGIN = 120
"""Seconds that a job has beyond its action's limit, which is enforced on the node."""


class Site(msgspec.Struct, frozen=True):
    """What is the same for all jobs: where they work, as what, and how. `setup` are lines of shell before each."""

    name: str
    workdir: str
    python: str = "python3"
    project: str = ""
    queue: str = ""
    setup: tuple[str, ...] = ()
    launcher: tuple[str, ...] = ()
    job_launcher: str = ""
    duration: float = 3600.0
    attributes: dict[str, str] = {}

    def actions(self, name: str) -> str:
        """The run directory of an action, by the name of its directory here."""
        return f"{self.workdir}/actions/{name}"

    def asset(self, digest: str) -> str:
        """Where the bytes of a digest are, as an AssetStore has it."""
        kind, _, name = digest.partition(":")
        return f"{self.workdir}/assets/{kind}/{name[:2]}/{name}"

    def pieces(self, asset: Asset) -> list[str]:
        """Where they are in pieces, if they are too large for one request."""
        count = math.ceil(asset.size / PIECE)
        return [f"{self.workdir}/pieces/{asset.digest.partition(':')[2]}.{_letters(n)}" for n in range(count)]


def seconds(site: Site, action: Action) -> int:
    """How long the job may take."""
    limit = action.limits.seconds
    return math.ceil(site.duration if limit is None else limit + MARGIN)


def node_hours(site: Site, action: Action) -> float:
    """What the job may cost."""
    return action.resources.nodes * seconds(site, action) / 3600


def job_spec(site: Site, action: Action, name: str, number: int) -> dict[str, Any]:
    """The request that has an action performed. `number` counts the requests for it from 1.

    `take` is started once; it starts the action's processes itself, by `site.launcher`.
    """
    needs, run = action.resources, site.actions(name)
    resources = {
        "node_count": needs.nodes, "process_count": needs.processes, "cpu_cores_per_process": needs.cores,
        "exclusive_node_use": needs.exclusive,
    }  # fmt: skip
    if needs.gpus:
        resources["gpu_cores_per_process"] = needs.gpus
    if action.limits.memory is not None:
        resources["memory"] = action.limits.memory
    named = {
        "queue_name": needs.queue or site.queue, "account": needs.account or site.project,
        "reservation_id": needs.reservation, "custom_attributes": {**site.attributes, **needs.attributes},
    }  # fmt: skip
    spec: dict[str, Any] = {
        "executable": site.python,
        "arguments": ["-m", "firstlight.facilities.compute.take", run, *site.launcher],
        "directory": run,
        "name": f"firstlight-{name}"[:60],
        "environment": {"FIRSTLIGHT_BY": f"IRI {site.name} {number}"},
        "stdout_path": f"{run}/job-{number}.out",
        "stderr_path": f"{run}/job-{number}.err",
        "resources": resources,
        "attributes": {"duration": seconds(site, action), **{key: value for key, value in named.items() if value}},
    }
    before = [*site.setup, *(line for asset in _large(action) for line in [_join(site, asset)]), *needs.pre_launch]
    after = [*needs.post_launch, *([_split(site, run)] if action.outputs else [])]
    if before:
        spec["pre_launch"] = "\n".join(before)
    if after:
        spec["post_launch"] = "\n".join(after)
    if site.job_launcher:
        spec["launcher"] = site.job_launcher
    if needs.container:
        mount = {"source": site.workdir, "target": site.workdir, "read_only": False}
        spec["container"] = {"image": needs.container, "volume_mounts": [mount]}
    return spec


def _large(action: Action) -> list[Asset]:
    return [asset for asset in action.inputs.values() if asset.size > LARGEST]


def _join(site: Site, asset: Asset) -> str:
    """Put an input together, unless it is there, and only if it is what its digest says."""
    path = shlex.quote(site.asset(asset.digest))
    whole, digest = f"{path}.$$", asset.digest.partition(":")[2]
    pieces = " ".join(shlex.quote(piece) for piece in site.pieces(asset))
    return (f'[ -e {path} ] || {{ cat {pieces} > {whole} && echo "{digest}  "{whole} | sha256sum -c --status && '
            f"mv {whole} {path}; }} || rm -f {whole}")  # fmt: skip


def _split(site: Site, run: str) -> str:
    """Lay out in pieces what was left and is too large for one request."""
    pieces = shlex.quote(f"{site.workdir}/pieces")
    return (f"mkdir -p {pieces}; find {shlex.quote(run)} -type f -size +{LARGEST}c | while read -r f; do "
            f'd=$(sha256sum < "$f" | cut -c1-64); split -b {PIECE} -a 4 "$f" {pieces}/"$d".; done')  # fmt: skip


def _letters(number: int) -> str:
    """What split calls the piece of this number: aaaa, aaab ..."""
    return "".join(chr(97 + number // 26**place % 26) for place in (3, 2, 1, 0))
