"""The pulse and the Lindblad equation against closed forms, and DRAG against what is published of it."""

import math
import random
import time
from collections.abc import Callable

import pytest

from firstlight import core
from firstlight.app import check_spec
from firstlight.domains import quantum as q

np = pytest.importorskip("numpy")
qutip = pytest.importorskip("qutip")

POINT: core.Point = {"amplitude": 1.0, "beta": 0.7, "detuning": 4.0, "width": 0.25, "duration": 10.0}
COHERENT = q.Transmon(levels=4, decay=0, dephasing=0, thermal=0)


def gate(transmon: q.Transmon, amplitude: float = 1, beta: float = 0, detuning: float = 0, width: float = 0.25,
         duration: float = 16.0) -> q.Gate:  # fmt: skip
    controls = q.drag(amplitude, beta, detuning * q.MHZ, width, duration, transmon.anharmonicity)
    return q.judge(q.channel(controls, transmon))


def vertex(f: Callable[[float], float], middle: float, step: float) -> float:
    """Where the parabola through three values of a function is least."""
    low, mid, high = (f(middle + k * step) for k in (-1, 0, 1))
    return middle + step / 2 * (low - high) / (low - 2 * mid + high)


def random_points(count: int, seed: int) -> list[core.Point]:
    rng = random.Random(seed)
    return [
        {p.name: rng.uniform(p.low, p.high) for p in q.spec().parameters if isinstance(p, core.Continuous)}
        for _ in range(count)
    ]


@pytest.mark.parametrize(("width", "duration"), [(0.15, 4.0), (0.25, 10.0), (0.5, 24.0)])
def test_two_levels_turn_exactly(width: float, duration: float) -> None:
    two = q.Transmon(levels=2, decay=0, dephasing=0)
    turned = gate(two, width=width, duration=duration)
    assert abs(turned.infidelity) < 1e-9
    assert abs(turned.leakage) < 1e-12
    # 1 - F = 2/3 sin^2 of half of the angle by which the rotation misses.
    missed = gate(two, amplitude=0.97, width=width, duration=duration)
    assert missed.infidelity == pytest.approx(2 / 3 * math.sin(0.03 * math.pi / 2) ** 2, abs=1e-9)


@pytest.mark.parametrize("only", ["decay", "dephasing", "all"])
def test_two_levels_forget_as_in_closed_form(only: str) -> None:
    transmon = {
        "decay": q.Transmon(levels=2, dephasing=0, thermal=0),
        "dephasing": q.Transmon(levels=2, decay=0),
        "all": q.Transmon(levels=2),
    }[only]
    expected = {"decay": 10 / 50e3 / 3, "dephasing": 10 / 100e3 / 3, "all": q.forgotten(10, q.Transmon())}[only]
    assert gate(transmon, duration=10.0).infidelity == pytest.approx(expected, rel=2e-4)


def test_a_qubit_left_alone_forgets_exactly_as_in_closed_form() -> None:
    two, nothing = q.Transmon(levels=2), q.Controls(duration=5e3, x=zero, y=zero, detuning=zero)
    idle = q.channel(nothing, two)[[1, 0]][:, [1, 0]]  # an X afterwards, which judge undoes
    assert q.judge(idle).infidelity == pytest.approx(q.forgotten(5e3, two), rel=1e-6)


def zero(t: float) -> float:
    return 0.0


def test_half_the_derivative_cancels_the_phase_error() -> None:
    assert vertex(lambda beta: gate(COHERENT, beta=beta).infidelity, 0.6, 0.2) == pytest.approx(0.5, abs=0.01)
    assert gate(COHERENT, beta=0.5).infidelity < gate(COHERENT).infidelity / 100


def test_the_whole_derivative_cancels_leakage() -> None:
    assert vertex(lambda beta: gate(COHERENT, beta=beta).leakage, 0.9, 0.3) == pytest.approx(1.0, abs=0.02)
    assert gate(COHERENT, beta=1).leakage < gate(COHERENT).leakage / 1000


def test_the_whole_derivative_wants_a_detuning() -> None:
    assert gate(COHERENT, beta=1, detuning=4).infidelity < gate(COHERENT, beta=1).infidelity / 5


def motzoi(duration: float, anharmonicity: float) -> q.Controls:
    """The fifth-order solution of Motzoi and others, for a transition from 1 to 2 that is sqrt(2) times as strong."""
    gaussian = q.drag(1, 1, 0, 0.5, duration, anharmonicity)
    d, s = anharmonicity, 2.0  # s is the square of that ratio

    def x(t: float) -> float:
        e = gaussian.x(t)
        return e + (s - 4) * e**3 / (8 * d**2) - (13 * s**2 - 76 * s + 112) * e**5 / (128 * d**4)

    def y(t: float) -> float:
        return -gaussian.y(t) * (-1 + 33 * (s - 2) * gaussian.x(t) ** 2 / (24 * d**2))

    def detuning(t: float) -> float:
        e = gaussian.x(t)
        return (s - 4) * e**2 / (4 * d) - (s**2 - 7 * s + 12) * e**4 / (16 * d**3)

    return q.Controls(duration=duration, x=x, y=y, detuning=detuning)


def test_the_fifth_order_solution_gains_orders_of_magnitude_at_6_ns() -> None:
    """At least the two orders of magnitude that are published for a three-level transmon of -400 MHz."""
    three = q.Transmon(levels=3, anharmonicity=-400 * q.MHZ, decay=0, dephasing=0, thermal=0)
    plain = gate(three, width=0.5, duration=6.0).infidelity
    corrected = q.judge(q.channel(motzoi(6.0, three.anharmonicity), three)).infidelity
    assert plain == pytest.approx(1.709e-2, rel=1e-3)
    assert corrected == pytest.approx(2.92e-6, rel=1e-2)
    assert plain / corrected > 100


