"""Move what actions need to a facility, and what they leave back: once each, by digest."""

from collections.abc import Iterable
from pathlib import Path

from ...core import Action, Asset, Outcome
from ..assets import AssetStore


def bring(action: Action, root: Path, assets: Path | str | None) -> int:
    """Bring the inputs of an action to a facility's root, those there already excepted; the bytes moved.

    What is nowhere to be had is left to whoever performs the action, whose outcome names it. Raises OSError.
    """
    return 0 if assets is None else _move(action.inputs.values(), AssetStore(assets), AssetStore(root / "assets"))


def keep(outcome: Outcome, root: Path, assets: Path | str | None) -> int:
    """Bring the files that an action left at a facility's root home; the bytes moved. Raises OSError."""
    return 0 if assets is None else _move(outcome.assets, AssetStore(root / "assets"), AssetStore(assets))


def _move(assets: Iterable[Asset], source: AssetStore, target: AssetStore) -> int:
    known = [a for a in assets if a.digest.startswith("sha256:") and len(a.digest) == 71]
    return target.fetch([a for a in known if source.holds(a.digest)], source)
