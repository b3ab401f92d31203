"""What may be submitted, what failures mean, and that tokens are seen nowhere."""

import asyncio
import hashlib
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

for needed in ("httpx", "starlette", "uvicorn", "multipart"):
    pytest.importorskip(needed, reason=f"the IRI facility and its test server need {needed}")

import httpx  # noqa: E402

from firstlight import core  # noqa: E402
from firstlight.facilities.assets import AssetStore  # noqa: E402
from firstlight.facilities.compute.iri import IriFacility  # noqa: E402

from .bench import Bench  # noqa: E402
from .held import check  # noqa: E402

CONTINUES = (
    'n=$(cat "$FIRSTLIGHT_CHECKPOINT/n" 2>/dev/null || echo 0); echo $((n+1)) > "$FIRSTLIGHT_CHECKPOINT/n"; '
    '[ $n -ge 2 ] && echo "{\\"y\\": $n}" || exit 75'
)


def refused(bench: Bench, permit: core.Permit | None = None, **more: Any) -> core.Failure:
    outcome = bench.outcome(permit or bench.permit(), **more)
    assert isinstance(outcome, core.Failure), outcome
    return outcome


def unavailable(bench: Bench, **more: Any) -> str:
    """What is said where nothing can be submitted now; and then nothing was."""

    async def test(facility: IriFacility) -> str:
        with pytest.raises(core.Unavailable) as error:
            await facility.submit(bench.permit())
        assert await facility.find("c1.1.evaluate") is None
        return str(error.value)

    said = bench.run(test, **more)
    assert bench.jobs() == 0
    return said


# ------------------------------------------------------------------ what may be submitted


def test_nothing_is_submitted_to_what_is_down_or_has_an_incident(bench: Bench) -> None:
    bench.server.status("hpc", "down")
    assert "Loopback is down" in unavailable(bench)
    bench.server.status("hpc", "degraded")
    for type in ("unplanned", "planned"):
        incident = bench.server.incident("the cooling failed", type=type, hours=2)
        said = unavailable(bench)
        assert f"{type} incident until 20" in said
        assert "the cooling failed" in said
        bench.server.resolve(incident)
    bench.server.incident("somebody's hour", type="reservation")
    bench.server.incident("one rack is dark", status="degraded")
    bench.server.incident("elsewhere", resource="scratch")

    async def test(facility: IriFacility) -> None:
        status = await facility.status(bench.permit().action)
        assert (status.state, "one rack is dark" in status.message) == ("degraded", True)
        assert isinstance(await facility.outcome(await facility.submit(bench.permit())), core.Measured)

    bench.run(test)


def test_what_would_cost_more_than_is_left_is_refused_with_the_figures(bench: Bench) -> None:
    bench.server.allocation(granted=100, used=98)
    permit = bench.permit(resources=core.Resources(nodes=4), limits=core.Limits(seconds=2280))
    failure = refused(bench, permit)
    assert failure.cause == "refused"
    assert "project m0001 has 2 of 100 node-hours left on Loopback, and this may take 2.667" in failure.message
    assert bench.server.requests("upload") == []
    assert bench.jobs() == 0


def test_a_project_that_is_none_of_ours_is_refused(bench: Bench) -> None:
    failure = refused(bench, project="m9999")
    assert failure.cause == "refused"
    assert "m9999 is none of those that the token may use: m0001" in failure.message
    assert "exactly one place" in refused(bench, bench.permit(id="c1.2.evaluate"), project="").message


def test_what_the_facility_does_not_take_is_invalid_input_in_its_own_words(bench: Bench) -> None:
    failure = refused(bench, bench.permit(resources=core.Resources(container="nobody/nothing")))
    assert failure.cause == "invalid-input"
    assert "no container runtime" in failure.message


def test_busy_is_waited_for_and_long_busy_is_unavailable(bench: Bench) -> None:
    bench.server.fail("503", "launchJob", seconds=1)
    bench.server.fail("429", "upload", seconds=1)
    assert isinstance(bench.outcome(bench.permit()), core.Measured)
    assert bench.performed() == 1
    bench.server.fail("429", "launchJob", seconds=60)

    async def test(facility: IriFacility) -> None:
        with pytest.raises(core.Unavailable, match="429"):
            await facility.submit(bench.permit(id="c1.2.evaluate"))
        assert await facility.find("c1.2.evaluate") is None

    bench.run(test)


