"""Models served over HTTP, by a real server in another process."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
fastapi = pytest.importorskip("fastapi")

from firstlight.models._serve_batch import Batching, Full, Worker  # noqa: E402
from firstlight.models.serve import Served, app, read_token, serve  # noqa: E402

from ._served import Doubles, Lengths  # noqa: E402

TOKEN = "a-token-that-is-long-enough"


@contextmanager
def server(folder: Path, *more: str) -> Iterator[str]:
    with (folder / "log").open("w") as log, subprocess.Popen(
        [sys.executable, Path(__file__).with_name("_served.py"), folder, *more],
        stdout=subprocess.PIPE, stderr=log, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            assert process.wait(10) in (0, -15)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Any]:
    with server(folder) as url, httpx.Client(base_url=url, timeout=20) as made:
        yield made


def points(*xs: float) -> dict[str, Any]:
    return {"points": [{"x": x, "where": "here"} for x in xs]}


def test_a_model_is_told_of_and_predicts(client: Any) -> None:
    (doubles, lengths) = client.get("/models").json()["models"]
    assert (doubles["name"], doubles["offers"], lengths["offers"]) == ("doubles", ["predict"], ["embed"])
    told = client.get("/models/doubles").json()
    assert told["licence"] == "CC0-1.0" and told["card"] == "# Doubles" and told["inputs"] == {"x": "kg", "where": ""}
    assert told["usable"] and told["limits"] == ["x below 100"]
    said = client.post("/models/doubles/predict", json=points(1, 200)).json()
    assert said["version"] == "doubles-1"
    assert said["predictions"][0]["values"]["y"] == {"value": 2.0, "unit": "kg", "sigma": 0.5}
    assert [(p["familiar"], p["why"]) for p in said["predictions"]] == [(True, ""), (False, "x is more than 100")]
    assert client.post("/models/lengths/embed", json={"sequences": ["AC", "A"]}).json()["embeddings"] == [
        [2, 1],
        [1, 1],
    ]


@pytest.mark.parametrize(
    ("path", "sent", "code", "said"),
    [
        ("doubles/predict", points(666), 422, "x: 666 cannot be answered for"),
        ("doubles/predict", {"points": [{"x": 1, "were": "a"}]}, 422, "no column 'were'; did you mean 'where'"),
        ("doubles/predict", {"points": [{"where": "a"}]}, 422, "points, 0: x must be there"),
        ("doubles/predict", '{"points": [{"x": 1, "where": NaN}]}', 422, "points, 0: where must be a finite number"),
        ("doubles/predict", '{"points": [{"x": 1e999, "where": 1}]}', 422, "points, 0: x must be a finite number"),
        ("doubles/predict", '{"points": [{"x": %s, "where": 1}]}' % ("9" * 400), 422, "x must be a finite number"),
        ("doubles/predict", {"points": [{"x": [1], "where": "a"}]}, 422, "x must be a number, text"),
        ("doubles/predict", {"points": [3]}, 422, "points, 0: it must be values by column"),
        ("doubles/predict", {"points": []}, 422, "points must be a list, and not empty"),
        ("doubles/predict", {"point": []}, 422, "the body must be"),
        ("doubles/predict", "{", 422, "the body is no JSON"),
        ("doubles/predict", "[" * 15_000, 422, "the body is no JSON"),
        ("doubles/predict", points(*range(201)), 413, "201 rows in one request, and at most 200"),
        ("doubles/predict", {"points": [{"x": 1, "where": "a" * 30_000}]}, 413, "at most 20000 bytes"),
        ("doubles/embed", {"sequences": ["A"]}, 404, "doubles does not embed"),
        ("lengths/predict", points(1), 404, "lengths does not predict"),
        ("lengths/embed", {"sequences": ["A", ""]}, 422, "sequences, 1: it must be text, and not empty"),
        ("double/predict", points(1), 404, "no model 'double'; did you mean 'doubles'"),
        ("doubles/predict", points(667), 500, "the model failed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_to_who_sent_it(client: Any, path: str, sent: Any, code: int, said: str) -> None:
    body = (
        {"content": sent, "headers": {"content-type": "application/json"}} if isinstance(sent, str) else {"json": sent}
    )
    answer = client.post(f"/models/{path}", **body)
    assert answer.status_code == code and said in answer.json()["detail"], answer.text
    assert "secret" not in answer.text


def test_a_body_of_unknown_length_is_given_up_once_it_is_too_long(client: Any) -> None:
    sent = (b" " * 1000 for _ in range(100))
    answer = client.post("/models/doubles/predict", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert (
        client.post("/models/doubles/predict", content="{}", headers={"content-type": "text/plain"}).status_code == 415
    )


def test_requests_that_come_together_are_one_call_and_one_wrong_one_spoils_no_other(client: Any) -> None:
    async def ask() -> list[Any]:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=20) as many:
            sent = [many.post("/models/doubles/predict", json=points(x)) for x in (*range(20), 666)]
            return list(await asyncio.gather(*sent))

    client.post("/models/doubles/predict", json=points(1))
    *good, bad = asyncio.run(ask())
    assert [a.json()["predictions"][0]["values"]["y"]["value"] for a in good] == [2 * x for x in range(20)]
    assert bad.status_code == 422
    together = [a.json()["predictions"][0]["values"]["together"]["value"] for a in good]
    assert min(together) == 1  # The call with the wrong one was made again, one by one.

    async def well() -> list[Any]:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=20) as many:
            return list(
                await asyncio.gather(*[many.post("/models/doubles/predict", json=points(x)) for x in range(20)])
            )

    assert max(a.json()["predictions"][0]["values"]["together"]["value"] for a in asyncio.run(well())) > 3


def test_a_full_queue_says_when_to_come_again(client: Any) -> None:
    async def ask() -> list[Any]:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=20) as many:
            slow = asyncio.create_task(many.post("/models/doubles/predict", json=points(668)))
            await asyncio.sleep(0.3)
            sent = [many.post("/models/doubles/predict", json=points(*range(150))) for _ in range(4)]
            return await asyncio.gather(slow, *sent)

    slow, *others = asyncio.run(ask())
    assert slow.status_code == 200
    codes = sorted(a.status_code for a in others)
    assert codes == [200, 200, 503, 503]
    full = next(a for a in others if a.status_code == 503)
    assert full.headers["retry-after"] == "1" and "300 rows are waiting" in full.json()["detail"]


def test_a_revoked_model_is_gone_at_once_and_so_it_is_where_nobody_can_tell(client: Any, folder: Path) -> None:
    (folder / "doubles-1.revoked").write_text("its data were withdrawn")
    answer = client.post("/models/doubles/predict", json=points(1))
    assert answer.status_code == 410 and "its data were withdrawn" in answer.json()["detail"]
    told = client.get("/models/doubles").json()
    assert not told["usable"] and told["revoked"] == "its data were withdrawn"
    assert client.post("/models/lengths/embed", json={"sequences": ["A"]}).status_code == 200
    (folder / "doubles-1.revoked").unlink()
    assert client.post("/models/doubles/predict", json=points(1)).status_code == 200
    (folder / "broken").touch()
    answer = client.post("/models/doubles/predict", json=points(1))
    assert answer.status_code == 503 and "cannot be told" in answer.json()["detail"]
    assert client.get("/models").status_code == 200
    (folder / "broken").unlink()


def test_the_document_of_the_api_has_examples(client: Any) -> None:
    document = client.get("/openapi.json").json()
    asked = document["paths"]["/models/{name}/predict"]["post"]
    assert asked["requestBody"]["content"]["application/json"]["example"]["points"]
    assert asked["responses"]["200"]["content"]["application/json"]["example"]["predictions"]
    assert {"401", "404", "410", "413", "422", "503"} <= asked["responses"].keys()


def test_nobody_comes_in_without_the_token_and_no_log_has_it(tmp_path: Path) -> None:
    with server(tmp_path, TOKEN) as url, httpx.Client(base_url=url) as client:
        for told in (
            {},
            {"authorization": "Bearer no"},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": f"Bearer {TOKEN}x"},
        ):
            assert client.get("/models", headers=told).status_code == 401
            answer = client.post("/models/doubles/predict", json=points(1), headers=told)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        for path in ("/models", "/models/doubles"):
            assert client.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        answer = client.post("/models/doubles/predict", json=points(667), headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 500
    log = (tmp_path / "log").read_text()
    assert "a secret of the inside" in log and TOKEN not in log


def test_a_server_mounts_it_and_workers_begin_with_the_first_request() -> None:
    models = [Served("doubles", "d-1", Doubles()), Served("lengths", "l-1", Lengths())]
    outer = fastapi.FastAPI()
    outer.mount("/v1", app(models))

    async def ask() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://here") as client:
            return await client.post("/v1/models/doubles/predict", json={"points": [{"x": 3}]})

    assert asyncio.run(ask()).json()["predictions"][0]["values"]["y"]["value"] == 6
    with pytest.raises(ValueError, match="two have one name"):
        app([models[0], models[0]])


def test_others_are_not_let_in_without_a_token() -> None:
    with pytest.raises(ValueError, match="give a token"):
        serve([], host="0.0.0.0")


def test_a_token_is_read_from_where_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    assert read_token(file) == TOKEN == read_token(environ={"FIRSTLIGHT_TOKEN": TOKEN})
    assert read_token(environ={}) == ""
    file.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        read_token(file)
    with pytest.raises(ValueError, match="at least 16"):
        read_token(environ={"FIRSTLIGHT_TOKEN": "short"})


def test_a_worker_answers_what_waits_before_it_ends_and_takes_no_more() -> None:
    worker = Worker("v", lambda version: "", Batching(wait=0.0))
    answers = [worker.submit(list, [k]) for k in range(5)]
    worker.close()
    assert [a.result(1) for a in answers] == [[k] for k in range(5)]
    with pytest.raises(Full, match="going down"):
        worker.submit(list, [1])


def test_a_model_that_answers_too_few_rows_has_failed() -> None:
    worker = Worker("v", lambda version: "", Batching())
    with pytest.raises(RuntimeError, match="answered 1 times to 2 rows"):
        worker.submit(lambda rows: rows[:1], [1, 2]).result(5)
    worker.close()
