// Where the samples of a batch begin, and which rows they hold. Compiled once: nothing here is computed side by side.

#include <cstdint>

// Where each pool of a batch vector begins: 0 if rows of a pool follow each other, 1 if not, -1 if a number is outside.
extern "C" int64_t geonorm_segments(const int64_t* number, int64_t rows, int64_t pools, int64_t* ptr) {
    int64_t last = 0;
    ptr[0] = 0;
    for (int64_t k = 0; k < rows; k++) {
        const int64_t pool = number[k];
        if (pool == last) continue;
        if (pool < 0 || pool >= pools) return -1;
        if (pool < last) return 1;
        while (last < pool) ptr[++last] = k;
    }
    if (pools == 0) return rows == 0 ? 0 : -1;
    while (last < pools) ptr[++last] = rows;
    return 0;
}

// The rows, pool after pool, and where each pool begins among them: 1, or -1 if a number is outside.
extern "C" int64_t geonorm_order(const int64_t* number, int64_t rows, int64_t pools, int64_t* ptr, int64_t* order) {
    for (int64_t pool = 0; pool <= pools; pool++) ptr[pool] = 0;
    for (int64_t k = 0; k < rows; k++) {
        if (number[k] < 0 || number[k] >= pools) return -1;
        if (number[k] + 1 < pools) ptr[number[k] + 2]++;
    }
    for (int64_t pool = 2; pool <= pools; pool++) ptr[pool] += ptr[pool - 1];
    // Now ptr[pool + 1] is where the pool begins; counting on makes it where the pool ends.
    for (int64_t k = 0; k < rows; k++) order[ptr[number[k] + 1]++] = k;
    return 1;
}
