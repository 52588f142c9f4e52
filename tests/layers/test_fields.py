"""Columns of features: which irrep each belongs to, and which of them share a statistic."""

from itertools import combinations

import pytest
import torch
from e3nn import o3
from layers.peers import refused

from geonorm.axes import Axes
from geonorm.layers.fields import NORMALIZATIONS, Fields

FEATURES = ["2x0e+1x1o+3x0e", "2x0e+2x0o+2x1o+2x2e", "3x1o", "0x0e+2x1e+0x1o", "1x0o+1x0e+1x0o", "4x0e"]
COLUMN_AXES = ("", "v", "m", "vm", "vtm")
every_feature = pytest.mark.parametrize("features", FEATURES)


@every_feature
def test_a_rotation_mixes_the_columns_of_a_field_and_no_others(features):
    fields = Fields(features)
    matrix = -o3.Irreps(features).D_from_matrix(-o3.rand_matrix()) if fields.dim else torch.zeros(0, 0)
    mixed = matrix.abs() > 1e-12
    same = torch.tensor([[one.field == other.field for other in fields.columns] for one in fields.columns])
    assert torch.equal(mixed, same)
    for column in fields.columns:
        assert column.dim == fields.field_of_column.count(column.field)


@every_feature
def test_the_group_acts_on_all_columns_but_those_of_0e(features):
    fields = Fields(features)
    irreps = o3.Irreps(features)
    moves = torch.zeros(fields.dim, dtype=torch.bool)
    for k in (0, 1):
        matrix = irreps.D_from_angles(*o3.rand_angles(), torch.tensor(k))
        moves |= (matrix - torch.eye(fields.dim)).abs().amax(1) > 1e-5
    assert moves.tolist() == [not column.trivial for column in fields.columns]
    assert {fields.columns[k].field for k in range(fields.dim) if not moves[k]} == set(fields.trivial_fields)
    assert all(not (irrep.l == 0 and irrep.p == 1) for irrep in fields.nontrivial_types)


def test_irreps_that_stand_apart_are_one_type_with_channels_in_a_row():
    fields = Fields("2x0e+1x1o+3x0e")
    assert [str(irrep) for irrep in fields.types] == ["0e", "1o"]
    assert [column.channel for column in fields.columns if column.trivial] == [0, 1, 2, 3, 4]
    assert [column.field for column in fields.columns] == [0, 1, 2, 2, 2, 3, 4, 5]
    assert fields.num_fields == 6


def test_a_number_of_channels_is_that_many_scalars():
    number, irreps = Fields(5), Fields("5x0e")
    assert number.columns == irreps.columns
    assert repr(number) == "5"
    assert repr(irreps) == "'5x0e'"
    assert Fields(o3.Irreps("5x0e")).columns == irreps.columns


@pytest.mark.parametrize("features", [0, "", "0x1o", "0x0e+0x1o"])
def test_there_may_be_no_columns_at_all(features):
    fields = Fields(features)
    assert fields.dim == fields.num_fields == 0
    assert fields.group(Axes("vm")).num_groups == 0


def coordinates(fields: Fields, channel_groups: int | None = None) -> list[dict]:
    """What an axis may pool, for each column."""
    return [
        {
            "t": column.type,
            "m": (column.type, column.component),
            "v": (column.type, column.channel),
            "group": None
            if channel_groups is None
            else column.channel // (fields.count[fields.types[column.type]] // channel_groups),
        }
        for column in fields.columns
    ]


@every_feature
@pytest.mark.parametrize("axes", COLUMN_AXES)
@pytest.mark.parametrize("rows", ["", "x", "bx"])
def test_two_columns_share_a_statistic_where_they_agree_in_every_axis_that_is_not_pooled(features, axes, rows):
    fields = Fields(features)
    columns = fields.group(Axes(rows + axes))
    numbers = torch.arange(columns.num_groups)[None]
    group = columns.expand(numbers).expand(1, fields.dim)[0].tolist()
    place = coordinates(fields)
    for one, other in combinations(range(fields.dim), 2):
        kept = [axis for axis in "vtm" if axis not in axes]
        assert (group[one] == group[other]) == all(place[one][axis] == place[other][axis] for axis in kept)


def test_channels_may_be_pooled_in_groups():
    fields = Fields("4x0e+2x1o")
    columns = fields.group(Axes("xvm"), channel_groups=2)
    group = columns.expand(torch.arange(columns.num_groups)[None])[0].tolist()
    assert group == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


@every_feature
@pytest.mark.parametrize("axes", COLUMN_AXES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalizations_weigh_the_columns_of_a_pool_as_they_say(features, axes, normalization):
    fields = Fields(features)
    columns = fields.group(Axes(axes), normalization=normalization)
    squares = torch.rand(1, fields.dim, dtype=torch.float64)
    given = columns.sum(columns.weigh(squares).expand(1, fields.dim))
    group = columns.expand(torch.arange(columns.num_groups)[None]).expand(1, fields.dim)[0]
    for number in range(columns.num_groups):
        inside = [k for k in range(fields.dim) if group[k] == number]
        values = squares[0, inside]
        members = [fields.columns[k] for k in inside]
        types = sorted({column.type for column in members})
        by_type = [values[[column.type == kind for column in members]].mean() for kind in types]
        expected = {
            "component": values.mean(),
            "norm": values.sum() / len({column.field for column in members}),
            "row": values.sum(),
            "degree": sum(by_type) / len(by_type),
        }[normalization]
        torch.testing.assert_close(given[0, number], expected)


@pytest.mark.parametrize("features", [features for features in FEATURES if "0e" in features and "0x0e" not in features])
@pytest.mark.parametrize("axes", COLUMN_AXES)
def test_a_mean_over_invariants_divides_by_their_number(features, axes):
    fields = Fields(features)
    columns = fields.group(Axes(axes), only_trivial=True)
    trivial = torch.tensor([column.trivial for column in fields.columns])
    # The mean of ones is one, whatever stands beside them.
    x = torch.where(trivial, 1.0, torch.randn(3, fields.dim))
    mean = columns.expand(columns.sum(columns.weigh(x).expand(3, -1))).expand(3, fields.dim)
    torch.testing.assert_close(mean, trivial.float().expand(3, -1))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (-1, "channels is -1, expected a number of channels >= 0"),
        ("64 scalars", "'64 scalars' are neither .* such as '32x0e.16x1o'"),
        (2.5, "give an int such as 64"),
        (None, "give an int such as 64"),
    ],
)
def test_features_that_cannot_be_read_are_refused_with_an_example(features, message):
    with refused(message):
        Fields(features)
