// Tiles of columns whose sums stay in registers: of several registers first, then of fewer. The last tile overlaps the
// one before it, which gives the same sums twice.

#pragma once
#include "vectors.h"

// The registers of a tile, one after the other; every tile writes this loop out.
#if defined(__clang__)
#define EACH_REGISTER _Pragma("unroll") for (int r = 0; r < R; r++)
#else
#define EACH_REGISTER _Pragma("GCC unroll 8") for (int r = 0; r < R; r++)
#endif

namespace {

template <class V_, class A, int R_> struct Tile {
    using V = V_;
    static constexpr int R = R_, L = int(sizeof(V) / sizeof(A));
};

template <class A> constexpr index lanes = index(sizeof(typename Wide<A>::type) / sizeof(A));

// At least one vector of columns.
template <class A, int R, class F> inline void vector_tiles(index c, index columns, F f) {
    using V = typename Wide<A>::type;
    for (; c + R * lanes<A> <= columns; c += R * lanes<A>) f(Tile<V, A, R>{}, c);
    if constexpr (R > 1) vector_tiles<A, R / 2>(c, columns, f);
    else if (c < columns) f(Tile<V, A, 1>{}, columns - lanes<A>);
}
// Any number of columns; WHOLE promises whole vectors.
template <class A, int R, bool WHOLE = false, class F> inline void tiles(index columns, F f) {
    if (WHOLE || columns >= lanes<A>) return vector_tiles<A, R>(0, columns, f);
    if constexpr (!WHOLE) {
        index c = 0;
        for (; c + 4 <= columns; c += 4) f(Tile<A, A, 4>{}, c);
        for (; c < columns; c++) f(Tile<A, A, 1>{}, c);
    }
}

}  // namespace