# ------------------------------------------------------------------ what a job leaves, and what it does not


def test_it_is_continued_as_often_as_it_asks_for(bench: Bench) -> None:
    permit = bench.permit("command", settings={"argv": ["sh", "-c", CONTINUES]})
    outcome = bench.outcome(permit, tries=1)
    assert isinstance(outcome, core.Measured), outcome
    assert outcome.observations[0].value == 2.0
    assert outcome.used["attempts"] == 3
    assert 0 < outcome.used["node-hours"] < 0.01


def test_a_job_that_never_begins_to_perform_ends_with_its_log(bench: Bench) -> None:
    failure = refused(bench, python="/nowhere/python", tries=2, grace=0.1)
    assert failure.cause == "crashed"
    assert "exit code 127" in failure.message
    assert "submitted 2 times" in failure.message
    assert "/nowhere/python" in failure.log
    assert bench.jobs() == 2


def test_a_job_that_is_forgotten_is_asked_for_again_and_performed_once(bench: Bench) -> None:
    async def test(facility: IriFacility) -> core.Outcome:
        job = await facility.submit(bench.permit("slow", x=2.0))
        while not bench.performed():
            await asyncio.sleep(0.02)
        bench.server.forget_jobs()
        return await facility.outcome(job)

    outcome = bench.run(test)
    assert isinstance(outcome, core.Measured), outcome
    assert outcome.used["attempts"] == 2
    assert (bench.performed(), bench.jobs()) == (1, 2)


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_job_whose_node_is_lost_is_performed_again_only_if_it_may_be(bench: Bench, repeatable: bool) -> None:
    async def test(facility: IriFacility) -> core.Outcome:
        job = await facility.submit(bench.permit("slow", x=1.0, repeatable=repeatable))
        while not bench.performed():
            await asyncio.sleep(0.02)
        bench.server.end_jobs()
        return await facility.outcome(job)

    outcome = bench.run(test)
    if repeatable:
        assert isinstance(outcome, core.Measured), outcome
        assert bench.performed() == 2
    else:
        assert isinstance(outcome, core.Failure)
        assert outcome.cause == "lost"
        assert bench.performed() == 1


def test_what_waits_is_shown_and_can_be_cancelled(bench: Bench) -> None:
    bench.server.hold()

    async def test(facility: IriFacility) -> core.Outcome:
        job = await facility.submit(bench.permit("slow", x=60.0))
        shown = await facility.job(job)
        assert (shown.state, bool(shown.native)) == ("queued", True)
        status = await facility.status()
        assert (status.state, status.queued, status.running) == ("up", 1, 0)
        await facility.cancel(job)
        assert (bench.server.workdir / "actions" / job / "cancel").exists()
        outcome = await facility.outcome(job)
        assert (await facility.job(job)).state == "ended"
        return outcome

    outcome = bench.run(test)
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == "cancelled"
    assert bench.performed() == 0


def test_one_request_looks_after_all_jobs(bench: Bench) -> None:
    async def test(facility: IriFacility) -> None:
        ids = [f"c1.{n}.evaluate" for n in range(4)]
        jobs = [await facility.submit(bench.permit("slow", id=id, x=1.5)) for id in ids]
        before = len(bench.server.requests("getJobs"))
        await asyncio.wait([waiting := asyncio.gather(*map(facility.outcome, jobs))], timeout=1.0)
        # In one second at 0.1 s, whether four wait or one.
        assert 3 <= len(bench.server.requests("getJobs")) - before <= 11
        assert all(isinstance(o, core.Measured) for o in await waiting)

    bench.run(test)


# ------------------------------------------------------------------ inputs and outputs


