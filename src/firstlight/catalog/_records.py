"""What the catalog knows of a dataset, so that it can be found, judged and traced."""

from collections.abc import Iterator
from typing import Literal

from firstlight.core import Value

Kind = Literal["dataset", "model", "asset"]
Role = Literal["parameter", "observable", "other"]

Sensitivity = Literal[
    "", "Public", "Unclassified_Uncontrolled", "CUI", "UCNI", "Classified", "Legacy_Controlled", "Mixed",
    "Other_Controlled",
]  # fmt: skip
"""How sensitive data are, in the words of DOE's Genesis data card 1.2; "" where nobody has said."""

ExportControl = Literal["", "Yes", "No", "Pending_Review", "Unknown"]
"""Whether data are export-controlled, in the words of the same card; "" where nobody has said."""


class Variable(Value, frozen=True, forbid_unknown_fields=True):
    """A parameter or an observable: its unit, and the ends of its values where they are numbers."""

    name: str
    role: Role = "other"
    unit: str = ""
    low: float | None = None
    high: float | None = None


class Card(Value, frozen=True, forbid_unknown_fields=True):
    """What people say of data. `licence` is an SPDX identifier or an address, `agreement` the name of one."""

    title: str = ""
    description: str = ""
    creators: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    licence: str = ""
    sensitivity: Sensitivity = ""
    export_control: ExportControl = ""
    agreement: str = ""


class Record(Value, frozen=True, forbid_unknown_fields=True):
    """One version of a dataset (a model, an asset) as the catalog knows it.

    `id` is that of this version, `name` what all its versions share. `created` is when the data were made (seconds
    since 1970 UTC). `provider` is whose catalog it comes from, "" for our own. `used` are the ids of what it was made
    from, `campaign` is the campaign that made it, `software` the versions that did, by name.
    """

    id: str
    name: str
    digest: str
    kind: Kind = "dataset"
    created: float = 0.0
    rows: int = 0
    size: int = 0
    card: Card = Card()
    variables: tuple[Variable, ...] = ()
    elements: tuple[str, ...] = ()
    provider: str = ""
    campaign: str = ""
    software: dict[str, str] = {}
    used: tuple[str, ...] = ()

    def words(self) -> str:
        """All its text that somebody may search for."""
        said = (self.name, self.card.title, self.card.description, *self.card.creators, *self.card.keywords)
        return "\n".join([*said, *(v.name for v in self.variables), *self.elements])

    def terms(self) -> Iterator[tuple[str, str]]:
        """Its facets, each with one value."""
        yield "kind", self.kind
        yield from (("element", element) for element in self.elements)
        for variable in self.variables:
            yield variable.role if variable.role != "other" else "variable", variable.name
            if variable.unit:
                yield "unit", variable.unit
        yield from (("keyword", word) for word in self.card.keywords)
        said = {
            "licence": self.card.licence, "sensitivity": self.card.sensitivity, "agreement": self.card.agreement,
            "export control": self.card.export_control, "provider": self.provider, "campaign": self.campaign,
        }  # fmt: skip
        yield from ((facet, value) for facet, value in said.items() if value)
