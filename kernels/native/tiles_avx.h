// The transforms of single tiles in vectors of eight, for AVX2 and AVX-512 alike.
//
// A tile is turned as two halves of four columns. A vector holds four columns of row y, and of row
// y + 4 in its upper half, so that turning never crosses the halves.
#pragma once

#include <immintrin.h>

#include "transforms.h"
#include "winograd.h"

namespace d2k {
namespace {

struct Vector8 {
  __m256 set(float value) const { return _mm256_set1_ps(value); }
  __m256 fma(__m256 a, __m256 b, __m256 c) const { return _mm256_fmadd_ps(a, b, c); }
};

// Rows of four, in each half -> columns of four.
inline void turn(__m256 a, __m256 b, __m256 c, __m256 d, __m256* to) {
  const __m256d low_ab = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
  const __m256d low_cd = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
  const __m256d high_ab = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
  const __m256d high_cd = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
  to[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(low_ab, low_cd));
  to[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low_ab, low_cd));
  to[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high_ab, high_cd));
  to[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high_ab, high_cd));
}

inline __m256 halves(const float* low, const float* high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}

void input_tiles(const float* strip, int64_t stride, int64_t count, float* tiles, int64_t first,
                 int64_t group_stride, int64_t plane_stride) {
  int64_t within = first % kTiles;
  float* to = tiles + first / kTiles * group_stride + within * 8;
  for (int64_t i = 0; i < count; ++i, strip += kStep) {
    __m256 columns[8];
    for (int64_t x = 0; x < 8; x += 4) {
      const float* const from = strip + x;
      turn(halves(from, from + 4 * stride), halves(from + stride, from + 5 * stride),
           halves(from + 2 * stride, from + 6 * stride),
           halves(from + 3 * stride, from + 7 * stride), columns + x);
    }
    const auto done = input_transform(columns, Vector8{});
    for (int64_t x = 0; x < 8; ++x) _mm256_storeu_ps(to + x * plane_stride, done.at[x]);
    to += 8;
    if (++within == kTiles) {
      within = 0;
      to += group_stride - kTiles * 8;
    }
  }
}

inline void store_halves(__m256 value, float* low, float* high) {
  _mm_storeu_ps(low, _mm256_castps256_ps128(value));
  _mm_storeu_ps(high, _mm256_extractf128_ps(value, 1));
}

inline void store_pairs(__m128 value, float* low, float* high) {
  _mm_storel_pi(reinterpret_cast<__m64*>(low), value);
  _mm_storeh_pi(reinterpret_cast<__m64*>(high), value);
}

void output_tiles(const float* sums, int64_t first, int64_t count, int64_t group_stride,
                  int64_t plane_stride, float* strip, int64_t stride) {
  int64_t within = first % kTiles;
  const float* from = sums + first / kTiles * group_stride + within * kOuts * 8;
  for (int64_t i = 0; i < count; ++i, strip += kStep) {
    __m256 columns[8];
    for (int64_t x = 0; x < 8; ++x) columns[x] = _mm256_loadu_ps(from + x * plane_stride);
    const auto done = output_transform(columns, Vector8{});
    __m256 rows[4];
    turn(done.at[0], done.at[1], done.at[2], done.at[3], rows);
    for (int64_t y = 0; y < 4; ++y)
      store_halves(rows[y], strip + y * stride, strip + (y + 4) * stride);
    const __m256 even = _mm256_unpacklo_ps(done.at[4], done.at[5]);
    const __m256 odd = _mm256_unpackhi_ps(done.at[4], done.at[5]);
    float* const last = strip + 4;
    store_pairs(_mm256_castps256_ps128(even), last, last + stride);
    store_pairs(_mm256_castps256_ps128(odd), last + 2 * stride, last + 3 * stride);
    store_pairs(_mm256_extractf128_ps(even, 1), last + 4 * stride, last + 5 * stride);
    store_pairs(_mm256_extractf128_ps(odd, 1), last + 6 * stride, last + 7 * stride);
    from += kOuts * 8;
    if (++within == kTiles) {
      within = 0;
      from += group_stride - kTiles * kOuts * 8;
    }
  }
}

}  // namespace
}  // namespace d2k
