"""A small batch of which one entry is marked: which other entries share its statistic, and what that is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

SAMPLES, NODES, CHANNELS, GROUP, COMPONENTS = 3, 4, 4, 2, 3

#: What the channels of the batch are.
Kind = Literal["scalars", "vectors", "irreps"]

ORDER = "bxvgtm"
WORDS = {
    "b": "samples",
    "x": "nodes",
    "v": "channels",
    "g": "the channels of one group",
    "t": "types",
    "m": "components",
}
CUBE = {
    "scalars": "Cube of samples b, nodes x and channels v.",
    "vectors": "Cube of samples b, nodes x and channels v; a channel is a vector of three components m.",
    "irreps": "Cube of samples b, nodes x and channels v: two scalars, and two vectors of three components m.",
}


@dataclass(frozen=True)
class Column:
    """One column of the batch, and where it is drawn.

    Args:
        type: The number of its type: 0, and 1 for the vectors beside scalars.
        channel: The number of its channel within the type.
        component: The number of its component within the channel.
        left: Its left edge; all columns together are as wide as there are scalar channels.
        right: Its right edge.
    """

    type: int
    channel: int
    component: int
    left: float
    right: float


def columns(kind: Kind) -> list[Column]:
    """The columns of a batch of scalars, of vectors, or of both; every cube is drawn equally wide."""
    dims = {"scalars": [[1] * CHANNELS], "vectors": [[COMPONENTS] * CHANNELS], "irreps": [[1, 1], [COMPONENTS] * 2]}
    places = [
        (number, channel, component)
        for number, channels in enumerate(dims[kind])
        for channel, dim in enumerate(channels)
        for component in range(dim)
    ]
    width = CHANNELS / len(places)
    return [Column(*place, index * width, (index + 1) * width) for index, place in enumerate(places)]


def read_letters(axes: str | Iterable[str] | None) -> frozenset[str] | None:
    """The pooled axes as a set of letters.

    Raises:
        ValueError: If a letter is unknown.
    """
    if axes is None:
        return None
    letters = frozenset("g" if letter in ("g", "v/g") else letter for letter in axes)
    if not letters <= set(ORDER):
        raise ValueError(
            f"axes {sorted(letters)} are not in the cube; use letters of 'b' (sample), 'x' (node), 'v' (channel), "
            "'g' (channels of one group), 'm' (component of a vector), 't' (type)"
        )
    return letters


def read_kind(kind: Kind | None, *pools: frozenset[str] | None) -> Kind:
    """What the channels are: as it is said, or as the letters need it, vectors for m and several types for t.

    Raises:
        ValueError: If the kind is unknown, or the letters pool an axis that such channels do not have.
    """
    letters = frozenset().union(*(pool for pool in pools if pool is not None))
    needed: Kind = "irreps" if "t" in letters else "vectors" if "m" in letters else "scalars"
    if kind is None:
        return needed
    if kind not in CUBE:
        raise ValueError(f"features are {kind!r}, expected one of {', '.join(map(repr, CUBE))}")
    if list(CUBE).index(kind) < list(CUBE).index(needed):
        raise ValueError(
            f"axes {sorted(letters)} pool an axis that {kind} do not have; draw them on features={needed!r}"
        )
    return kind


def member_of(letters: frozenset[str], marked: Column) -> Callable[[int, int, Column], bool]:
    """Membership in the pool of the marked entry: first sample, first node, and the marked column."""

    def member(sample: int, node: int, column: Column) -> bool:
        types_agree = "t" in letters or column.type == marked.type
        channels_agree = (
            "v" in letters
            or ("g" in letters and column.channel // GROUP == marked.channel // GROUP)
            or column.channel == marked.channel
        )
        components_agree = "m" in letters or column.component == marked.component
        return (
            ("b" in letters or sample == 0)
            and ("x" in letters or node == 0)
            and types_agree
            and channels_agree
            and components_agree
        )

    return member


def size(letters: frozenset[str], kind: Kind) -> tuple[int, int]:
    """How many entries share the statistic of the marked one, and how many there are."""
    places = columns(kind)
    member = member_of(letters, places[-1])
    shared = sum(member(sample, node, place) for sample in range(SAMPLES) for node in range(NODES) for place in places)
    return shared, SAMPLES * NODES * len(places)


def statistics_per(letters: frozenset[str], kind: Kind) -> str:
    """Name what one statistic belongs to: the axes that are not pooled."""
    kept = []
    if "x" not in letters:
        kept.append("node index" if "b" in letters else "node")
    elif "b" not in letters:
        kept.append("sample")
    if "g" in letters:
        kept.append("group of channels")
    elif "v" not in letters:
        kept.append("channel")
    elif kind == "irreps" and "t" not in letters:
        kept.append("type")
    if kind != "scalars" and "m" not in letters:
        kept.append("component")
    if not kept:
        return "batch"
    return " and ".join(filter(None, (", ".join(kept[:-1]), kept[-1])))


def set_name(letters: frozenset[str]) -> str:
    """The letters as the survey writes a set of axes."""
    return "{" + ", ".join("v/g" if axis == "g" else axis for axis in ORDER if axis in letters) + "}"


def pooled_words(letters: frozenset[str]) -> str:
    """What is pooled, in words."""
    return " and ".join(WORDS[axis] for axis in ORDER if axis in letters) or "nothing"
