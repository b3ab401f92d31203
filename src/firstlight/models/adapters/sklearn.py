"""A released model of tables as a regressor of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from .._table_use import TableModel, load_table


class ReleasedRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The model in the folder `release`, whose columns of X are those named by `inputs`, by default in its own order.

    It is fitted already: `fit` is refused, since a release is never changed. It can be cloned and put into a pipeline.
    """

    def __init__(self, release: str | Path, inputs: Sequence[str] | None = None) -> None:
        self.release = release
        self.inputs = inputs

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any = None) -> ReleasedRegressor:
        """Refused: raises ValueError."""
        raise ValueError(f"{self.release} is a released model, and is not fitted again: train a new version of it")

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Means, and calibrated deviations with `return_std`; (n,), or (n, t) where it predicts several targets.

        X is a table with named columns or an array (n, inputs). Raises ValueError where columns do not fit.
        """
        mean, sigma, _ = self._model().predict_table(self._columns(X))
        return (mean, sigma) if return_std else mean

    def familiar(self, X: Any) -> Any:
        """Whether each row (n,) is like what the model learned from: elsewhere no mean or deviation of it holds."""
        return self._model().predict_table(self._columns(X))[2]

    def _model(self) -> TableModel:
        return load_table(Path(self.release))

    def _columns(self, X: Any) -> dict[str, Any]:
        if hasattr(X, "columns"):
            return {str(name): X[name].to_numpy() for name in X.columns}
        names = list(self.inputs or (i.name for i in self._model().config.inputs))
        table = np.asarray(X)
        if table.ndim != 2 or table.shape[1] != len(names):
            raise ValueError(f"X must have the columns {', '.join(names)}, and has the shape {table.shape}")
        return {name: table[:, j] for j, name in enumerate(names)}
