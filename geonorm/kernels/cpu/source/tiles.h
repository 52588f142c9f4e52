// Tiles of columns whose sums stay in registers, or next to the processor where these are few: of many registers first,
// then of fewer. The last tile overlaps the one before it, which gives the same sums twice. Wide tiles let memory be
// read in its order, which decides the speed of whatever does not fit the caches.

#pragma once
#include "vectors.h"

// The registers of a tile, one after the other; every tile writes this loop out.
#if defined(__clang__)
#define EACH_REGISTER _Pragma("unroll") for (int r = 0; r < R; r++)
#else
#define EACH_REGISTER _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)
#endif

namespace {

template <class V_, class A, int R_> struct Tile {
    using V = V_;
    static constexpr int R = R_, L = int(sizeof(V) / sizeof(A));
};

template <class A> constexpr index lanes = index(sizeof(typename Wide<A>::type) / sizeof(A));

// The vectors of the widest tile.
constexpr int WIDE = VECTOR == 64 ? 8 : 16;

// Asks for the bytes of a tile that will be read soon. While a pool that the caches hold is written nothing else is read
// from memory: time in which the next one can come.
template <int BYTES, class T> inline void fetch(const T* from) {
    for (int k = 0; k < BYTES; k += 64) __builtin_prefetch(reinterpret_cast<const char*>(from) + k, 0, 2);
}

// Tiles from column c on that leave less than a vector.
template <class A, int R, class F> inline void vector_tiles(index c, index columns, F f) {
    using V = typename Wide<A>::type;
    for (; c + R * lanes<A> <= columns; c += R * lanes<A>) f(Tile<V, A, R>{}, c);
    if constexpr (R > 1) vector_tiles<A, R / 2>(c, columns, f);
}
// The tile of the columns that are left, with some before them; or if there is less than a vector, all columns.
template <class A, class F> inline void last_tiles(index columns, F f) {
    index c = 0;
    if (columns >= lanes<A>) {
        if (columns % lanes<A> != 0) f(Tile<typename Wide<A>::type, A, 1>{}, columns - lanes<A>);
        return;
    }
    for (; c + 4 <= columns; c += 4) f(Tile<A, A, 4>{}, c);
    for (; c < columns; c++) f(Tile<A, A, 1>{}, c);
}
// f(tile, c) for tiles of any number of columns, each through all rows; WHOLE promises whole vectors.
template <class A, bool WHOLE = false, class F> inline void tiles(index columns, F f) {
    vector_tiles<A, WIDE>(0, columns, f);
    if constexpr (!WHOLE) last_tiles<A>(columns, f);
}
// The same for several matrices: f(tile, c, low, high, begins) goes from row `low` to row `high`, and `begins` says
// that these are the first. Where a row is many tiles, every row is finished before the next: so many places at once
// are more than the processor fetches ahead.
template <class A, bool WHOLE = false, class F> inline void sweeps(index columns, index first, index last, F f) {
    const index step = columns < 2 * WIDE * lanes<A> ? last - first : 1;
    for (index low = first; low < last; low += step)
        vector_tiles<A, WIDE>(0, columns, [=](auto tile, index c) { f(tile, c, low, low + step, low == first); });
    if constexpr (!WHOLE) last_tiles<A>(columns, [=](auto tile, index c) { f(tile, c, first, last, true); });
}

}  // namespace
