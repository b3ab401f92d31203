"""What can be wrong with the resources and the files of a step. Pure."""

import re

from ._problem import Resources, StepSpec
from ._wrong import LARGEST, Problem, Problems

INPUT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")


def resources(at: str, needs: Resources) -> Problems:
    """What no machine could give, and what a batch script could not hold."""
    for name, least in (("nodes", 1), ("processes", 1), ("cores", 1), ("gpus", 0)):
        number = getattr(needs, name)
        if not least <= number <= LARGEST:
            yield Problem(f"{at}.{name}", f"{number} is too few or too many", f"Give {least} or more.")
    if needs.processes < needs.nodes:
        message = f"{needs.processes} processes leave some of {needs.nodes} nodes empty"
        yield Problem(f"{at}.processes", message, f"Give {needs.nodes} or more: they are counted over all nodes.")
    for name in ("account", "queue", "reservation", "container", "pre_launch", "post_launch"):
        given = getattr(needs, name)
        for word in (given,) if isinstance(given, str) else given:
            if "\n" in word or "\r" in word or "\0" in word:
                yield Problem(f"{at}.{name}", "it has several lines", "Give one line, or a list of lines.")
    for key, value in needs.attributes.items():
        if not ATTRIBUTE.fullmatch(key) or not value.isprintable():
            yield Problem(f"{at}.attributes", f"{key!r} is no option", "Name it as the scheduler does: constraint.")


def files(at: str, step: StepSpec) -> Problems:
    """Inputs by names that functions and commands can know them by, and outputs within their directory."""
    for name, asset in step.inputs.items():
        if not INPUT.fullmatch(name) or name in ("directory", "point", "outputs.json", "point.json"):
            remedy = "Begin with a letter, then letters, digits and underscores: functions know it by this name."
            yield Problem(f"{at}.inputs.{name}", f"{name!r} cannot name an input", remedy)
        elif name in step.settings:
            yield Problem(f"{at}.inputs.{name}", "a setting has the same name", "Give one of them another name.")
        if not DIGEST.fullmatch(asset.digest):
            yield Problem(f"{at}.inputs.{name}.digest", f"{asset.digest!r} is no digest", "Give sha256:<64 digits>.")
    for i, pattern in enumerate(step.outputs):
        if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
            remedy = "Give a pattern such as *.h5, within the directory where the action works."
            yield Problem(f"{at}.outputs[{i}]", f"{pattern!r} leads out of it, or nowhere", remedy)
