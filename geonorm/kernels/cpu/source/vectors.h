// Vectors of numbers as wide as the registers of the instruction set: read, written, multiplied and added.

#pragma once
#include "numbers.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VECTOR 64
#elif defined(__AVX2__)
#define VECTOR 32
#else
#define VECTOR 16
#endif

namespace {

typedef float floats __attribute__((vector_size(VECTOR)));
typedef double doubles __attribute__((vector_size(VECTOR)));
template <class A> struct Wide;
template <> struct Wide<float> { using type = floats; };
template <> struct Wide<double> { using type = doubles; };

template <class V> struct Loaded {  // V is a vector
    static V from(const void* p) {
        V values;
        memcpy(&values, p, sizeof(V));
        return values;
    }
};
template <class V, class T> inline V load_as(const T* p) {
    if constexpr (sizeof(V) <= sizeof(double) && VECTOR > sizeof(V)) return load(p);
    else return Loaded<V>::from(p);
}
template <> inline floats load_as<floats, bf16>(const bf16* p) {
    typedef uint16_t halves __attribute__((vector_size(VECTOR / 2)));
    typedef uint32_t words __attribute__((vector_size(VECTOR)));
    return floats(__builtin_convertvector(Loaded<halves>::from(p), words) << 16);
}
template <class A, class V> inline void put(A* p, V values) { memcpy(p, &values, sizeof(V)); }

// Past the caches: what is written now is read again much later, and need not be read before it is overwritten.
template <class V> inline void stream(void* p, V values) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64) return _mm512_stream_si512(static_cast<__m512i*>(p), __m512i(values));
#endif
#if defined(__AVX__)
    if constexpr (sizeof(V) == 32) return _mm256_stream_si256(static_cast<__m256i*>(p), __m256i(values));
#endif
#if defined(__SSE2__)
    if constexpr (sizeof(V) == 16) return _mm_stream_si128(static_cast<__m128i*>(p), __m128i(values));
#endif
    memcpy(p, &values, sizeof(V));
}
template <bool STREAMING, class T, class V> inline void write(T* p, V values) {
    if constexpr (sizeof(V) <= sizeof(double) && VECTOR > sizeof(V)) {
        store(p, values);
    } else if constexpr (sizeof(T) == 2) {
        typedef uint16_t halves __attribute__((vector_size(VECTOR / 2)));
        typedef uint32_t words __attribute__((vector_size(VECTOR)));
        words bits = words(values), rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        rounded = values == values ? rounded : words{} + 0x7fc0;
        halves narrow = __builtin_convertvector(rounded, halves);
        if constexpr (STREAMING) stream(p, narrow);
        else put(p, narrow);
    } else {
        if constexpr (STREAMING) stream(p, values);
        else put(p, values);
    }
}
// What was written past the caches is in its place.
inline void streamed() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

// a b + c, rounded once where the processor can.
inline float fused(float a, float b, float c) { return a * b + c; }
inline double fused(double a, double b, double c) { return a * b + c; }
#if defined(__AVX512F__)
inline floats fused(floats a, floats b, floats c) { return floats(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }
inline doubles fused(doubles a, doubles b, doubles c) {
    return doubles(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c)));
}
#elif defined(__AVX2__) && defined(__FMA__)
inline floats fused(floats a, floats b, floats c) { return floats(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }
inline doubles fused(doubles a, doubles b, doubles c) {
    return doubles(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c)));
}
#else
inline floats fused(floats a, floats b, floats c) { return a * b + c; }
inline doubles fused(doubles a, doubles b, doubles c) { return a * b + c; }
#endif

}  // namespace
