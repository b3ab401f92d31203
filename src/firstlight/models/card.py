"""The card of a model: what anybody must know who thinks of using it, written from what is on record, and from no more.

Markdown with front matter as Hugging Face has it, so that it can be published there as it is. The same facts give the
same bytes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from ._card_text import front_matter, number, plural, size, table, text
from ._family import Item
from ._licence import CONDITIONS, NOT_STATED, asked, licence, named, parts
from ._registry_facts import Version
from ._registry_gate import Verdict
from ._report import Report
from ._spec import TrainSpec

__all__ = ["CARD", "CONDITIONS", "card", "licence", "licence_of", "named"]

CARD = "card.md"
"""What it is called in the folder of a release."""
_CALIBRATION = re.compile(r"(coverage_\d+|calibration\w*|crps|nll|interval\w*)(\..+)?")
_HUB = {"BSD-3-Clause-LBNL": "other", "ODbL-1.0": "odbl", "ODC-By-1.0": "odc-by", "PDDL-1.0": "pddl"}
"""Licences whose name on Hugging Face does not follow from their SPDX id."""


def licence_of(report: Report, spec: TrainSpec, parent: Version | None = None) -> str:
    """The licence of a trained model, from that in its specification, those of its data, of the weights of others that
    it began with, and its parent's.

    Raises ValueError where the specification's would drop a condition of theirs.
    """
    theirs = [*(item.licence for item in report.data), *(weights.licence for weights in report.inherited)]
    return licence(spec.licence, theirs, parent.made.licence if parent else "")


def card(report: Report, spec: TrainSpec, verdict: Verdict, parent: Version | None = None) -> str:
    """The card of a model: of its report, of what was asked for, of what its gate says, and of what it began with.

    Raises ValueError where the licence in the specification would drop a condition of the data's or the parent's.
    """
    terms = licence_of(report, spec, parent)
    sections = [
        _front(report, spec, terms),
        f"# {text(spec.title or report.name)}",
        text(spec.description),
        _what(report, spec),
        _use(report, spec, terms, verdict),
        _data(report),
        _evaluation(report),
        _calibration(report.scores),
        _forgetting(report),
        _limits(report.limits),
        _compute(report),
        _lineage(report, spec, parent),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front(report: Report, spec: TrainSpec, terms: str) -> str:
    datasets = list(dict.fromkeys(item.dataset for item in report.data))
    hub = _hub_licence(terms)
    found: dict[str, object] = {"license": hub}
    if hub == "other":
        found["license_name"] = terms
    found |= {"library_name": "firstlight", "tags": ["firstlight", report.family], "datasets": datasets}
    if report.parent:
        found["base_model"] = report.parent
    found["metrics"] = list(report.scores)
    name = "its test"
    result = {
        "task": {"type": report.family},
        "dataset": {
            "name": f"{name}: {', '.join(datasets)}" if datasets else name,
            "type": "firstlight",
            "split": "test",
        },
        "metrics": [{"type": score, "value": value} for score, value in report.scores.items()],
    }
    found["model-index"] = [{"name": spec.title or report.name, "results": [result]}]
    return front_matter(found)


def _hub_licence(terms: str) -> str:
    """The licence as Hugging Face writes it."""
    found = parts(terms)
    if not found:
        return "unknown"
    if len(found) > 1 or found[0] not in CONDITIONS:
        return "other"
    return _HUB.get(found[0], re.sub(r"-(only|or-later)$", "", found[0]).lower())


def _what(report: Report, spec: TrainSpec) -> str:
    begun = f"It began with {text(report.parent)}" if report.parent else "It was trained from scratch"
    if report.inherited and not report.parent:
        begun = f"It began with {', '.join(text(one.name) for one in report.inherited)}"
    lines = [
        f"{text(report.name)} is a model of the family `{text(report.family)}`. {begun}; training changed "
        f"{plural(report.parameters.changed, 'parameter')} and left {report.parameters.frozen:,} as they were."
    ]
    if report.inherited:
        rows = [(text(one.name), text(one.version), text(one.licence) or NOT_STATED) for one in report.inherited]
        said = "Its first ancestor began with weights of others:" if report.parent else "Those are weights of others:"
        lines.append(f"{said}\n\n" + table(("weights", "package", "licence"), rows))
    if report.data:
        columns = dict.fromkeys((c.name, c.role, c.unit) for item in report.data for c in item.columns)
        if columns:
            rows = [(f"`{text(name)}`", text(role), text(unit)) for name, role, unit in columns]
            lines.append("What the data call things:\n\n" + table(("column", "role", "unit"), rows))
    if spec.options:
        given = [(f"`{text(name)}`", f"`{text(str(value))}`") for name, value in sorted(spec.options.items())]
        lines.append("Made with these options:\n\n" + table(("option", "value"), given))
    return _section("What it is", lines)


def _use(report: Report, spec: TrainSpec, terms: str, verdict: Verdict) -> str:
    stated = asked(terms)
    lines = [
        f"It is for questions like those of its data ({', '.join(text(t) for t in spec.data)}), and was judged on "
        f"{_amount(report, 'test')} that it had not seen. Beyond these nobody has judged it.",
        f"Licence: {text(terms) or NOT_STATED}." + (f" It asks of you: {'; '.join(stated)}." if stated else ""),
        "What was asked of it before it was trained, and whether it holds:" if verdict.checks
        else "Nothing was asked of it before it was trained.",
    ]  # fmt: skip
    if verdict.checks:
        lines.append("\n".join(f"- {'holds' if c.passed else 'does NOT hold'}: {text(c.why)}" for c in verdict.checks))
    if verdict.ask:
        lines.append(f"Before it is used, a person is asked: {text(verdict.ask)}")
    return _section("Intended use", lines)


def _data(report: Report) -> str:
    if not report.data:
        return _section("Training data", ["Its report names no data."])
    by_dataset = dict[str, list[Item]]()
    for item in report.data:
        by_dataset.setdefault(item.dataset, []).append(item)
    rows = [
        (
            text(dataset), str(len(items)), size(sum(item.size for item in items)),
            _said(named(item.licence) for item in items), _said(item.training for item in items),
            "yes" if all(i.synthetic for i in items) else "in part" if any(i.synthetic for i in items) else "no",
        )
        for dataset, items in by_dataset.items()
    ]  # fmt: skip
    heads = ("dataset", "files", "size", "licence", "may models be trained on it", "synthetic")
    lines = [table(heads, rows)]
    if report.parts:
        told = [(text(part), f"{count:,}", f"{report.groups.get(part, 0):,}") for part, count in report.parts.items()]
        lines.append(table(("part", "examples", "groups"), told))
    return _section("Training data", lines)


def _evaluation(report: Report) -> str:
    scores = {"this model": report.scores}
    if report.parent_scores:
        scores[f"its parent {text(report.parent)}"] = report.parent_scores
    scores |= {f"baseline {text(name)}": found for name, found in report.baselines.items()}
    names = list(dict.fromkeys([report.metric, *(name for found in scores.values() for name in found)]))
    rows = [(whose, *(number(found.get(name)) for name in names)) for whose, found in scores.items()]
    lines = [
        f"All on the same test of {_amount(report, 'test')}. Versions are compared by `{text(report.metric)}`; "
        "smaller is better.",
        table(("", *(f"`{text(name)}`" for name in names)), rows),
    ]
    if not report.baselines:
        lines.append("It was held against no baseline.")
    return _section("Evaluation", lines)


def _calibration(scores: Mapping[str, float]) -> str:
    found = {name: value for name, value in scores.items() if _CALIBRATION.fullmatch(name)}
    if not found:
        return _section("Calibration", ["No score says how far its uncertainties can be trusted."])
    lines = [
        f"- intervals of {level[1]} % hold {100 * value:.3g} % of the test"
        for name, value in found.items() if (level := re.fullmatch(r"coverage_(\d+)", name))
    ]  # fmt: skip
    lines += [f"- `{text(name)}`: {number(value)}" for name, value in found.items() if not name.startswith("coverage_")]
    return _section("Calibration", ["\n".join(lines)])


def _forgetting(report: Report) -> str:
    if not report.parent:
        return ""
    if not report.forgetting:
        return _section("Forgetting", [f"What it has lost of what {text(report.parent)} could do was not measured."])
    rows = [(f"`{text(name)}`", number(value)) for name, value in report.forgetting.items()]
    return _section(
        "Forgetting", [f"What it has lost of what {text(report.parent)} could do:", table(("score", "lost"), rows)]
    )


def _limits(limits: Sequence[str]) -> str:
    said = "\n".join(f"- {text(limit)}" for limit in limits)
    return _section("Limits", [said or "Its family states none, which does not mean that it has none."])


def _compute(report: Report) -> str:
    compute = report.compute
    if compute.energy_joules is None:
        energy = "Nobody has measured or estimated its energy"
    else:
        source = compute.energy_source or "nobody has said how it is known"
        energy = f"It took {compute.energy_joules / 3.6e6:.3g} kWh ({compute.energy_joules:.4g} J; {text(source)})"
    lines = [
        f"Trained on {text(compute.device)} by {plural(compute.world, 'process', 'processes')} in "
        f"{compute.seconds:.4g} s, {compute.device_hours:.3g} device hours"
        f"{f', in {text(compute.precision)}' if compute.precision else ''}. {energy}."
    ]
    if compute.tokens:
        lines.append(f"It went through {compute.tokens:,} tokens, {compute.tokens_per_second:,.4g} a second.")
    if compute.memory_bytes is not None:
        lines.append(f"One process held at most {size(compute.memory_bytes)}.")
    return _section("Compute and energy", lines)


def _lineage(report: Report, spec: TrainSpec, parent: Version | None) -> str:
    curve, training, split = report.curve, spec.training, spec.split
    rows = [("data asked for", ", ".join(text(t) for t in spec.data))]
    rows += [("file", f"`{text(i.dataset)}` `{text(i.path)}` {text(i.digest)}") for i in report.data]
    rows += [("weights of others", f"{text(one.id)} {text(one.digest)}") for one in report.inherited]
    if report.parent:
        rows.append(("parent", text(report.parent) + (f" ({text(parent.made.record)})" if parent else "")))
    if parent:
        rows.append(("licence of the parent", text(parent.made.licence) or NOT_STATED))
    rows += [
        ("order", text(report.order) or "not recorded"),
        ("seed", str(report.seed)),
        ("split", f"validation {split.validation:g}, test {split.test:g}, seed {split.seed}"),
        (
            "training", f"{curve.steps:,} steps of at most {training.steps:,}, batches of {training.batch:,}, learning "
            f"rate {training.learning_rate:g}, {text(training.precision)}",
        ),
        (
            "validation", f"{curve.first:.4g} at first, {curve.best:.4g} at best (step {curve.best_step:,}, which was "
            f"released), {curve.last:.4g} at last",
        ),
        ("software", ", ".join(f"{text(n)} {text(v)}" for n, v in sorted(report.software.items())) or "not recorded"),
    ]  # fmt: skip
    return _section("Lineage", [table(("", ""), rows)])


def _amount(report: Report, part: str) -> str:
    if part not in report.parts:
        return "examples whose number is not recorded"
    groups = f" of {plural(report.groups[part], 'group')}" if part in report.groups else ""
    return plural(report.parts[part], "example") + groups


def _said(words: Iterable[str]) -> str:
    return ", ".join(text(word) or NOT_STATED for word in dict.fromkeys(words))


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n\n".join([f"## {title}", *lines])
