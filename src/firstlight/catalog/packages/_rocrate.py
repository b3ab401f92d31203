"""RO-Crate 1.1 (https://www.researchobject.org/ro-crate/specification/1.1/), as a Workflow Run RO-Crate 0.5.

Of an ordinary dataset a Process Run Crate, of a campaign a Workflow Run Crate whose workflow is the campaign's
specification (https://www.researchobject.org/workflow-run-crate/profiles/).
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from firstlight import core

from .._records import File, Record
from ..store import digest_of_bytes
from ._package import (
    CAMPAIGN,
    DATA,
    JOURNAL,
    OWN,
    PROVENANCE,
    Json,
    Package,
    Part,
    conditions,
    contact,
    description,
    encoded,
    iso,
    licence,
    media_type,
    organization,
    person,
    title,
    version_of,
)
from ._runs import Nodes, one, runs

METADATA = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_PROFILES: Mapping[str, tuple[str, str]] = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_TERMS = {
    "sha256": "https://w3id.org/ro/terms/workflow-run#sha256",
    "creditText": "http://schema.org/creditText",
}
"""Terms that the context of RO-Crate 1.1 has not."""
_ABOUT = {
    OWN: "The record of these data in the catalog that they come from",
    PROVENANCE: "Who and what made these data, of what, and when: W3C PROV-JSON",
    JOURNAL: "The journal of the campaign that made these data: all that happened, a fact a line",
    CAMPAIGN: "The specification of the campaign that made these data",
    "README.md": "What is in this package",
}


def crate(package: Package, data: Sequence[File], own: Sequence[Part], actions: int) -> dict[str, bytes]:
    """The files that make a directory with these files (below "data/") and parts a crate, by name."""
    record, nodes = package.record, Nodes()
    spec = specification(package.journal)
    files: dict[str, bytes] = {}
    if spec is not None:
        files[CAMPAIGN] = msgspec.json.format(msgspec.json.encode(spec, order="deterministic"), indent=1) + b"\n"
    listed, acted = runs(nodes, package, data, spec, actions)
    files["README.md"] = readme(record, data, [*(p.path for p in own), *files], listed).encode()
    parts = [*own, *(_part(name, content) for name, content in files.items())]
    root = _root(nodes, record, acted, spec is not None)
    root["hasPart"] = one([*(_data(nodes, f) for f in data), *(_own(nodes, p) for p in parts)])
    if spec is not None:
        root["mainEntity"] = _workflow(nodes, spec, package, data)
    about: list[Json] = [{"@id": SPECIFICATION}]
    about += [{"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"}] if spec is not None else []
    descriptor: Json = {
        "@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": one(about),
    }  # fmt: skip
    graph = [descriptor, root, *nodes.found.values()]
    whole = {"@context": [f"{SPECIFICATION}/context", _TERMS], "@graph": graph}
    files[METADATA] = msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"
    return files


def specification(journal: Path | None) -> core.CampaignSpec | None:
    """What a campaign was asked, the first fact of its journal. Raises ValueError for anything else."""
    if journal is None:
        return None
    with open(journal, "rb") as lines:
        first = core.decode(lines.readline())
    if not isinstance(first.fact, core.CampaignOpened):
        raise ValueError(f"{journal} is no journal of a campaign: it begins with {type(first.fact).__name__}")
    return first.fact.spec


def _part(name: str, content: bytes) -> Part:
    return Part(name, digest_of_bytes(content), len(content), media_type(name))


def _root(nodes: Nodes, record: Record, acted: Sequence[Json], campaign: bool) -> Json:
    card = record.card
    publisher = [_publisher(nodes, card.publisher)] if card.publisher else []
    creators = [_creator(nodes, said, publisher) for said in card.creators or record.people]
    profiles = list(_PROFILES) if campaign else list(_PROFILES)[:1]
    return {
        "@id": "./", "@type": "Dataset", "name": title(record), "description": description(record),
        "identifier": record.id, "version": record.digest,
        "datePublished": iso(record.created or record.retrieved or time.time()),
        "license": _licence(nodes, record),
        "conformsTo": one([
            nodes.add(id, "CreativeWork", name=_PROFILES[id][0], version=_PROFILES[id][1]) for id in profiles
        ]),
        **_said(
            author=one(creators), publisher=one(publisher), keywords=one(list(card.keywords)),
            conditionsOfAccess=" ".join(conditions(card)), creditText=card.citation,
            contactPoint=_contact(nodes, record), url=record.address if "://" in record.address else "",
            dateCreated=iso(record.created) if record.created else "", isBasedOn=one(list(record.used)),
            variableMeasured=one(_variables(nodes, record)), mentions=one(list(acted)),
        ),
    }  # fmt: skip


def _said(**values: object) -> Json:
    return {name: value for name, value in values.items() if value not in ("", None, [])}


def _creator(nodes: Nodes, said: str, publisher: Sequence[Json]) -> Json:
    name, orcid = person(said)
    return nodes.add(orcid or f"#creator/{encoded(said)}", "Person", name=name, affiliation=one(publisher))


def _publisher(nodes: Nodes, said: str) -> Json:
    name, url = organization(said)
    return nodes.add(url or "#publisher", "Organization", name=name, url=url)


def _licence(nodes: Nodes, record: Record) -> Json:
    url, name = licence(record.card)
    if not name:
        said = "Nobody has said under which terms these data may be used. Ask whoever sent them before you use them."
        return nodes.add("#no-licence", "CreativeWork", name="No licence yet", description=said)
    return nodes.add(url or "#licence", "CreativeWork", name=name, description=f"The terms of these data: {name}")


def _contact(nodes: Nodes, record: Record) -> Json | None:
    name, address = contact(record.card)
    if not name:
        return None
    return nodes.add(f"mailto:{address}" if address else "#contact", "ContactPoint", name=name, email=address)


def _variables(nodes: Nodes, record: Record) -> list[Json]:
    return [
        nodes.add(f"#variable/{number}", "PropertyValue", name=v.name, unitText=v.unit, minValue=v.low, maxValue=v.high,
                  description=v.description or f"{v.role} of these data", alternateName=v.called)
        for number, v in enumerate(record.variables, start=1)
    ]  # fmt: skip


def _data(nodes: Nodes, file: File) -> Json:
    return nodes.add(
        f"{DATA}/{encoded(file.path)}", "File", name=file.path, contentSize=str(file.size),
        sha256=file.digest.removeprefix("sha256:"), encodingFormat=file.media_type,
    )  # fmt: skip


def _own(nodes: Nodes, part: Part) -> Json:
    return nodes.add(
        part.path, "File", name=part.path, description=_ABOUT[part.path], contentSize=str(part.size),
        sha256=part.digest.removeprefix("sha256:"), encodingFormat=part.media_type,
        about={"@id": "./"} if part.path == "README.md" else None,
    )  # fmt: skip


def _workflow(nodes: Nodes, spec: core.CampaignSpec, package: Package, data: Sequence[File]) -> Json:
    """The specification is a program in a language of our own: what to vary, what to want, by which procedure."""
    language = nodes.add(
        "#campaign-language", "ComputerLanguage", name="Firstlight campaign specification",
        version=version_of(package, "firstlight"),
    )  # fmt: skip
    output: list[Json] = []
    if data:
        example = f"{DATA}/{encoded(data[0].path)}"
        output.append(nodes.add(
            "#output", "FormalParameter", name="trials", additionalType="File", workExample={"@id": example},
            description="A row for every trial", encodingFormat=data[0].media_type,
            conformsTo=nodes.add("https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE", "CreativeWork",
                                 name="Bioschemas FormalParameter", version="1.0"),
        ))  # fmt: skip
        nodes.found[example]["exampleOfWork"] = {"@id": "#output"}
    node = nodes.found[CAMPAIGN]
    node["@type"] = ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
    node |= _said(
        name=spec.title or spec.id, programmingLanguage=language, version=package.record.digest, output=one(output),
        description=spec.description or f"The specification of campaign {spec.id}",
        conformsTo=nodes.add("https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE", "CreativeWork",
                             name="Bioschemas ComputationalWorkflow", version="1.0"),
    )  # fmt: skip
    return {"@id": CAMPAIGN}


def readme(record: Record, data: Sequence[File], own: Sequence[str], more: Sequence[str] = ()) -> str:
    """A page for whoever opens the package: what the data are, what binds them, and which file is what."""
    lines = [f"# {title(record)}", "", *conditions(record.card), *([""] if conditions(record.card) else [])]
    lines += [description(record), "", f"Version: {record.id} ({record.digest})", ""]
    name = licence(record.card)[1]
    lines += [f"Licence: {name}" if name else "Licence: nobody has given one yet; ask before you use these data.", ""]
    lines += [f"- `{DATA}/{file.path}`: {file.size} bytes, {file.media_type}" for file in data[:50]]
    lines += [f"- and {len(data) - 50} more files in `{DATA}/`"] if len(data) > 50 else []
    lines += [f"- `{name}`: {_ABOUT[name]}" for name in own]
    units = [f"- {v.name}" + (f" [{v.unit}]" if v.unit else "") + f": {v.description or v.role}"
             for v in record.variables[:200]]  # fmt: skip
    lines += ["", "Columns:", "", *units] if units else []
    return "\n".join([*lines, *(["", *more] if more else []), ""])
