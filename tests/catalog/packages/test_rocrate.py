"""Crates pass the validator of the profiles, and say what was done, by whom, and with what."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firstlight.catalog.index import Card, Record
from firstlight.catalog.packages import Package, read, write
from firstlight.catalog.provenance import Activity, Agent, Entity, Provenance

from .conftest import Run

VALIDATE = """
import importlib.util, io, json, sys
from pathlib import Path
import requests
from requests_cache import CachedSession
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings
from urllib3.response import HTTPResponse

# The context that crates of 1.1 name, without a network: the library rocrate brings it.
cache = Path(sys.argv[1]) / "http_cache"
context = (Path(importlib.util.find_spec("rocrate").origin).parent / "data" / "ro-crate.jsonld").read_bytes()
url, type = "https://w3id.org/ro/crate/1.1/context", {"Content-Type": "application/ld+json"}
session = CachedSession(cache_name=str(cache), backend="sqlite", expire_after=-1)
answer = requests.Response()
answer.status_code, answer.url, answer.reason, answer._content = 200, url, "OK", context
answer.request = requests.Request("GET", url).prepare()
answer.headers.update(type)
answer.raw = HTTPResponse(body=io.BytesIO(context), headers=type, status=200, preload_content=False, request_url=url)
session.cache.save_response(answer, session.cache.create_key(answer.request))
found = []
for crate, profile in zip(sys.argv[2::2], sys.argv[3::2]):
    result = services.validate(ValidationSettings(
        rocrate_uri=crate, profile_identifier=profile, requirement_severity=Severity.RECOMMENDED, offline=True,
        cache_path=cache,
    ))
    found.append([[i.severity.name, i.message] for i in result.get_issues()])
