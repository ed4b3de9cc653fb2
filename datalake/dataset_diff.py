"""What changed from one dataset to another, for the person who must agree to train on it.

Frames are told from the lake by each dataset's own question and snapshot, so two datasets are
compared frame by frame, not count by count. Datasets of the simulator have no clips in the lake:
of those only counts and sources are compared.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from datalake.choice import frames_of
from datalake.duplicates import near_any
from datalake.lake import Lake
from datalake.vectors import NoEmbeddingsError, load, models, text_list
from vehicle.contracts.home import Home
from vehicle.contracts.sample import DatasetError, DatasetManifest, read_manifest

ALIKE: Final = 0.999
"""Cosine from which an added frame shows what the old dataset shows already."""

_CONDITIONS: Final = ("light", "weather", "town", "family", "source", "car")

Frame = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line: how many frames (or boxes, or clips) there were and are.

    Args:
        what: e.g. "light night", "boxes car".
        added, removed: of frames and clips, where they could be told apart.
    """

    what: str
    before: int
    after: int
    added: int | None = None
    removed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDiff:
    """What changed from dataset `before` to dataset `after`.

    Args:
        digests, snapshots: of the two.
        changes: counts, those that differ and those that do not.
        query: unified diff of the two questions, [] where they are the same.
        settings: what else was asked differently: rig, jurisdictions, no_duplicates, tags.
        clips_added, clips_removed: clip ids, or sources of the simulator.
        alike: added frames that look like one of `before`; None: nobody could tell.
    """

    SCHEMA = "datasetdiff/1"
    before: str
    after: str
    digests: tuple[str, str]
    snapshots: tuple[int, int]
    changes: tuple[Change, ...]
    query: tuple[str, ...] = ()
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)
    clips_added: tuple[str, ...] = ()
    clips_removed: tuple[str, ...] = ()
    alike: int | None = None

    @property
    def same(self) -> bool:
        """Return whether both hold the same frames, labels and all."""
        return self.digests[0] == self.digests[1]


def diff(home: Home, before: str, after: str) -> DatasetDiff:
    """Compare two datasets of a home.

    Raises:
        DatasetError: there is none of that name.
        LakeError: the lake is not the one they were made from.
    """
    old, new = _manifest(home, before), _manifest(home, after)
    changes = []
    alike = None
    if all(_of_lake(m) for m in (old, new)):
        was, now = _frames(home, old), _frames(home, new)
        changes.append(_change("frames", was, now))
        changes.append(_change("clips", {c for c, _ in was}, {c for c, _ in now}))
        with Lake(home) as lake, lake.at(max(old.snapshot, new.snapshot)) as then:
            changes += _conditions(then, was, now)
            alike = _alike(then, was, now - was)
    else:
        changes.append(Change(what="frames", before=old.frames, after=new.frames))
        changes.append(_change("sources", set(old.sources), set(new.sources)))
    changes += _counted("boxes", old.boxes, new.boxes)
    asked, asks = (m.query.strip().splitlines() for m in (old, new))
    return DatasetDiff(
        before=before,
        after=after,
        digests=(old.digest, new.digest),
        snapshots=(old.snapshot, new.snapshot),
        changes=tuple(changes),
        query=tuple(difflib.unified_diff(asked, asks, before, after, lineterm="", n=2)),
        settings=_settings(old, new),
        clips_added=tuple(sorted(set(new.sources) - set(old.sources))),
        clips_removed=tuple(sorted(set(old.sources) - set(new.sources))),
        alike=alike,
    )


def markdown(found: DatasetDiff) -> str:
    """Return the change as a page for a pull request."""
    lines = [f"### Dataset `{_cell(found.before)}` → `{_cell(found.after)}`", ""]
    lines += [_headline(found), "", "| | before | after | change |", "|---|--:|--:|--:|"]
    lines += [f"| {_cell(c.what)} | {c.before} | {c.after} | {_delta(c)} |" for c in found.changes]
    if found.settings:
        lines += ["", "| asked with | before | after |", "|---|---|---|"]
        lines += [
            f"| {_cell(k)} | {_cell(a)} | {_cell(b)} |" for k, (a, b) in found.settings.items()
        ]
    if found.query:
        text = "\n".join(found.query).replace("```", "'''")
        lines += ["", "```diff", text, "```"]
    for word, clips in (("added", found.clips_added), ("removed", found.clips_removed)):
        if clips:
            shown = ", ".join(f"`{_cell(c[:12])}`" for c in clips[:12])
            more = f" and {len(clips) - 12} more" if len(clips) > 12 else ""
            lines += ["", f"Clips {word}: {shown}{more}."]
    return "\n".join(lines) + "\n"