def test_inputs_are_moved_once_and_outputs_come_home(bench: Bench, tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.dat"
    mesh.write_text("1 2 3")
    asset = AssetStore(bench.home).put(mesh)
    argv = ["sh", "-c", 'wc -w < {mesh} > words.txt; echo "{\\"y\\": $(cat words.txt)}"']
    permits = [
        bench.permit("command", id=f"c1.{n}.evaluate", settings={"argv": argv}, inputs={"mesh": asset},
                     outputs=("*.txt",))
        for n in range(3)
    ]  # fmt: skip

    async def test(facility: IriFacility) -> list[core.Outcome]:
        jobs = await asyncio.gather(*map(facility.submit, permits))
        return list(await asyncio.gather(*map(facility.outcome, jobs)))

    for outcome in bench.run(test):
        assert isinstance(outcome, core.Measured), outcome
        assert outcome.observations[0].value == 3.0
        assert AssetStore(bench.home).check(outcome.assets[0]).read_text() == "3\n"
    uploads = [line for line in bench.server.requests("upload") if asset.digest[7:] in line]
    assert len(uploads) == 1
    assert len([line for line in bench.server.requests("upload") if "spec.json" in line]) == 3
    # Another client asks whether it is there, and does not send it again.
    again = bench.permit("command", id="c1.9.evaluate", settings={"argv": argv}, inputs={"mesh": asset})
    assert isinstance(bench.outcome(again, root=tmp_path / "another"), core.Measured)
    assert len([line for line in bench.server.requests("upload") if asset.digest[7:] in line]) == 1


def test_what_is_too_large_for_one_request_goes_in_pieces(bench: Bench, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(range(256)) * 50_000)  # 12.8 MB: three pieces
    asset = AssetStore(bench.home).put(large)
    argv = ["sh", "-c", 'cat {large} {large} > twice.bin; echo "{\\"y\\": 1}"']
    permit = bench.permit(
        "command", settings={"argv": argv}, inputs={"large": asset}, outputs=("twice.bin",)
    )  # fmt: skip
    outcome = bench.outcome(permit)
    assert isinstance(outcome, core.Measured), outcome
    (left,) = outcome.assets
    assert left.digest == f"sha256:{hashlib.sha256(large.read_bytes() * 2).hexdigest()}"
    assert AssetStore(bench.home).check(left).stat().st_size == 2 * asset.size


def test_what_is_damaged_on_its_way_home_is_not_taken(bench: Bench) -> None:
    argv = ["sh", "-c", 'echo right > out.txt; echo "{\\"y\\": 1}"']
    permit = bench.permit("command", settings={"argv": argv}, outputs=("out.txt",))

    async def test(facility: IriFacility) -> core.Outcome:
        job = await facility.submit(permit)
        while not (found := list(bench.server.workdir.glob("assets/sha256/*/*"))):
            await asyncio.sleep(0.02)
        while not list(bench.server.workdir.glob("actions/*/result.json")):
            await asyncio.sleep(0.02)
        found[0].chmod(0o644)
        found[0].write_text("wrong\n")
        with pytest.raises(core.Unavailable, match=r"out\.txt .* cannot be brought home"):
            await facility.outcome(job)
        found[0].write_text("right\n")
        return await facility.outcome(job)

    outcome = bench.run(test)
    assert isinstance(outcome, core.Measured), outcome
    assert AssetStore(bench.home).check(outcome.assets[0]).read_text() == "right\n"


def test_with_a_shared_file_system_nothing_is_sent_over_the_network(bench: Bench, tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.dat"
    mesh.write_text("1 2 3")
    asset = AssetStore(bench.home).put(mesh)
    argv = ["sh", "-c", 'cp {mesh} out.dat; echo "{\\"y\\": 1}"']
    permit = bench.permit("command", settings={"argv": argv}, inputs={"mesh": asset}, outputs=("*.dat",))
    outcome = bench.outcome(permit, shared=True, root=bench.server.workdir)
    assert isinstance(outcome, core.Measured), outcome
    assert outcome.assets[0].digest == asset.digest
    assert bench.server.requests("upload") == bench.server.requests("download") == []


# ------------------------------------------------------------------ tokens


def test_the_token_is_seen_nowhere(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    token = bench.server.token_file.read_text()
    caplog.set_level(logging.DEBUG)
    said = [unavailable_401(bench, token), repr(bench.facility()), str(vars(bench.facility()))]
    failure = refused(bench, python="/nowhere/python", tries=1, grace=0.0, setup="env | sort")
    bench.server.fail("403", "launchJob", detail=f"no {token}")
    said += [str(failure), str(refused(bench, bench.permit(id="c1.2.evaluate")))]
    assert "***" in said[-1]
    kept = [file.read_text(errors="replace") for file in bench.root.rglob("*") if file.is_file()]
    assert len(kept) > 4
    assert len(caplog.records) > 20
    for text in [*said, *kept, caplog.text, *(str(vars(record)) for record in caplog.records)]:
        assert token not in text


def unavailable_401(bench: Bench, token: str) -> str:
    """All that a traceback with the values of all variables shows."""
    bench.server.fail("401", "getProjects", detail=f"never heard of {token}")

    async def test(facility: IriFacility) -> str:
        try:
            await facility.submit(bench.permit(id="c1.3.evaluate"))
        except core.Unavailable as error:
            assert f"does not accept the token in {bench.server.token_file}: renew it" in str(error)
            assert "***" in str(error)
            whole = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False)
            return "".join(whole.format())
        raise AssertionError("it was accepted")

    return bench.run(test)


def test_a_renewed_token_is_used_at_once(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "outdated")

    async def test(facility: IriFacility) -> core.Outcome:
        with pytest.raises(core.Unavailable, match=r"does not accept the token in \$SOME_TOKEN"):
            await facility.submit(bench.permit())
        monkeypatch.setenv("SOME_TOKEN", bench.server.token_file.read_text())
        return await facility.outcome(await facility.submit(bench.permit()))

    assert isinstance(bench.run(test, token="SOME_TOKEN"), core.Measured)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token": "eyJhbGciOi.J9.abc"}, "never the token"),
        ({"token": "x" * 41}, "never the token"),
        ({"url": "http://iri.example.org"}, "unencrypted"),
        ({"url": "iri.example.org"}, "address of the API"),
        ({"url": "https://iri.example.org/api/v1"}, "another version"),
        ({"workdir": "scratch"}, "absolute path"),
        ({"poll": 0.0}, "more than 0 seconds"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    right = {"url": "https://iri.example.org", "resource": "hpc", "token": "SOME_TOKEN", "workdir": "/scratch"}
    with pytest.raises(ValueError, match=words) as error:
        IriFacility(tmp_path, **{**right, **options})
    assert options.get("token", "no token") not in str(error.value)


# ------------------------------------------------------------------ what is wrong with it


def test_an_examination_finds_what_is_wrong(bench: Bench, tmp_path: Path) -> None:
    def found(**more: Any) -> dict[str, core.Finding]:
        async def test(facility: IriFacility) -> dict[str, core.Finding]:
            return {finding.what: finding for finding in await facility.examine()}

        return bench.run(test, **more)

    def wrong(**more: Any) -> tuple[str, str]:
        bad = [f for f in found(**more).values() if not f.right]
        assert all(f.advice for f in bad)
        return bad[0].what, bad[0].seen

    assert wrong()[0] == "the working directory is there"
    bench.server.workdir.mkdir(parents=True)
    assert wrong()[0] == "Python is there"
    python = bench.server.workdir / "python"
    python.touch()
    everything = found(python=str(python))
    assert [f.what for f in everything.values() if not f.right] == []
    assert everything["a project is charged"].seen.startswith("project m0001 has 1000 of 1000 node-hours left")
    readable = tmp_path / "token"
    readable.write_text("something")
    readable.chmod(0o644)
    assert wrong(token=str(readable)) == ("there is a token", f"others may read {readable}: chmod 600 {readable}")
    readable.chmod(0o600)
    assert wrong(token=str(readable))[0] == "the token is accepted"
    assert wrong(url="http://127.0.0.1:9")[0] == "the API can be reached"
    assert wrong(resource="frontier") == (
        "the resource is known", "there is no compute resource frontier: there are Loopback (404)"
    )  # fmt: skip
    assert wrong(project="m9999")[0] == "project and allocation"
    assert wrong(project="")[0] == "a project is charged"
    bench.server.allocation(1.0, 0.5)
    assert wrong()[0] == "a project is charged"
    assert bench.jobs() == 0
    bench.server.incident("no power")
    assert "no power" in wrong()[1]


def test_what_breaks_the_specification_does_not_pass(specification: Any) -> None:
    request = httpx.Request("GET", "http://127.0.0.1/api/v2/facility")
    right = {"id": "x", "last_modified": "2026-01-01T00:00:00+00:00", "self_uri": "u", "site_uris": []}
    check(request, httpx.Response(200, json=right))
    del right["site_uris"]
    with pytest.raises(Exception, match="site_uris"):
        check(request, httpx.Response(200, json=right))
