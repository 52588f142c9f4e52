// Sums and means over groups of columns, and back to the columns.

#pragma once
#include "numbers.h"

namespace {

template <class A> inline const A* weights(const Columns& k) { return static_cast<const A*>(k.weight[sizeof(A) == 8]); }

// The sum over each group; of columns without a group it goes to one more place.
template <class A> APART void added(const Columns& k, index columns, const A* RESTRICT values, A* RESTRICT sums) {
    if (k.kind == EACH) {
        COLUMNS sums[c] = values[c];
    } else if (k.kind == ALL) {
        A total = 0;
        _Pragma("omp simd reduction(+ : total)") for (index c = 0; c < columns; c++) total += values[c];
        sums[0] = total;
    } else {
        const index* RESTRICT group = k.group;
        for (index g = 0; g <= k.groups; g++) sums[g] = 0;
        for (index c = 0; c < columns; ++c) sums[group[c]] += values[c];
    }
}

// The sum of weighted values over each group.
template <class A> APART void weighted(const Columns& k, index columns, const A* RESTRICT values, A* RESTRICT sums) {
    const A* RESTRICT weight = weights<A>(k);
    if (k.kind == EACH) {
        COLUMNS sums[c] = values[c] * weight[c];
    } else if (k.kind == ALL) {
        A total = 0;
        _Pragma("omp simd reduction(+ : total)") for (index c = 0; c < columns; c++) total += values[c] * weight[c];
        sums[0] = total;
    } else {
        const index* RESTRICT group = k.group;
        for (index g = 0; g <= k.groups; g++) sums[g] = 0;
        for (index c = 0; c < columns; ++c) sums[group[c]] += values[c] * weight[c];
    }
}

// Gives every column the value of its group, zero where it has none.
template <class A> APART void expanded(const Columns& k, index columns, const A* RESTRICT values, A* RESTRICT into) {
    if (k.kind == EACH) {
        COLUMNS into[c] = values[c];
    } else if (k.kind == ALL) {
        A value = values[0];
        COLUMNS into[c] = value;
    } else {
        const index* RESTRICT group = k.group;
        for (index c = 0; c < columns; ++c) into[c] = group[c] < k.groups ? values[group[c]] : A(0);
    }
}

// The mean over each group of the means of columns, exact where these are equal: given back to the columns.
template <class A>
APART void mean_of_means(const Columns& k, index columns, const A* RESTRICT means, A* RESTRICT spare,
                         A* RESTRICT groups, A* RESTRICT each) {
    weighted(k, columns, means, groups);
    expanded(k, columns, groups, each);
    if (k.kind == EACH) return;
    COLUMNS spare[c] = means[c] - each[c];
    weighted(k, columns, spare, each);
    for (index g = 0; g < k.groups; g++) groups[g] += each[g];
    expanded(k, columns, groups, each);
}

}  // namespace
