"""Released models as scikit-learn and BoTorch expect them."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from firstlight.models._table_encode import Input
from firstlight.models._table_use import TableConfig, Target
from firstlight.models._weights import Weights, write_weights


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A model that is known: 10 + 2 (a + b) / 2, with a deviation of about 2 softplus(0)."""
    config = TableConfig(
        inputs=tuple(Input(name=n, low=-1.0, high=1.0) for n in "ab"),
        targets=(Target(name="y", unit="K", mean=10.0, deviation=2.0),), members=1, stages=1, near=2.0, rows=4,
    )  # fmt: skip
    layers = {"weights.0": (1, 2, 2), "biases.0": (1, 1, 2), "weights.1": (1, 2, 2), "biases.1": (1, 1, 2)}
    weights: Weights = {f"stages.0.{n}": np.zeros(shape, np.float32) for n, shape in layers.items()}
    weights["stages.0.skip"] = np.array([[[0.5, 0.0], [0.5, 0.0]]], np.float32)
    weights |= {"references": np.zeros((1, 2), np.float32), "calibration": np.ones(1, np.float32)}
    write_weights(tmp_path / "model.safetensors", weights)
    (tmp_path / "config.json").write_text(json.dumps({"config": msgspec.to_builtins(config)}))
    return tmp_path


X = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, -1.0]])
DEVIATION = 2.0 * np.sqrt(np.log(2.0))


def test_a_regressor_of_scikit_learn(release: Path) -> None:
    base = pytest.importorskip("sklearn.base")
    from firstlight.models.adapters.sklearn import ReleasedRegressor  # noqa: PLC0415

    model = base.clone(ReleasedRegressor(release))
    mean, deviation = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, [10.0, 11.0, 8.0], rtol=1e-5)
    np.testing.assert_allclose(deviation, DEVIATION, rtol=1e-5)
    np.testing.assert_allclose(ReleasedRegressor(release, ("b", "a")).predict(X[:, ::-1]), mean)
    assert model.score(X, mean) == 1.0
    assert list(model.familiar([[0.0, 0.0], [5.0, 0.0]])) == [True, False]
    with pytest.raises(ValueError, match="not fitted again"):
        model.fit(X, mean)
    with pytest.raises(ValueError, match="must have the columns a, b"):
        model.predict(X[:, :1])


@pytest.mark.filterwarnings("ignore")
def test_an_acquisition_function_of_botorch_runs_on_it(release: Path) -> None:
    pytest.importorskip("botorch")
    import torch  # noqa: PLC0415
    from botorch.acquisition.analytic import LogExpectedImprovement  # noqa: PLC0415

    from firstlight.models.adapters.botorch import ReleasedModel  # noqa: PLC0415

    model, points = ReleasedModel(release), torch.tensor(X)
    posterior = model.posterior(points)
    np.testing.assert_allclose(posterior.mean.numpy(), [[10.0], [11.0], [8.0]], rtol=1e-5)
    np.testing.assert_allclose(posterior.variance.numpy(), DEVIATION**2, rtol=1e-5)
    gain = LogExpectedImprovement(model, best_f=10.0)(points.unsqueeze(1))
    assert list(gain.argsort(descending=True).numpy()) == [1, 0, 2]
