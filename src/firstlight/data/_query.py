"""What earlier data tell a new campaign."""

from collections.abc import Sequence

from firstlight.app import App
from firstlight.catalog.asked import one_line
from firstlight.catalog.warm import Earlier, earlier_trials
from firstlight.core import CampaignSpec

_MOST = 1_000
"""Datasets that one query may bring to a campaign."""


def earlier(app: App, spec: CampaignSpec, texts: Sequence[str]) -> Earlier:
    """What datasets tell a campaign, in its units: each text is the id or name of one, or a query in one line ("films
    observable=yield temperature=300..400 K"). Raises ValueError where that is nothing, or is no query."""
    with app.library() as library:
        queries = [one_line(library.index, text) for text in texts]
        found = [f for query in queries for f in library.index.search(query, _MOST, facets=()).found]
        return earlier_trials(library, found, spec, app.units.convert)
