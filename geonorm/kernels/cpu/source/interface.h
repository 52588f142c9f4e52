// What Python hands over: how columns are grouped and what is taken of each group, as the structures of recipes.py.

#pragma once
#include <cstdint>

extern "C" {
// Groups of columns that share a statistic. Entries are multiplied by the weight of their column in a weighted mean.
struct Columns {
    int64_t kind;            // NONE, EACH column a group of its own, ALL in one group, or ANY
    int64_t groups;
    const int64_t* group;    // of each column; the number of groups where it has none
    const void* weight[2];   // as float and as double
};
struct Recipe {
    int64_t columns, statistic;
    int64_t balanced;        // whether the weighted sums of w vanish when the whole mean is subtracted
    int64_t single;          // whether every column has a mean of its own, or none
    int64_t uniform;         // whether all columns have one weight in the scale
    double eps;
    Columns mean, scale;
};
}

// Names of these files belong to one object file: the same functions exist once for each instruction set.
namespace {
using index = int64_t;
enum Kind { NONE, EACH, ALL, ANY };
enum Statistic { RMS, RESIDUAL, OWN };
}  // namespace
