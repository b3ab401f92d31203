"""Models trained together: the same as in one place, with nothing raw on the way, and nothing lost when killed."""

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from msgspec.structs import replace  # noqa: E402
from safetensors.numpy import load  # noqa: E402

from firstlight.models._federated_ask import Away, asker  # noqa: E402
from firstlight.models._federated_log import ChainedLog  # noqa: E402
from firstlight.models._federated_privacy import noised  # noqa: E402
from firstlight.models._federated_wire import Answer, Ask, norm_of, pack, unpack  # noqa: E402
from firstlight.models._loop import _rate  # noqa: E402
from firstlight.models._spec import Split, Training  # noqa: E402
from firstlight.models._split import split  # noqa: E402
from firstlight.models._weights import read_weights  # noqa: E402
from firstlight.models.federated import (  # noqa: E402
    Partner,
    Round,
    TooFew,
    contributions,
    epsilon,
    release,
    train,
    without,
)  # fmt: skip
from firstlight.models.site import Refused, Site, SiteRules, Terms, only_runs  # noqa: E402
from firstlight.models.table import Table  # noqa: E402

from ._sites import OPTIONS, STEPS, TOKEN, data, raw, start, terms  # noqa: E402

SITES = ("aspen", "birch", "cedar")
HOW = Split(validation=0.2, test=0.2)
RULES = SiteRules(split=HOW)


class Recorder(httpx.AsyncBaseTransport):  # type: ignore[misc,name-defined]
    """Passes on what travels, and keeps it."""

    def __init__(self, on: Callable[[str], None] = lambda url: None) -> None:
        self.real, self.bodies, self.on = httpx.AsyncHTTPTransport(), list[bytes](), on

    async def handle_async_request(self, request: Any) -> Any:
        self.on(str(request.url))
        self.bodies.append(await request.aread())
        answer = await self.real.handle_async_request(request)
        body = await answer.aread()
        self.bodies.append(body)
        return httpx.Response(answer.status_code, headers=answer.headers, content=body)

    async def aclose(self) -> None:
        await self.real.aclose()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    made = tmp_path_factory.mktemp("together")
    start(made)
    return made


@pytest.fixture(scope="module")
def partners(folder: Path) -> Iterator[list[Partner]]:
    command = [sys.executable, str(Path(__file__).with_name("_sites.py")), "site"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen([*command, name, folder], stdout=subprocess.PIPE, text=True))
            for name in SITES
        ]
        try:
            yield [
                Partner(n, p.stdout.readline().strip(), TOKEN)
                for n, p in zip(SITES, processes, strict=True)
                if p.stdout
            ]
        finally:
            for process in processes:
                process.terminate()


def pooled(folder: Path, sites: Sequence[str], rounds: int) -> tuple[list[float], dict[str, Any]]:
    """The losses and the weights of training on all of it in one place, by torch."""
    table = Table(**OPTIONS)
    parts = []
    for name in sites:
        own = table.read(*data(name, folder))
        chosen = split(own, HOW)
        parts.append((own.only(chosen["train"]), own.only(chosen["validation"])))
    train_, held = (
        replaced([p[k] for p in parts]) for k in (0, 1)
    )  # fmt: skip
    learner = table.begin(train_, held, folder / "start", 0)
    learned = {n: p for n, p in learner.module.named_parameters() if n not in learner.frozen}
    how = Training(steps=rounds, learning_rate=STEPS.learning_rate)
    optimiser = torch.optim.AdamW(learned.values(), lr=STEPS.learning_rate, weight_decay=STEPS.weight_decay)
    losses = []
    for step in range(rounds):
        optimiser.param_groups[0]["lr"] = STEPS.learning_rate * _rate(step, how)
        optimiser.zero_grad()
        loss = learner.loss(range(len(learner)), step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned.values(), STEPS.clip)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses, {n: p.detach().numpy() for n, p in learned.items()}


def replaced(parts: Sequence[Any]) -> Any:
    """One of several."""
    first = parts[0]
    return type(first)(*([x for p in parts for x in getattr(p, name)] for name in ("items", "groups", "keys")))


def state(folder: Path) -> dict[str, Any]:
    found = load((folder / "state.safetensors").read_bytes())
    return {n.removeprefix("weights/"): t for n, t in found.items() if n.startswith("weights/")}


