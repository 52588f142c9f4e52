"""Settings that may differ from one irrep type to the next, and the parts of the features that share them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from geonorm.layers.fields import Features, Fields

#: The settings that may be given per type.
PER_TYPE = ("mean", "alpha", "scale", "statistic", "exponent", "eps", "gain", "normalization")
#: Where mean and scale come from, and what is standardized.
CHOICES = {"source": ("batch", "running", "constant", "count"), "mode": ("direct", "product", "pair")}
#: The key of a mapping for all types that it does not name.
REST = "rest"


@dataclass(frozen=True)
class Part:
    """Some types of the features, with one set of settings.

    Args:
        features: The types as features of their own.
        columns: Their columns, in order.
        settings: Arguments of :class:`~geonorm.Standardize`.
    """

    features: Features
    columns: tuple[int, ...]
    settings: dict[str, Any]


def parts_of(fields: Fields, features: Features, settings: Mapping[str, Any]) -> list[Part]:
    """Group the types of the features by their settings.

    Types with equal settings are one part, so that a scale over types (t) pools them; a mean of 0e alone does not set
    0e apart.

    Args:
        fields: The features.
        features: The same, as they were given.
        settings: Each a value for all types, or a mapping from types such as ``"0e"``, and ``"rest"``, to values. Those
            of the mean are ``mean`` and ``alpha``.

    Returns:
        The parts, in the order of their first types; a single one if there are no types at all.

    Raises:
        ValueError: If a mapping names a type that does not occur, or types share a scale but not a mean.
    """
    names = [str(irrep) for irrep in fields.types]
    for argument, value in settings.items():
        unknown = sorted(set(value) - {*names, "0e", REST}) if isinstance(value, Mapping) else []
        if unknown:
            known = ", ".join(map(repr, (*names, REST)))
            raise ValueError(f"{argument} names {', '.join(map(repr, unknown))}, expected some of {known}")
    chosen = [{argument: _at(name, argument, value) for argument, value in settings.items()} for name in names]
    if not chosen:
        return [
            _part(fields, features, [], {argument: _at(REST, argument, value) for argument, value in settings.items()})
        ]
    groups: dict[Hashable, list[int]] = {}
    for number, each in enumerate(chosen):
        groups.setdefault(tuple(value for name, value in each.items() if name not in ("mean", "alpha")), []).append(
            number
        )
    parts = []
    for types in groups.values():
        parts += [_part(fields, features, some, each) for some, each in _by_mean(fields, types, chosen)]
    return sorted(parts, key=lambda part: part.columns[0])


def _at(name: str, argument: str, value: Any) -> Any:
    """The value of one type; of a mapping that leaves it out there is no mean, and the usual value of all else."""
    if not isinstance(value, Mapping):
        return value
    if name in value or REST in value:
        return value.get(name, value.get(REST))
    if argument == "mean":
        return None
    raise ValueError(f"{argument} says nothing of {name}: name it, or give a value for {REST!r}")


def _by_mean(fields: Fields, types: list[int], chosen: list[dict[str, Any]]) -> list[tuple[list[int], dict[str, Any]]]:
    """Split types that share all else by their means, unless the only difference is that 0e alone has one."""
    means: dict[Hashable, list[int]] = {}
    for number in types:
        centred = chosen[number]["mean"] is not None
        means.setdefault((chosen[number]["mean"], chosen[number]["alpha"]) if centred else None, []).append(number)
    trivial = [number for number in types if fields.types[number] not in fields.nontrivial_types]
    if len(means) == 2 and None in means and [means[key] for key in means if key is not None] == [trivial]:
        return [(types, {**chosen[trivial[0]], "mean_on": "0e"})]
    if len(means) > 1 and "t" in (chosen[types[0]]["scale"] or ""):
        raise ValueError(
            f"{', '.join(str(fields.types[number]) for number in types)} share the scale over "
            f"{chosen[types[0]]['scale']!r} but not the mean: give them one mean, 0e alone a mean, or scales without t"
        )
    return [(some, {**chosen[some[0]], "mean_on": "all"}) for some in means.values()]


def _part(fields: Fields, features: Features, types: list[int], settings: dict[str, Any]) -> Part:
    """The part with these types; the features as they were given where it has all of them."""
    settings = {"mean_on": "0e", **settings}
    columns = tuple(place for place, column in enumerate(fields.columns) if column.type in types)
    whole = len(columns) == fields.dim
    return Part(features if whole else _irreps(fields, types), columns, settings)


def _irreps(fields: Fields, types: list[int]) -> Features:
    """The irreps of some types, block by block."""
    from e3nn import o3

    wanted = [fields.types[number] for number in types]
    return o3.Irreps([(number, irrep) for number, irrep in fields.irreps if irrep in wanted])


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings of :class:`~geonorm.GeometricNorm` that are out of range or contradict each other.

    Args:
        settings: All arguments of the layer by their names.

    Raises:
        ValueError: If one is out of range, or two contradict each other.
    """
    for name, allowed in CHOICES.items():
        if settings[name] not in allowed:
            raise ValueError(f"{name} is {settings[name]!r}, expected one of {', '.join(map(repr, allowed))}")
    for name, (least, most) in {"alpha": (0, 1), "exponent": (0, float("inf"))}.items():
        values = settings[name].values() if isinstance(settings[name], Mapping) else [settings[name]]
        if not all(least <= value <= most for value in values):
            raise ValueError(f"{name} is {settings[name]}, expected numbers from {least} to {most}")
    source, mode, residual, constant = (settings[name] for name in ("source", "mode", "residual", "constant"))
    smoothing, length_eps = settings["smoothing"], settings["length_eps"]
    mappings = [name for name in PER_TYPE if isinstance(settings[name], Mapping)]
    if mode != "direct" and mappings:
        raise ValueError(
            f"mode {mode!r} standardizes lengths, which are all of type 0e: "
            f"{', '.join(mappings)} cannot differ between types"
        )
    if residual is not None and (mode == "pair" or residual < 0):
        raise ValueError(f"residual is {residual} in mode {mode!r}: expected a number >= 0, and no pair")
    if not constant > 0:
        raise ValueError(f"constant is {constant}, expected a positive number: the features are divided by it")
    if smoothing < 0 or length_eps < 0 or (mode == "product" and not length_eps):
        raise ValueError(
            f"length_eps is {length_eps} and smoothing {smoothing}, expected numbers >= 0; in mode "
            "'product' the lengths are divided by and length_eps must be positive"
        )
    if source == "count" and (
        settings["mean"] is not None or settings["learn_exponent"] or "exponent" in mappings or mode != "direct"
    ):
        raise ValueError(
            "source 'count' divides by a power of a number of nodes and does nothing else: "
            "leave mean out, give one exponent that is not learned, and mode 'direct'"
        )
    if source == "count" and settings["statistics"]:
        raise ValueError("source 'count' removes nothing: there are no statistics to return")
