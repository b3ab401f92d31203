"""A candidate judged on the trials that the version in production chose, before it chooses any."""

from collections import Counter
from collections.abc import Mapping

from firstlight.catalog.index import Query
from firstlight.catalog.library import Library
from firstlight.models import family_at
from firstlight.models.registry import Registry, Version
from firstlight.models.shadow import Nothing, compared, seen

from ._manifest import files_of

_MOST = 100_000
"""Trials of one version that are looked for."""


def served(library: Library, registry: Registry, candidate: Version) -> dict[str, int]:
    """The campaigns in which the version in production has chosen points, how many, and of which the candidate has
    not been judged yet: none that either of the two has seen. Raises Nothing, LookupError, OSError."""
    production = _production(registry, candidate)
    own, theirs = registry.load_checked(candidate), registry.load_checked(production)
    query = Query(where={"kind": ("trial",), "model": (production.id,)})
    found = Counter(f.record.campaign for f in library.index.search(query, _MOST, facets=()).found)
    done = {c for s in candidate.shadows if s.against == production.number for c in s.compared.campaigns}
    return {c: n for c, n in found.items() if c not in done and not seen(own, c) and not seen(theirs, c)}


def in_shadow(
    library: Library, registry: Registry, candidate: Version, trials: Mapping[str, int], by: str
) -> Version:  # fmt: skip
    """The candidate, held against the version in production on campaigns that this one `served`, each of which counts
    once, with the trials whose points that version chose. Raises Nothing, LookupError, OSError, ValueError."""
    production = _production(registry, candidate)
    own, theirs = registry.load_checked(candidate), registry.load_checked(production)
    pairs = [p for id in library.newest(trials) for p in files_of(library, id, family_at(own).suffixes)]
    if not pairs:
        raise Nothing(f"no campaign that {production.id} served has ended, of those that neither of the two has seen")
    told = compared(own, theirs, [item for item, _ in pairs], [path for _, path in pairs], sum(trials.values()))
    return registry.shadowed(candidate, production, told, by)


def _production(registry: Registry, candidate: Version) -> Version:
    production = registry.production(candidate.name)
    if production is None or production.number == candidate.number:
        raise Nothing(f"no other version of {candidate.name} is in production that it could be held against")
    return production
