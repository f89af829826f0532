"""Sections that the page of every lane has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.core.data.split import ROLES, split_digest
from stages.core.report.charts import Axis, Bar, Series, bars, curves, error_curve, spanning
from stages.core.report.markup import Child, Markup, join, tag
from stages.core.report.page import Cell, Method, Page, grid, note, picture, stack, table, verdict_words
from stages.core.report.wording import VERDICTS, figure, interval, interval_name, listing, with_interval

FLOOR_STYLES = ("other1", "other2", "other3", "other4", "other5", "other6")


def styles(methods: Sequence[Method]) -> list[str]:
    """One style a method: the first model stands out, the others follow in order."""
    others = iter(FLOOR_STYLES * (1 + len(methods) // len(FLOOR_STYLES)))
    first = next((k for k, m in enumerate(methods) if m.is_model), -1)
    return ["model" if k == first else next(others) for k in range(len(methods))]


def comparison_figure(methods: Sequence[Method], unit: str, width: float = 520) -> Markup:
    """Bars of the methods' mean errors with their intervals."""
    reach = [v for m in methods for v in (m.error.value, m.error.high)]
    entries = [Bar(m.name, m.error, style) for m, style in zip(methods, styles(methods), strict=True)]
    label = "Mean error by method: " + "; ".join(f"{m.name} {with_interval(m.error, unit)}" for m in methods)
    return bars(entries, spanning(reach, f"mean error ({unit})"), label, width)


def comparison_section(page: Page, methods: Sequence[Method], unit: str, groups: str) -> None:
    """The model beside its floors: bars, and a table of paired differences with a verdict on each."""
    lead = (
        "Floors are simple methods fitted to the same training cases; a network that does not beat them is "
        f"of no use. Differences are paired case by case, intervals come from a bootstrap over {groups}."
    )
    drawn = comparison_figure(methods, unit, width=760)
    content = stack(
        picture(drawn, "Mean error; whiskers are the intervals. Shorter is better."),
        comparison_table(methods, unit),
    )
    page.add("floors", "Model and floors", content, lead=lead)


def comparison_table(methods: Sequence[Method], unit: str) -> Markup:
    """Errors, paired differences from the first model, and verdicts."""
    rows: list[list[Child | Cell]] = []
    for m in methods:
        compared = m.difference is not None
        rows.append(
            [
                m.name,
                figure(m.error.value),
                interval(m.error),
                figure(m.difference.value, signed=True) if m.difference else "",
                interval(m.difference, signed=True) if m.difference else "",
                verdict_words(m.verdict) if compared else ("the model" if m.is_model else "not compared"),
            ]
        )
    name = interval_name(methods[0].error) if methods else "interval"
    headings = ["Method", f"Mean error ({unit})", name, f"Model minus method ({unit})", name, "The model"]
    emphasised = [k for k, m in enumerate(methods) if m.is_model]
    return table(headings, rows, numeric=(1, 2, 3, 4), emphasised=emphasised)


def verdict_sentence(methods: Sequence[Method], unit: str, cases: str) -> tuple[str, str]:
    """Is it any good: (style, sentence) about the first model against everything it was compared with."""
    model = next((m for m in methods if m.is_model), None)
    if model is None:
        return "open", "No trained model was evaluated."
    said = f"On {cases} the model is off by {with_interval(model.error, unit)} on average."
    names: dict[str, list[str]] = {}
    for m in methods:
        if m.verdict and not m.is_model:
            names.setdefault(m.verdict, []).append(m.name)
    if not names:
        return "open", f"{said} It was compared with nothing."
    phrases = {
        "better": "It beats {}.",
        "worse": "It is worse than {}.",
        "no difference": "No difference is shown from {}.",
        "too few groups": "There are too few cases to compare it with {}.",
    }
    verdicts = [phrases[v].format(listing(names[v])) for v in VERDICTS if v in names]
    style = "bad" if "worse" in names else "good" if set(names) == {"better"} else "open"
    return style, " ".join([said, *verdicts])