def raw_in(bodies: Sequence[bytes], columns: Mapping[str, list[Any]]) -> list[str]:
    """What of the data is in these bytes: names, values as text or as doubles, two values of a row as floats."""
    everything = b"\0".join(bodies)
    rows = list(zip(columns["t"], columns["p"], columns["y"], strict=True))
    sought = {name: name.encode() for name in columns["campaign"]}
    for row in rows:
        sought |= {f"{v} as text": repr(v)[:10].encode() for v in row}
        sought |= {f"{v} as double": np.array(v, "<f8").tobytes() for v in row}
        sought |= {f"{pair} as floats": np.array(pair, "<f4").tobytes() for pair in (row[:2], row[1:])}
    return [name for name, what in sought.items() if what in everything]


@pytest.fixture(scope="module")
def together(folder: Path, partners: list[Partner]) -> tuple[list[Round], list[bytes]]:
    recorder = Recorder()
    rounds = train(terms("whole"), STEPS, folder / "start", partners, folder / "whole", validate=3, transport=recorder)
    return rounds, recorder.bodies


def test_it_is_the_same_as_training_on_all_of_it_in_one_place(folder: Path, together: Any) -> None:
    losses, weights = pooled(folder, SITES, 6)
    np.testing.assert_allclose([r.loss for r in together[0]], losses, rtol=1e-5)
    for name, array in state(folder / "whole").items():
        np.testing.assert_allclose(array, weights[name], atol=2e-5, err_msg=name)
    assert losses[-1] < losses[0] - 0.1
    alone, _ = pooled(folder, SITES[:1], 6)
    assert abs(alone[-1] - losses[-1]) > 1e-3  # One site alone is something else, or this would show nothing.
    assert [r.validation is not None for r in together[0]] == [False, False, True, False, False, True]


def test_nothing_raw_travels(folder: Path, together: Any) -> None:
    for name in SITES:
        assert raw_in(together[1], raw(name)) == []
    columns = raw("aspen")
    assert len(raw_in([np.array([columns["t"], columns["p"]], "<f4").T.tobytes()], columns)) >= len(columns["t"])
    assert raw_in([json.dumps(columns).encode()], columns)  # The search finds what is there.


def test_what_each_contributed_is_known_and_is_what_its_own_log_says(folder: Path, together: Any) -> None:
    release(folder / "whole", folder / "start", folder / "release")
    gave = contributions(folder / "whole")
    for name in SITES:
        assert gave[name].rounds == (1, 2, 3, 4, 5, 6) and gave[name].examples > 20 and gave[name].groups >= 5
        own = [e for e in ChainedLog(folder / name / "site.log", reading=True).entries if e.get("run") == "whole"]
        left = [e["answer"]["digest"] for e in own if e["what"] == "gradient"]
        assert tuple(left) == gave[name].digests
    touched = without(folder / "whole", "birch")
    assert touched[0] == "the run, from round 1" and touched[1].startswith("sha256:") and len(touched) == 2
    assert without(folder / "whole", "nobody") == ()
    model = Table(**OPTIONS).load(folder / "release")
    assert model.predict([{"t": 400.0, "p": 0.5}])[0].values["y"].sigma > 0
    trained = state(folder / "whole")
    released, begun = (read_weights(folder / f / "model.safetensors") for f in ("release", "start"))
    for name, array in released.items():
        np.testing.assert_array_equal(array, trained.get(name, begun[name]))


def test_a_coordinator_that_is_killed_goes_on_with_the_same_round(
    folder: Path, partners: list[Partner], together: Any
) -> None:
    run, kill = "killed", 4  # Between the answers of the third round and its end.
    command = [sys.executable, str(Path(__file__).with_name("_sites.py")), "train", run, str(folder), str(kill)]
    told = subprocess.run([*command, *(f"{p.name}={p.url}" for p in partners)], capture_output=True, text=True)
    assert told.returncode == -9, told.stderr
    rounds = train(terms(run), STEPS, folder / "start", partners, folder / run)
    assert [r.number for r in rounds] == list(range(kill - 1, 7))
    for name, array in state(folder / "whole").items():
        np.testing.assert_array_equal(state(folder / run)[name], array)
    own = ChainedLog(folder / "aspen" / "site.log", reading=True).entries
    again = [e for e in own if e.get("run") == run and e.get("again")]
    assert [e["round"] for e in again] == [kill - 1]  # Answered twice, with the same bytes, and counted once.
    first = next(e for e in own if e.get("run") == run and e["round"] == kill - 1 and e["what"] == "gradient")
    assert first["answer"]["digest"] == again[0]["answer"]["digest"]
    # Killed between the state and the ledger: the round is closed in the one, and then in the other.
    ledger = folder / run / "ledger.log"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    assert train(terms(run), STEPS, folder / "start", partners, folder / run) == []
    assert ledger.read_bytes() == b"".join(lines)


