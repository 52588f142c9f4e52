// The types of numbers: in memory, and in which sums are taken.

#pragma once
#include <cstdint>
#include <cstring>

#include "interface.h"

#define RESTRICT __restrict__
// Functions that the compiler should not copy into each of their callers.
#define APART __attribute__((noinline))
// Arrays per column do not overlap.
#define COLUMNS _Pragma("omp simd") for (index c = 0; c < columns; c++)
// Nor do those per group of columns.
#define GROUPS(number) _Pragma("omp simd") for (index k = 0; k < number; k++)

namespace {

struct bf16 { uint16_t bits; };
template <class T> struct Accumulated { using type = T; };
template <> struct Accumulated<bf16> { using type = float; };

inline float load(const float* p) { return *p; }
inline double load(const double* p) { return *p; }
inline float load(const bf16* p) {
    uint32_t bits = uint32_t(p->bits) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline void store(float* p, float value) { *p = value; }
inline void store(double* p, double value) { *p = value; }
inline void store(bf16* p, float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    p->bits = value == value ? uint16_t(rounded) : uint16_t(0x7fc0);
}

// Without <cmath>, which takes longer to read than all of this to compile.
inline float root(float value) { return __builtin_sqrtf(value); }
inline double root(double value) { return __builtin_sqrt(value); }
inline float raised(float value, float power) { return __builtin_powf(value, power); }
inline double raised(double value, double power) { return __builtin_pow(value, power); }
inline float logarithm(float value) { return __builtin_logf(value); }
inline double logarithm(double value) { return __builtin_log(value); }

inline index least(index a, index b) { return a < b ? a : b; }
inline index most(index a, index b) { return a < b ? b : a; }

}  // namespace