def test_the_frame_of_the_drive_and_that_of_the_transmon_agree() -> None:
    offset, middle = 4 * q.MHZ, 5.0
    detuned = q.drag(1, 0.7, offset, 0.25, 10, COHERENT.anharmonicity)

    def turned(part: Callable[[complex], float]) -> Callable[[float], float]:
        return lambda t: part(
            complex(detuned.x(t), detuned.y(t))
            * complex(math.cos(offset * (t - middle)), math.sin(offset * (t - middle)))
        )

    resonant = q.Controls(duration=10.0, x=turned(lambda z: z.real), y=turned(lambda z: z.imag), detuning=zero)
    one, other = (q.judge(q.channel(c, COHERENT)) for c in (detuned, resonant))
    assert one.infidelity == pytest.approx(other.infidelity, rel=1e-5)
    assert one.leakage == pytest.approx(other.leakage, rel=1e-5)


def test_what_a_pulse_does_to_a_state_is_what_the_schroedinger_equation_says() -> None:
    n, controls = COHERENT.levels, q.drag(0.6, 0.7, 4 * q.MHZ, 0.25, 10, COHERENT.anharmonicity)
    a = qutip.destroy(n)
    hamiltonian = [
        COHERENT.anharmonicity / 2 * a.dag() ** 2 * a**2 + 4 * q.MHZ * a.dag() * a,
        [(a + a.dag()) / 2, controls.x],
        [1j * (a.dag() - a) / 2, controls.y],
    ]
    options = {"method": "dop853", "rtol": 1e-10, "atol": 1e-12, "nsteps": 100_000}
    before = (qutip.basis(n, 0) + 1j * qutip.basis(n, 1)).unit()
    after = qutip.sesolve(hamiltonian, before, [0, 10], options=options).final_state.full()[:, 0]
    rho = np.einsum("klij,i,j->kl", q.channel(controls, COHERENT), before.full()[:, 0], before.full()[:, 0].conj())
    assert np.allclose(rho, np.outer(after, after.conj()), atol=1e-6)


def test_what_a_pulse_does_is_a_quantum_channel() -> None:
    n = q.Transmon().levels
    channel = q.channel(q.drag(1, 0.7, 4 * q.MHZ, 0.25, 10, q.Transmon().anharmonicity), q.Transmon())
    assert np.allclose(np.einsum("kkij->ij", channel), np.eye(n), atol=1e-12)
    choi = channel.transpose(0, 2, 1, 3).reshape(n * n, n * n)
    assert np.allclose(choi, choi.conj().T, atol=1e-12)
    assert np.linalg.eigvalsh(choi).min() > -1e-7


def test_a_finer_integration_and_more_levels_change_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = gate(q.Transmon(), beta=0.7, detuning=4, duration=8.0)
    more = gate(q.Transmon(levels=7), beta=0.7, detuning=4, duration=8.0)
    assert more.infidelity == pytest.approx(usual.infidelity, rel=1e-3)
    monkeypatch.setattr(q, "TOLERANCE", 1e-11)
    finer = gate(q.Transmon(), beta=0.7, detuning=4, duration=8.0)
    assert finer.infidelity == pytest.approx(usual.infidelity, abs=1e-13)
    assert finer.leakage == pytest.approx(usual.leakage, abs=1e-13)


def test_a_warm_bath_sets_the_least_leakage() -> None:
    warm = q.Transmon(dephasing=0)
    # Half of the time in 1, from where the bath lifts twice as fast as from 0.
    expected = 24 * warm.decay * warm.thermal
    assert gate(warm, beta=1, detuning=3, duration=24.0).leakage == pytest.approx(expected, rel=0.1)


def test_a_pulse_that_the_line_cannot_bring_is_refused() -> None:
    with pytest.raises(core.Failed, match="peaks at 286 MHz and the line brings 150") as failed:
        q.evaluate({**POINT, "duration": 4.0, "width": 0.18})
    assert failed.value.cause == "invalid-input"
    with pytest.raises(core.Failed):
        q.evaluate({**POINT, "amplitude": math.nan})


def test_the_same_point_gives_the_same_numbers_whatever_came_before() -> None:
    first = q.evaluate(POINT)
    q.evaluate({**POINT, "beta": 0.0, "duration": 8.0})
    assert q.evaluate(POINT) == first
    assert first["infidelity"] > first["forgotten"] > 0
    assert first["infidelity_log10"] == pytest.approx(math.log10(first["infidelity"]))


def test_twenty_random_points() -> None:
    failures, began = 0, time.process_time()
    for point in random_points(20, seed=5):
        try:
            seen = q.evaluate(point)
        except core.Failed as failed:
            assert failed.cause == "invalid-input", failed
            failures += 1
            continue
        assert set(seen) == {"infidelity_log10", "leakage_log10", "infidelity", "leakage", "forgotten", "peak"}
        assert 0.9 * seen["forgotten"] < seen["infidelity"] <= 1
        assert 0 < seen["leakage"] < 1
        assert seen["peak"] <= q.DRIVE_LIMIT
    assert 0 < failures < 10
    assert (time.process_time() - began) / 20 < 0.5


def test_the_specification_is_sound() -> None:
    check_spec(q.spec())