print(json.dumps(found))
"""
SAID_BY_NOBODY = {
    # What neither a journal nor a data card knows: pages of programs and of facilities.
    "The Application SHOULD have a url", "The SoftwareApplication id SHOULD be an absolute URI",
    "The SoftwareApplication SHOULD have a version or softwareVersion", "The organization SHOULD have a URL.",
}  # fmt: skip


def graph(crate: Path) -> dict[str, dict[str, Any]]:
    return {node["@id"]: node for node in json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]}


def test_crates_pass_the_profiles(campaign: Package, spectra: Package, tmp_path: Path, fabric: Run) -> None:
    whole, foreign = tmp_path / "whole", tmp_path / "foreign"
    broken = tmp_path / "broken"
    write(campaign, "rocrate", whole)
    write(spectra, "rocrate", foreign)
    shutil.copytree(whole, broken)
    (broken / "data" / "trials.parquet").unlink()
    metadata = (broken / "ro-crate-metadata.json").read_text()
    (broken / "ro-crate-metadata.json").write_text(metadata.replace('"programmingLanguage"', '"inLanguage"'))
    pairs = [
        (whole, "workflow-run-crate"), (foreign, "process-run-crate"),
        (broken, "workflow-run-crate"),
    ]  # fmt: skip
    *sound, wrong = fabric(VALIDATE, [tmp_path, *(word for pair in pairs for word in pair)])
    for (crate, _), issues in zip(pairs, sound, strict=False):
        assert [said for severity, said in issues if severity == "REQUIRED"] == [], crate.name
    for issues in (sound[0], sound[1]):
        assert {said for _, said in issues} <= SAID_BY_NOBODY
    required = " ".join(said for severity, said in wrong if severity == "REQUIRED")
    assert "programmingLanguage" in required and "trials.parquet" in required, "the validator does look"


def test_a_campaign_is_a_workflow_that_was_run(campaign: Package, tmp_path: Path) -> None:
    nodes = graph(write(campaign, "rocrate", tmp_path / "crate"))
    root, workflow = nodes["./"], nodes["campaign.json"]
    assert root["mainEntity"] == {"@id": "campaign.json"} and workflow["programmingLanguage"]
    assert json.loads((tmp_path / "crate" / "campaign.json").read_text())["id"] == "critical-materials"
    run = nodes["#campaign-run"]
    assert run["actionStatus"].endswith("CompletedActionStatus")
    assert run["instrument"] == {"@id": "campaign.json"} and run["result"] == {"@id": "data/trials.parquet"}
    steps = [n for n in nodes.values() if n["@type"] == "CreateAction" and n["@id"].startswith("#action/")]
    assert len(steps) == 5
    assert {s["instrument"]["@id"] for s in steps} == {"#operation/firstlight.domains.critical_materials%3Aevaluate"}
    assert campaign.provenance is not None
    (version,) = (a.version for a in campaign.provenance.agents if a.name == "firstlight")
    assert nodes[steps[0]["instrument"]["@id"]]["softwareVersion"] == version
    assert nodes["#campaign-language"]["version"] == version
    assert nodes[steps[0]["agent"]["@id"]]["@type"] == "Person"
    assert nodes[steps[0]["location"]["@id"]] == {"@id": "#facility/local", "@type": "Place", "name": "local"}
    values = {nodes[o["@id"]]["name"]: nodes[o["@id"]] for o in steps[0]["object"]}
    assert values["temperature"]["unitText"] == "degC" and isinstance(values["temperature"]["value"], float)
    failed = [s for s in steps if s["actionStatus"].endswith("FailedActionStatus")]
    assert failed and all(s["error"].startswith("invalid-input: ") for s in failed)
    assert nodes["#organization"]["@type"] == "OrganizeAction"
    variables = {nodes[v["@id"]]["name"]: nodes[v["@id"]] for v in root["variableMeasured"]}
    assert variables["recovery"]["unitText"] == "%" and "minValue" in variables["recovery"]


def test_the_root_says_what_the_card_says(spectra: Package, tmp_path: Path) -> None:
    nodes = graph(write(spectra, "rocrate", tmp_path / "crate"))
    root = nodes["./"]
    assert (root["name"], root["license"]) == ("Rare earths", {"@id": "https://spdx.org/licenses/CC-BY-4.0"})
    ada, grace = (nodes[ref["@id"]] for ref in root["author"])
    assert (ada["@id"], ada["name"]) == ("https://orcid.org/0000-0002-1825-0097", "Lovelace, Ada")
    assert grace["affiliation"] == {"@id": "https://ror.org/05gvnxz63"} == root["publisher"]
    readme = (tmp_path / "crate" / "README.md").read_text()
    for words in ("Sensitivity: CUI.", "Agreement: CRADA crada-17.", "Permitted uses: benchmark."):
        assert words in root["conditionsOfAccess"] and words in readme
    assert root["keywords"] == ["rare earths", "closed loop"] and root["creditText"] == spectra.record.card.citation
    file = nodes["data/raw/%C3%A9t%C3%A9%20%C2%B5/scan%20%231%20%2850%25%29.txt"]
    said = next(f for f in spectra.record.files if f.path.endswith(".txt"))
    assert (file["sha256"], file["contentSize"]) == (said.digest.removeprefix("sha256:"), "6")
    made, brought = nodes["#making"], nodes["#import"]
    assert made["agent"] == [{"@id": "#person/Grace%20Hopper"}, {"@id": "#organization/beamline%209"}]
    assert made["location"] == [{"@id": "#facility/APS"}, {"@id": "#instrument/XPS"}]
    assert brought["agent"] == {"@id": "#person/ben"} and nodes[brought["instrument"]["@id"]]["name"] == "firstlight"


def test_a_licence_that_nobody_gave_is_not_made_up(tmp_path: Path) -> None:
    nodes = graph(write(Package(Record(id="x@1", name="x", digest="sha256:1"), {}), "rocrate", tmp_path / "crate"))
    assert nodes[nodes["./"]["license"]["@id"]]["name"] == "No licence yet"
    assert "nobody has given one" in (tmp_path / "crate" / "README.md").read_text()
    card = Card(licence="our terms of 2024")
    record = Record(id="x@1", name="x", digest="sha256:1", card=card)
    assert graph(write(Package(record, {}), "rocrate", tmp_path / "own"))["#licence"]["name"] == card.licence


def many(trials: int) -> Provenance:
    activities, entities = list[Activity](), [Entity(id="d", name="d", kind="dataset")]
    for n in range(trials):
        approval = Activity(id=f"approval/{n}", name="yes", kind="approval", agents=("person/cleo",), status="approved")
        activities += [approval, Activity(
            id=f"action/{n}", name="mix", kind="action", started=1.0, ended=2.0, status="succeeded",
            agents=("person/cleo",), generated=(f"o/{n}",), settings={"operation": "m:f", "point": {"t": n}},
            informed_by=(approval.id,),
        )]  # fmt: skip
        entities.append(Entity(id=f"o/{n}", name="yield", kind="observation"))
    agents = (Agent(id="person/cleo", kind="person", name="cleo"),)
    return Provenance(agents=agents, activities=tuple(activities), entities=tuple(entities))


@pytest.mark.parametrize(("trials", "actions", "listed"), [(30, 100, 30), (30, 5, 5), (20_000, 100, 100)])
def test_large_campaigns_list_some_of_their_actions(
    campaign: Package, tmp_path: Path, trials: int, actions: int, listed: int
) -> None:
    crate = write(campaign._replace(provenance=many(trials)), "rocrate", tmp_path / "crate", actions=actions)
    nodes = graph(crate)
    assert len([id for id in nodes if id.startswith("#action/") and id.count("/") == 1]) == listed
    controls = [n for n in nodes.values() if n["@type"] == "ControlAction"]
    assert len(controls) == listed and controls[0]["object"] == {"@id": "#action/0"}
    said = f"{listed} of {trials} actions" if listed < trials else f"All {trials} actions"
    assert said in (crate / "README.md").read_text()
    assert len(json.loads((crate / "provenance.json").read_text())["activity"]) == 2 * trials
    assert (crate / "ro-crate-metadata.json").stat().st_size < 1_000_000


def test_whoever_ran_the_program_is_the_agent(campaign: Package, tmp_path: Path) -> None:
    action = Activity(
        id="action/1", name="mix", kind="action", agents=("software/run",), settings={"operation": "m:f"},
        status="failed: crashed: no ink", generated=("o",),
    )  # fmt: skip
    agents = (
        Agent(id="software/run", kind="software", name="run", acted_for="person/ben"),
        Agent(id="person/ben", kind="person", name="ben"), Agent(id="person/ada", kind="person", name="ada"),
    )  # fmt: skip
    whole = Activity(id="campaign/c", name="c", kind="campaign", agents=("person/ada",), status="goal met")
    told = Provenance(
        agents=agents, activities=(whole, action), entities=(Entity(id="o", name="y", kind="observation"),)
    )
    nodes = graph(write(campaign._replace(provenance=told), "rocrate", tmp_path / "crate"))
    assert nodes["#action/1"]["agent"] == {"@id": "#person/ben"}
    assert nodes["#action/1"]["error"] == "crashed: no ink"
    assert nodes["#campaign-run"]["agent"] == {"@id": "#person/ada"} == nodes["#organization"]["agent"]
    assert nodes["#campaign-run"]["description"].endswith("ended: goal met")


def test_a_journal_of_nothing_is_refused(campaign: Package, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    assert campaign.journal is not None
    other.write_bytes(campaign.journal.read_bytes().split(b"\n", 1)[1])
    with pytest.raises(ValueError, match="is no journal of a campaign: it begins with RunStarted"):
        write(campaign._replace(journal=other), "rocrate", tmp_path / "crate")
    assert list(tmp_path.iterdir()) == [other]


# ---------------------------------------------------------------------- crates of others


def foreign(place: Path, **root: object) -> Path:
    """A crate as other programs write it: files by their names, people and licences by reference."""
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "a b.csv").write_text("x\n1\n")
    (place / "extra.txt").write_text("not described")
    graph: list[dict[str, object]] = [
        {"@id": "ro-crate-metadata.json", "@type": "CreativeWork", "about": {"@id": "./"},
         "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"}},
        {"@id": "./", "@type": "Dataset", "name": "Growth of films", "description": "d", "datePublished": "2024-05-01",
         "license": {"@id": "https://spdx.org/licenses/MIT.html"}, "author": [{"@id": "#ada"}], "keywords": "a, b",
         "hasPart": [{"@id": "sub/a%20b.csv"}, {"@id": "https://elsewhere.example/big.h5"}],
         "variableMeasured": {"@id": "#t"}, "publisher": {"@id": "#org"}, **root},
        {"@id": "#ada", "@type": "Person", "name": "Ada"}, {"@id": "#org", "@type": "Organization", "name": "Lab"},
        {"@id": "#t", "@type": "PropertyValue", "name": "t", "unitText": "K", "minValue": 1, "maxValue": 2.5},
        {"@id": "#prog", "@type": "SoftwareApplication", "name": "grow", "softwareVersion": "2"},
        {"@id": "sub/a%20b.csv", "@type": "File", "contentSize": "4", "encodingFormat": ["text/csv", {"@id": "#x"}]},
        {"@id": "https://elsewhere.example/big.h5", "@type": "File"},
    ]  # fmt: skip
    said = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}
    (place / "ro-crate-metadata.json").write_text(json.dumps(said))
    return place


def test_crates_of_others_become_records(tmp_path: Path) -> None:
    package = read(foreign(tmp_path / "theirs"), tmp_path)
    record = package.record
    assert sorted(package.files) == ["extra.txt", "sub/a b.csv"] == [file.path for file in record.files]
    assert record.files[1].media_type == "text/csv" and record.files[1].size == 4
    assert record.card == Card(
        title="Growth of films", description="d", creators=("Ada",), publisher="Lab", licence="MIT", keywords=("a", "b")
    )  # fmt: skip
    assert record.name == "growth-of-films" and record.id.startswith("growth-of-films@")
    assert record.created == 1714521600.0 and record.software == {"grow": "2"}
    (t,) = record.variables
    assert (t.name, t.unit, t.low, t.high) == ("t", "K", 1, 2.5)
    again = read(write(package, "rocrate", tmp_path / "ours"), tmp_path)
    assert again.record == record


def test_a_crate_of_others_that_says_little_is_read(tmp_path: Path) -> None:
    said = {"@graph": [
        {"@id": "./ro-crate-metadata.json", "@type": "CreativeWork", "about": {"@id": "./"}},
        {"@id": "./", "@type": "Dataset", "license": "ask me", "author": "Ada", "datePublished": "soon",
         "keywords": [], "name": ["one", "two"], "contactPoint": [{"@type": "ContactPoint", "email": "a@b.org"}]},
    ]}  # fmt: skip
    (tmp_path / "ro-crate-metadata.json").write_text(json.dumps(said))
    record = read(tmp_path, tmp_path).record
    assert (record.card.title, record.card.licence, record.card.creators) == ("one", "ask me", ("Ada",))
    assert (record.created, record.files, record.card.contact) == (0.0, (), "a@b.org")


def test_the_record_of_our_own_crates_wins(campaign: Package, tmp_path: Path) -> None:
    crate = write(campaign, "rocrate", tmp_path / "crate")
    package = read(crate, tmp_path)
    assert package.record == campaign.record
    assert package.journal is not None and campaign.journal is not None
    assert package.journal.read_bytes() == campaign.journal.read_bytes()
    assert package.provenance is not None and campaign.provenance is not None
    assert package.provenance.entities == campaign.provenance.entities
    assert package.provenance.agents == campaign.provenance.agents
    for mine, theirs in zip(package.provenance.activities, campaign.provenance.activities, strict=True):
        assert mine.started == pytest.approx(theirs.started) and mine.ended == pytest.approx(theirs.ended)
        assert msgspec.structs.replace(mine, started=theirs.started, ended=theirs.ended) == theirs