def text(found: DatasetDiff) -> list[str]:
    """Return the change as lines for a terminal."""
    if found.same:
        return [f"{found.before} and {found.after} are the same dataset: {found.digests[0][:12]}"]
    lines = [f"{found.before} -> {found.after}: {_headline(found)}", ""]
    wide = max(len(c.what) for c in found.changes)
    for c in found.changes:
        lines.append(f"  {c.what:<{wide}}  {c.before:>8} -> {c.after:<8} {_delta(c)}".rstrip())
    lines += [f"  {k}: {a or '-'} -> {b or '-'}" for k, (a, b) in found.settings.items()]
    lines += ["", *found.query] if found.query else []
    return lines


def _headline(found: DatasetDiff) -> str:
    frames = found.changes[0]
    if found.same:
        return f"The same dataset: {found.digests[0][:12]}."
    words = f"{frames.before} frames become {frames.after}"
    if frames.added is not None:
        words += f": {frames.added} added, {frames.removed} removed"
    if found.alike:
        words += f"; {found.alike} of the added look like frames that were there ({ALIKE} or more)"
    return f"{words}. Snapshots {found.snapshots[0]} and {found.snapshots[1]}."


def _delta(change: Change) -> str:
    if change.added is not None and change.removed is not None:
        parts = [f"+{change.added}"] * bool(change.added) + [f"-{change.removed}"] * bool(
            change.removed
        )
        return " ".join(parts)
    return f"{change.after - change.before:+d}" if change.after != change.before else ""


def _cell(text: str) -> str:
    """Return words that stay one cell of a table, and words."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _manifest(home: Home, name: str) -> DatasetManifest:
    folder = home.datasets / name
    if "/" in name or name.startswith(".") or not folder.is_dir():
        there = sorted(p.parent.name for p in home.datasets.glob("[!.]*/dataset.json"))
        raise DatasetError(
            f"no dataset is called {name!r}; there are: {', '.join(there) or 'none'}"
        )
    return read_manifest(folder)


def _of_lake(manifest: DatasetManifest) -> bool:
    return all(len(s) == 64 and set(s) <= set("0123456789abcdef") for s in manifest.sources)


def _frames(home: Home, manifest: DatasetManifest) -> set[Frame]:
    return {(c, f) for c, frames in frames_of(home, manifest).items() for f in frames}


def _change(what: str, was: set[Any], now: set[Any]) -> Change:
    added, removed = len(now - was), len(was - now)
    return Change(what=what, before=len(was), after=len(now), added=added, removed=removed)


def _counted(what: str, was: Mapping[str, int], now: Mapping[str, int]) -> list[Change]:
    names = sorted(set(was) | set(now), key=lambda n: (-max(was.get(n, 0), now.get(n, 0)), n))
    return [Change(what=f"{what} {n}", before=was.get(n, 0), after=now.get(n, 0)) for n in names]


def _conditions(lake: Lake, was: set[Frame], now: set[Frame]) -> list[Change]:
    clips = sorted({clip for clip, _ in was | now})
    rows = lake.sql(
        "SELECT clip_id, light, weather, json_extract_string(tags, '$.town') AS town, "
        "json_extract_string(tags, '$.family') AS family, source, car_id AS car FROM clips "
        f"WHERE list_contains({text_list(clips)}, clip_id)"
    ).to_pylist()
    told = {row["clip_id"]: row for row in rows}
    changes = []
    for name in _CONDITIONS:
        counts = [
            Counter(
                str(told[c][name]) for c, _ in frames if c in told and told[c][name] is not None
            )
            for frames in (was, now)
        ]
        changes += _counted(name, *counts)
    return changes


def _alike(lake: Lake, was: set[Frame], added: Iterable[Frame]) -> int | None:
    """Return how many added frames look like an old one, to the network that saw most of them."""
    wanted = set(added)
    if not wanted or not was:
        return 0
    where = f"list_contains({text_list(sorted({c for c, _ in was | wanted}))}, clip_id)"
    for model in models(lake):
        try:
            seen = load(lake, model, where=where, ordered=True)
        except NoEmbeddingsError:
            continue
        keys = [seen.key(row) for row in range(len(seen))]
        old = np.array([row for row, key in enumerate(keys) if key in was], np.int64)
        new = np.array([row for row, key in enumerate(keys) if key in wanted], np.int64)
        if len(old) and len(new):
            return int(near_any(seen.unit_NE, new, old, ALIKE).sum())
    return None


def _settings(old: DatasetManifest, new: DatasetManifest) -> dict[str, tuple[str, str]]:
    pairs = {"rig": (old.rig.name, new.rig.name)}
    if old.rig.name == new.rig.name and old.rig.digest != new.rig.digest:
        pairs["rig"] = (old.rig.digest[:12], new.rig.digest[:12])
    for name in sorted(set(old.tags) | set(new.tags)):
        pairs[f"tag {name}"] = (old.tags.get(name, ""), new.tags.get(name, ""))
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