def error_curve_figure(errors: Sequence[tuple[str, str, np.ndarray]], unit: str, what: str) -> Markup:
    """Cumulative error curves of (name, style, errors); the axis ends where the slowest reaches 95 %."""
    drawn = [Series(name, *error_curve(values), style) for name, style, values in errors]
    ends = [np.nanquantile(v, 0.95) for _, _, v in errors if np.isfinite(v).any()]
    x = spanning(ends, f"error ({unit})")
    drawn = [Series(s.name, np.append(0.0, s.x), np.append(0.0, s.y), s.style) for s in drawn]
    return curves(
        drawn, x, Axis(0, 1.0, f"share of {what} within it"), f"Cumulative error curves over {what}"
    )


def history_section(page: Page, history: pd.DataFrame, monitored: str, unit: str) -> None:
    """Training curves: losses on one chart, validation figures by unit on others.

    Args:
        history: step (the epoch) and one column a figure; empty cells where an epoch did not report it.
        monitored: column whose lowest epoch is marked.
    """
    names = [c for c in history.columns if c != "step" and np.isfinite(history[c].astype(float)).any()]
    losses = [c for c in names if c.startswith("train_") or c.endswith("loss")]
    others = [c for c in names if c not in losses]
    # A loss of one part with the weight 1 is that part: two lines would lie on each other.
    losses = [c for k, c in enumerate(losses) if not any(history[c].equals(history[b]) for b in losses[:k])]
    if not names:
        page.add("training", "Training", note("The training recorded no figures per epoch."))
        return
    drawn = []
    if losses:
        drawn.append(
            picture(
                _history_chart(history, losses, "loss", None, log=_spans_decades(history, losses)),
                "Training loss and its parts, each before weighting: mean over the steps of each epoch.",
            )
        )
    if monitored in others:
        drawn.append(
            picture(
                _history_chart(history, [monitored], f"validation error ({unit})", monitored),
                "Error on the validation set after each epoch; the lowest is marked.",
            )
        )
        others.remove(monitored)
    for name in others:
        drawn.append(
            picture(_history_chart(history, [name], name.replace("_", " "), None), "After each epoch.")
        )
    lead = "Is it still learning when it stops, and does the validation error follow the loss?"
    page.add("training", "Training", grid(*drawn), lead=lead)


def _spans_decades(history: pd.DataFrame, names: Sequence[str]) -> bool:
    values = history[list(names)].to_numpy(float)
    values = values[np.isfinite(values)]
    return bool(values.min() > 0 and values.max() / values.min() > 30)


def _history_chart(
    history: pd.DataFrame, names: Sequence[str], label: str, mark: str | None, log: bool = False
) -> Markup:
    step = history["step"].to_numpy(float)
    x = Axis(step.min() - 0.5, step.max() + 0.5, "epoch")
    values = history[list(names)].astype(float)
    y = spanning(values.to_numpy(), label + (" (log scale)" if log else ""), zero=False, log=log)
    order = ("model", *FLOOR_STYLES)
    series = [
        Series(
            name.removeprefix("train_").replace("_", " "),
            step,
            values[name].to_numpy(),
            order[k % len(order)],
        )
        for k, name in enumerate(names)
    ]
    lowest = None
    if mark is not None:
        at = int(np.nanargmin(values[mark]))
        lowest = (
            step[at],
            float(values[mark].iloc[at]),
            f"{figure(values[mark].iloc[at])} at epoch {step[at]:.0f}",
        )
    return curves(series, x, y, f"{label} by epoch", lowest)


PURPOSES = {
    "train": "fits the weights",
    "val": "early stopping, choices, calibration",
    "gate": "decides promotion in the registry",
    "test": "reported here, decides nothing",
}


def split_table(split: pd.DataFrame, group: str) -> Markup:
    """Films and groups of each role, and the digest that the split is locked by.

    Args:
        split: columns id, patient, role.
        group: what is never in two roles: `patient`, or `film` where patients are not known.
    """
    known = group != "film"
    rows: list[list[Child | Cell]] = []
    for role in (*ROLES, "all"):
        part = split if role == "all" else split[split["role"] == role]
        groups = [f"{part['patient'].nunique():,}"] if known else []
        rows.append([role, f"{len(part):,}", *groups, PURPOSES.get(role, "")])
    said = (
        f"No {group} is in two roles."
        if known
        else "The data set does not say which films are of one patient."
    )
    caption = join(said, " SHA-256 of the split: ", tag("code", split_digest(split)))
    headings = ["Role", "Films", *([f"{group.capitalize()}s"] if known else []), "Purpose"]
    return table(headings, rows, numeric=range(1, len(headings) - 1), caption=caption)