def test_who_is_away_is_left_out_who_withdraws_is_asked_no_more_and_too_few_are_no_step(
    folder: Path, partners: list[Partner]
) -> None:
    wrong = Partner(partners[0].name, partners[0].url, "x" * 20)
    (done,) = train(
        terms("away", rounds=1), STEPS, folder / "start", [wrong, *partners[1:]], folder / "away",
    )  # fmt: skip
    assert done.sites == ("birch", "cedar") and done.away == {"aspen": "a bearer token is needed"}
    assert "aspen" not in contributions(folder / "away")
    nowhere = Partner("elm", "http://127.0.0.1:9")
    with pytest.raises(TooFew, match=r"round 1: 1 of at least 2 sites answered .*elm: it cannot be reached"):
        train(terms("few"), STEPS, folder / "start", [partners[1], nowhere], folder / "few")
    assert not (folder / "few" / "state.safetensors").exists()

    def withdraw(done: Round) -> None:
        if done.number == 2:
            url, headers = partners[2].url, {"content-type": "text/plain"}
            assert (
                httpx.post(
                    f"{url}/withdraw", content="x", headers=headers | {"authorization": f"Bearer {TOKEN}"}
                ).status_code
                == 401
            )
            headers["authorization"] = f"Bearer {TOKEN[::-1]}"
            assert httpx.post(f"{url}/withdraw", content="it ended", headers=headers).status_code == 200

    asked: list[str] = []
    rounds = train(
        terms("less", rounds=5), STEPS, folder / "start", partners, folder / "less", report=withdraw,
        transport=Recorder(asked.append),
    )  # fmt: skip
    assert [r.sites for r in rounds] == [SITES] * 2 + [SITES[:2]] * 3
    assert rounds[2].away == {"cedar": "cedar has withdrawn: it ended"}
    assert (
        sum(url.startswith(partners[2].url) for url in asked) == 4
    )  # To join, twice for a gradient, and to hear of it.
    gave = contributions(folder / "less")
    assert gave["cedar"].rounds == (1, 2) and "it ended" in gave["cedar"].withdrew and not gave["aspen"].withdrew
    assert without(folder / "less", "cedar") == ("the run, from round 1",)


# ------------------------------------------------------------------ one site


