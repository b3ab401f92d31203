"""Move what actions need to a facility, and what they leave back: once each, by digest."""

import logging
from collections.abc import Iterable
from pathlib import Path

from ...core import Action, Asset, Outcome, Unavailable
from ..assets import AssetStore, Corrupt

log = logging.getLogger(__name__)


def bring(action: Action, root: Path, assets: Path | str | None) -> int:
    """Bring the inputs of an action to a facility's root, those there already excepted; the bytes moved.

    What is nowhere to be had is left to whoever performs the action, whose outcome names it. Raises Unavailable.
    """
    return 0 if assets is None else _move(action.inputs.values(), AssetStore(assets), AssetStore(root / "assets"))


def keep(outcome: Outcome, root: Path, assets: Path | str | None) -> int:
    """Bring the files that an action left at a facility's root home; the bytes moved. Raises Unavailable."""
    return 0 if assets is None else _move(outcome.assets, AssetStore(root / "assets"), AssetStore(assets))


def _move(assets: Iterable[Asset], source: AssetStore, target: AssetStore) -> int:
    moved = 0
    for asset in assets:
        try:
            if asset.digest.startswith("sha256:") and source.holds(asset.digest):
                moved += target.fetch([asset], source)
        except (Corrupt, ValueError) as error:
            log.warning("%s stays where it is: %s", asset.uri, error)
        except OSError as error:
            raise Unavailable(f"{asset.uri} cannot be moved to {target.root}: {error}") from error
    return moved
