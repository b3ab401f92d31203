"""What the catalog knows of a dataset, so that it can be found, judged and traced."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from firstlight.core import Value

Kind = Literal["dataset", "model", "asset", "trial", "training"]
"""What a record is of. "training" is what a campaign left that trained a model: nobody looks for it among data."""
Role = Literal["parameter", "observable", "other"]

Sensitivity = Literal[
    "", "Public", "Unclassified_Uncontrolled", "CUI", "UCNI", "Classified", "Legacy_Controlled", "Mixed",
    "Other_Controlled",
]  # fmt: skip
"""How sensitive data are, in the words of DOE's Genesis data card 1.2; "" where nobody has said."""

ExportControl = Literal["", "Yes", "No", "Pending_Review", "Unknown"]
"""Whether data are export-controlled, in the words of the same card; "" where nobody has said."""


AgreementType = Literal["", "DUA", "CRADA", "MOU", "NDA", "LICENSE", "WFO", "OTHER"]
ForeignAccess = Literal["", "Allowed", "Restricted", "Prohibited", "Conditional", "Unknown"]
Restriction = Literal[
    "", "Proprietary", "Limited_Rights", "Restricted_Rights", "Government_Purpose_Rights", "Unlimited_Rights",
    "Third_Party_Licensed", "None",
]  # fmt: skip
UseStatus = Literal["", "Yes", "No", "Conditional"]
"""Whether data may be used for something, in the words of the same card; "" where nobody has said."""

VariableKind = Literal["", "float64", "int64", "string", "bool", "time", "array"]


class Variable(Value, frozen=True, forbid_unknown_fields=True):
    """A parameter, an observable or another column: its unit, and the ends of its values where they are numbers.

    `kind` is the type of its values. `called` is its name where it came from, if it has got another one here.
    `missing` counts the rows that have no value. `shape` is that of an array, () for a column of a table.
    """

    name: str
    role: Role = "other"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    kind: VariableKind = ""
    called: str = ""
    description: str = ""
    missing: int = 0
    shape: tuple[int, ...] = ()


class File(Value, frozen=True, forbid_unknown_fields=True):
    """One file of a dataset: its place in it (with "/", never leading out), its SHA-256 digest, its size in bytes."""

    path: str
    digest: str
    size: int
    media_type: str = ""


class Card(Value, frozen=True, forbid_unknown_fields=True):
    """What people say of data: the data card. "" is "not said yet".

    `licence` is an SPDX identifier or an address, `agreement` the name of one, `citation` how the data want to be
    cited (a DOI where there is one), `uses` are the purposes that are permitted, () where nobody has said.
    """

    title: str = ""
    description: str = ""
    creators: tuple[str, ...] = ()
    contact: str = ""
    publisher: str = ""
    keywords: tuple[str, ...] = ()
    citation: str = ""
    licence: str = ""
    sensitivity: Sensitivity = ""
    export_control: ExportControl = ""
    foreign_access: ForeignAccess = ""
    restriction: Restriction = ""
    agreement: str = ""
    agreement_type: AgreementType = ""
    uses: tuple[str, ...] = ()
    training: UseStatus = ""
    inference: UseStatus = ""
    evaluation: UseStatus = ""


class Record(Value, frozen=True, forbid_unknown_fields=True):
    """One version of a dataset (a model, an asset, a trial) as the catalog knows it.

    `id` is that of this version ("<name>@<12 digits of the digest>"), `name` what all its versions share. `digest` is
    that of its one file, or of its list of files (`digest_of_files`). `created` is when the data were made (seconds
    since 1970 UTC).

    `provider` is whose catalog it comes from, "" for our own; `address` where it was got, and `retrieved` when.
    `used` are the ids of what it was made from, `campaign` is the campaign that made it, `software` the versions that
    did, by name; so did `people`, `facilities`, `instruments` and `models`. `synthetic` data were computed and not
    measured, or made from such data: that is said for ever. `tags` are facets of its own, with words that are found.
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
    files: tuple[File, ...] = ()
    address: str = ""
    retrieved: float = 0.0
    people: tuple[str, ...] = ()
    facilities: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    synthetic: bool = False
    tags: dict[str, str] = {}

    def words(self) -> str:
        """All its text that somebody may search for."""
        said = (self.name, self.card.title, self.card.description, *self.card.creators, *self.card.keywords)
        return "\n".join([*said, *(v.name for v in self.variables), *self.elements, *self.tags.values()])

    def terms(self) -> Iterator[tuple[str, str]]:
        """Its facets, each with one value."""
        yield "kind", self.kind
        yield from (("element", element) for element in self.elements)
        for variable in self.variables:
            yield variable.role if variable.role != "other" else "variable", variable.name
            if variable.unit:
                yield "unit", variable.unit
        yield from (("keyword", word) for word in self.card.keywords)
        yield from (("facility", name) for name in self.facilities)
        yield from (("instrument", name) for name in self.instruments)
        yield from (("person", name) for name in self.people)
        yield from (("model", name) for name in self.models)
        yield from (("format", file.media_type) for file in self.files if file.media_type)
        yield from self.tags.items()
        yield "synthetic", "yes" if self.synthetic else "no"
        said = {
            "licence": self.card.licence, "sensitivity": self.card.sensitivity, "agreement": self.card.agreement,
            "export control": self.card.export_control, "training": self.card.training, "provider": self.provider,
            "campaign": self.campaign,
        }  # fmt: skip
        yield from ((facet, value) for facet, value in said.items() if value)


def digest_of_files(files: Sequence[File]) -> str:
    """The digest of a dataset: that of its one file, or of the list of several as `sha256sum` would write it."""
    if len(files) == 1:
        return files[0].digest
    lines = [f"{file.digest.removeprefix('sha256:')}  {file.path}\n" for file in sorted(files, key=lambda f: f.path)]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


_CITED = re.compile(r"(\S+@[0-9a-f]{12})#(.+)", re.DOTALL)


def cited(source: str) -> tuple[str, str] | None:
    """The dataset that a trial is from, and which of its rows it is; None where it is from none."""
    read = _CITED.fullmatch(source)
    return (read[1], read[2]) if read else None
