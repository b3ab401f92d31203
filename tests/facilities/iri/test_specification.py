"""The test server keeps the specification, whatever it is asked. Requests are made up by schemathesis."""

from pathlib import Path
from typing import Any

import pytest

for needed in ("httpx", "starlette", "uvicorn", "multipart"):
    pytest.importorskip(needed, reason=f"the IRI facility and its test server need {needed}")

import httpx  # noqa: E402
import hypothesis  # noqa: E402
import hypothesis.strategies as st  # noqa: E402

from firstlight.testing.iri import IriServer  # noqa: E402

from .held import load  # noqa: E402

schemathesis = pytest.importorskip("schemathesis", reason="requests are made up by schemathesis")


def known(operation: str, ids: dict[str, str]) -> dict[str, str]:
    """Ids that there are, for the parameters of a path."""
    compute = operation in ("launchJob", "updateJob", "getJob", "getJobs", "cancelJob")
    return {
        "resource_id": "hpc" if compute or operation == "getResource" else "scratch", "site_id": "here",
        "capability_id": "cpu", "project_id": "m0001", "project_allocation_id": "a1", "user_allocation_id": "u-a1",
        **ids,
    }  # fmt: skip


def statuses(operation: Any, name: str, server: IriServer, there: dict[str, str], headers: dict[str, str]) -> set[int]:
    """What an operation answered to some requests, all of them as the specification says."""
    seen = set()

    @hypothesis.settings(
        max_examples=10, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy(), right=st.booleans())
    def ask(case: Any, right: bool) -> None:
        if right and case.path_parameters:
            case.path_parameters = {key: there[key] for key in case.path_parameters}
            if name in ("launchJob", "updateJob"):
                case.body = {"executable": "true", "attributes": {"account": "m0001"}}
        seen.add(case.call_and_validate(base_url=server.url, headers=headers).status_code)

    ask()
    return seen


def prepared(server: IriServer) -> dict[str, str]:
    """The ids of a job that waits, a task, an incident and its event."""
    incident = server.incident("something to show")
    with httpx.Client(headers={"Authorization": f"Bearer {server.token_file.read_text()}"}) as client:
        base = f"{server.url}/api/v2"
        job = client.post(f"{base}/compute/job/hpc", json={"attributes": {"account": "m0001"}}).json()["id"]
        task = client.post(f"{base}/filesystem/ls/scratch", json={"path": "."}).json()["task_id"]
    return {"job_id": job, "task_id": task, "incident_id": incident, "event_id": f"{incident}-1"}


def test_whatever_it_is_asked_it_answers_as_the_specification_says(specification: Any, tmp_path: Path) -> None:
    """Each answer has a status, a media type, headers and a body that are written there."""
    seen: dict[str, set[int]] = {}
    with IriServer(tmp_path / "iri") as server:
        server.hold()  # What was made up is never executed.
        ids = prepared(server)
        headers = {"Authorization": f"Bearer {server.token_file.read_text()}"}
        for found in schemathesis.openapi.from_dict(load()).get_all_operations():
            operation = found.ok()
            name = operation.definition.raw["operationId"]
            seen[name] = statuses(operation, name, server, known(name, ids), headers)
    assert len(seen) == 47
    unmet = [name for name, answers in seen.items() if not any(status < 300 for status in answers)]
    assert unmet == []


def test_without_the_token_there_is_nothing_but_what_is_public(specification: Any, tmp_path: Path) -> None:
    with IriServer(tmp_path / "iri") as server:
        for path, operations in specification["paths"].items():
            for method, operation in operations.items():
                answer = httpx.request(method, f"{server.url}{path.replace('{', '').replace('}', '')}")
                closed = bool(operation.get("security"))
                assert (answer.status_code == 401) == closed, (method, path, answer.status_code)
