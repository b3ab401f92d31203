"""What Firstlight's own exports say of themselves, in JSON and in Parquet."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from .._records import Role, VariableKind
from ._names import Label


class OurColumn(msgspec.Struct):
    """A column as an export describes it."""

    name: str
    type: Literal["int64", "float64", "string", "bool", "time"]
    unit: str
    role: str


class About(msgspec.Struct):
    """What an export says beside its rows; what is said beyond that is for others."""

    campaign: str
    title: str
    created: str
    columns: list[OurColumn]
    versions: dict[str, str] = {}

    def metadata(self) -> dict[str, str | float | int]:
        """What the file says of itself."""
        software = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        said = {"campaign": self.campaign, "title": self.title, "created": self.created, "software": software}
        return {key: value for key, value in said.items() if value}

    def roles(self) -> dict[str, Role]:
        """The columns that are parameters and observables."""
        known: Mapping[str, Role] = {"parameter": "parameter", "observable": "observable"}
        return {column.name: known[column.role] for column in self.columns if column.role in known}

    def kinds(self) -> dict[str, VariableKind]:
        """The types of all columns."""
        return {column.name: column.type for column in self.columns}

    def labels(self) -> list[Label]:
        """Names and units as they stand."""
        return [Label(column.name, column.unit) for column in self.columns]


def about(content: object, names: Sequence[str]) -> About | None:
    """What an export of ours with these columns says, or None where it is none of ours."""
    try:
        if isinstance(content, bytes | str):
            found = msgspec.json.decode(content, type=About)
        else:
            found = msgspec.convert(content, About)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return found if [column.name for column in found.columns] == list(names) else None