@pytest.fixture
def at(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def site(name: str = "oak", allow: Any = lambda ask: (True, ""), rules: SiteRules = RULES) -> Site:
        while made:
            made.pop().close()
        made.append(Site(name, tmp_path / name, *data("oak", tmp_path), {"table": Table}, allow=allow, rules=rules))
        return made[0]

    yield site
    for one in made:
        one.close()


def joining(folder: Path, how: Terms) -> bytes:
    begun = folder / "start"
    ask = Ask(what="join", terms=how, config=(begun / "config.json").read_text())
    return pack(ask, read_weights(begun / "model.safetensors"))


def asking(site: Site, folder: Path, how: Terms, number: int = 1, shift: float = 0.0) -> bytes:
    names = unpack(site.ask(joining(folder, how)), Answer)[1]
    begun = read_weights(folder / "start" / "model.safetensors")
    return pack(Ask(what="gradient", terms=how, round=number), {n: begun[n] + np.float32(shift) for n in names})


def test_a_round_is_answered_once_with_the_same_bytes_and_rounds_go_forward(
    folder: Path, at: Any, tmp_path: Path
) -> None:
    how = terms("r", clip=1.0, noise=2.0)
    site = at()
    body = asking(site, folder, how)
    first = site.ask(body)
    assert site.ask(body) == first
    site = at()  # Begun anew.
    assert site.ask(body) == first
    with pytest.raises(Refused, match="one set of weights") as refused:
        site.ask(asking(site, folder, how, shift=0.1))
    assert refused.value.status == 409
    site.ask(asking(site, folder, how, 3))
    for number, status in ((2, 409), (7, 422), (0, 422)):
        with pytest.raises(Refused) as refused:
            site.ask(asking(site, folder, how, number))
        assert refused.value.status == status
    with pytest.raises(Refused, match="began with other terms"):
        site.ask(joining(folder, replace(how, noise=1.0)))
    with pytest.raises(ValueError, match="in use"):
        Site("oak", tmp_path / "oak", [], [], {})
    spent = site.contributed()["r"]
    assert spent["rounds"] == [1, 3] and spent["epsilon"] == epsilon(2.0, 2) and len(set(spent["digests"])) == 2
    log = tmp_path / "oak" / "site.log"
    # The answer was kept, and a crash came before it was in the log: it is entered when it is asked for again.
    lines = log.read_bytes().splitlines(keepends=True)
    at().close()
    cut = next(i for i, line in enumerate(lines) if json.loads(line)["what"] == "gradient")
    log.write_bytes(b"".join(lines[:cut]) + b'{"at": 1')
    (tmp_path / "oak" / "runs" / "r" / "answer.safetensors").write_bytes(first)
    site = at()
    assert site.ask(body) == first and site.contributed()["r"]["rounds"] == [1]
    log.write_bytes(log.read_bytes().replace(b'"clip":1.0', b'"clip":9.0', 1))
    with pytest.raises(ValueError, match="was changed"):
        at()


def test_a_site_refuses_what_it_is_not_enrolled_in_and_groups_that_are_too_few(
    folder: Path, at: Any, tmp_path: Path
) -> None:
    how = terms("r")
    calm = Site("ash", tmp_path / "ash", *data("oak", tmp_path), {"table": Table})
    with pytest.raises(Refused, match="not enrolled"):
        calm.ask(joining(folder, how))
    calm.close()
    site = at(allow=only_runs(how))
    site.ask(joining(folder, how))
    for other, why in ((terms("s"), "not enrolled"), (replace(how, batch=9), "not those that this site agreed to")):
        with pytest.raises(Refused, match=why):
            site.ask(joining(folder, other))
    with pytest.raises(Refused, match="answers for at least 50"):
        at(rules=SiteRules(least_groups=50, split=HOW)).ask(joining(folder, how))
    with pytest.raises(Refused, match="noise of at least 1"):
        at(rules=SiteRules(least_noise=1.0, split=HOW)).ask(joining(folder, how))
    with pytest.raises(Refused, match="trains no 'tables'"):
        at().ask(joining(folder, replace(terms("t"), family="tables")))
    with pytest.raises(Refused, match="are too few"):  # A batch of two examples.
        site = at()
        site.ask(asking(site, folder, terms("u", batch=2)))
    site.withdraw("enough")
    with pytest.raises(Refused, match="withdrawn: enough") as refused:
        at().ask(asking_again := joining(folder, how))
    assert refused.value.status == 410 and asking_again
    said = [e.get("why", "") for e in ChainedLog(tmp_path / "oak" / "site.log", reading=True).entries]
    assert any("50" in why for why in said) and any("agreed to" in why for why in said)


def test_what_a_site_refuses_says_nothing_of_its_data(folder: Path, at: Any, tmp_path: Path) -> None:
    site = at()
    with pytest.raises(Refused) as refused:
        site.ask(joining(folder, replace(terms("r"), options=OPTIONS | {"target": "campaign"})))
    assert "kestrel" not in str(refused.value) and "own log" in str(refused.value)
    assert "campaign" in ChainedLog(tmp_path / "oak" / "site.log", reading=True).entries[-1]["why"]
    for body in (b"", b"x" * 100, joining(folder, terms("r"))[:-5], b"\xff" * 8):
        with pytest.raises(Refused, match="not what it must be"):
            site.ask(body)
    wrong = asking(site, folder, terms("q"))
    ask, tensors = unpack(wrong, Ask)
    tensors[min(tensors)] = tensors[min(tensors)] * np.nan
    with pytest.raises(Refused, match="own log"):
        site.ask(pack(ask, tensors))


# ------------------------------------------------------------------ what hides a group


def test_with_clip_no_group_adds_more_than_that_and_noise_is_as_wide_as_said(folder: Path, at: Any) -> None:
    def answered(how: Terms) -> tuple[Answer, dict[str, Any]]:
        site = at()
        return unpack(site.ask(asking(site, folder, how)), Answer)

    told, clear = answered(terms("c", clip=1e-3))
    assert told.groups >= 5 and told.loss is not None
    assert 0.1 < norm_of(clear) / (told.groups * 1e-3) <= 1.0 + 1e-6
    told, hidden = answered(terms("n", clip=1e-3, noise=2.0))
    assert told.loss is None
    size = sum(t.size for t in hidden.values())
    apart = norm_of({n: hidden[n] - clear[n] for n in clear})
    assert apart == pytest.approx(2e-3 * math.sqrt(size), rel=5 / math.sqrt(2 * size))
    site = at()
    names = unpack(site.ask(joining(folder, terms("n", clip=1e-3, noise=2.0))), Answer)[1]
    with pytest.raises(Refused, match="noise hides"):
        site.ask(pack(Ask(what="metrics", terms=terms("n", clip=1e-3, noise=2.0), round=1), names))


def test_noise_is_normal_and_is_that_of_its_key() -> None:
    zeros = {"a": np.zeros((300, 300)), "b": np.zeros(7)}
    one, same, other = (noised(zeros, 3.0, key) for key in (b"k", b"k", b"l"))
    np.testing.assert_array_equal(one["a"], same["a"])
    assert abs(np.corrcoef(one["a"].ravel(), other["a"].ravel())[0, 1]) < 0.02
    assert one["a"].std() == pytest.approx(3.0, rel=0.02) and abs(one["a"].mean()) < 0.05
    assert np.mean(np.abs(one["a"]) < 3.0) == pytest.approx(0.6827, abs=0.01)


def test_epsilon_is_that_of_the_gaussian_mechanism() -> None:
    # Its own definition, by numerical integration of what one output is worth against the other.
    for noise, rounds in ((1.0, 1), (5.0, 10), (20.0, 100)):
        eps, mu = epsilon(noise, rounds), math.sqrt(rounds) / noise
        x = np.linspace(-12, 12 + mu, 400_001)
        p, q = (np.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (mu, 0.0))
        delta = np.trapezoid(np.maximum(p - math.exp(eps) * q, 0.0), x)
        assert delta == pytest.approx(1e-5, rel=1e-3)
    assert epsilon(1.0, 4) == pytest.approx(epsilon(0.5, 1))
    assert epsilon(0.0, 1) == math.inf and epsilon(1.0, 0) == 0.0
    assert epsilon(0.1, 100) > 1000  # Large, and no overflow.
    with pytest.raises(ValueError, match="between 0 and 1"):
        epsilon(1.0, 1, 0.0)


def test_weights_and_tokens_go_over_https_only_and_terms_make_sense() -> None:
    for url in ("http://example.org", "ftp://x", "example.org", "http://localhost.example.org:80"):
        with pytest.raises(ValueError, match="https"):
            Partner("a", url, TOKEN)
    assert TOKEN not in repr(Partner("a", "https://example.org", TOKEN))
    for changes, why in (({"noise": 1.0}, "clip"), ({"clip": 1.0, "batch": 2}, "batch"), ({"rounds": 0}, "rounds")):
        with pytest.raises(ValueError, match=why):
            terms("r", **changes)
    with pytest.raises(ValueError, match="letters"):
        terms("../r")


class Answers(httpx.AsyncBaseTransport):  # type: ignore[misc,name-defined]
    """A site that answers with these pieces, and then with none for long."""

    def __init__(self, *pieces: bytes, long: bool = False) -> None:
        self.pieces, self.long = pieces, long

    async def handle_async_request(self, request: Any) -> Any:
        async def trickle() -> Any:
            for piece in self.pieces:
                yield piece
            if self.long:
                await asyncio.sleep(60)

        return httpx.Response(200, content=trickle())


def test_an_answer_that_is_late_too_long_or_of_something_else_is_none() -> None:
    how, zeros = terms("r"), {"w": np.zeros((2, 3), np.float32)}
    right = Answer(run="r", round=1, site="a", weights="w", examples=9, groups=3)

    def asked(*pieces: bytes, long: bool = False) -> Any:
        async def ask() -> Any:
            async with asker(
                Partner("a", "http://localhost"), 0.3 if long else 20.0, Answers(*pieces, long=long)
            ) as one:
                return await one.ask(Ask(what="gradient", terms=how, round=1), zeros, zeros, "w")

        return asyncio.run(ask())

    body = pack(right, zeros)
    assert asked(body[:9], body[9:])[0] == right
    for pieces, long, why in (
        ([body[:9]], True, "did not answer within 0.3 s"),
        ([bytes(1_000_000)] * 2, False, "longer than"),
        ([b"<html>"], False, "not what it must be"),
        ([pack(replace(right, round=2), zeros)], False, "for round 2 of r"),
        ([pack(replace(right, weights="v"), zeros)], False, "for other weights"),
        ([pack(replace(right, site="b"), zeros)], False, "it is 'b', not 'a'"),
        ([pack(replace(right, examples=0), zeros)], False, "no examples"),
        ([pack(right, {"w": zeros["w"] * np.nan})], False, "not finite"),
        ([pack(right, {"w": np.zeros((3, 2), np.float32)})], False, "not floats"),
        ([pack(right, {"v": zeros["w"]})], False, "other tensors than are trained"),
    ):
        with pytest.raises(Away, match=why):
            asked(*pieces, long=long)


def test_a_folder_has_one_run(folder: Path, together: Any, partners: list[Partner]) -> None:
    with pytest.raises(ValueError, match="has a run with other terms"):
        train(terms("whole", seed=1), STEPS, folder / "start", partners, folder / "whole")
    with pytest.raises(ValueError, match="least_sites must be from 1 to 3"):
        train(terms("whole"), STEPS, folder / "start", partners, folder / "whole", least_sites=4)
