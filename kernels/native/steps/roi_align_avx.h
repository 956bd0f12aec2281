// RoiAlign of one channel, over vectors as wide as V, for AVX2 and AVX-512 alike.
#pragma once

#include <algorithm>

#include "rows_avx.h"
#include "tiles_avx.h"
#include "../roi_align.h"

namespace d2k {
namespace {

inline __m256i lanes_mask(int64_t lanes) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(lanes)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// N rows of bins from their sums along columns of pixels.
template <int N>
void sum_columns(const float* rows, int64_t stride, const float* weights, int64_t count, float* to,
                 int64_t to_stride, __m256i lanes) {
  const Vector8 v;
  __m256 sum[N];
#pragma GCC unroll 8
  for (int row = 0; row < N; ++row) sum[row] = v.set(0.0f);
  for (int64_t x = 0; x < count; ++x) {
    const __m256 weight = _mm256_loadu_ps(weights + x * kLanes);
#pragma GCC unroll 8
    for (int row = 0; row < N; ++row)
      sum[row] = v.fma(v.set(rows[row * stride + x]), weight, sum[row]);
  }
#pragma GCC unroll 8
  for (int row = 0; row < N; ++row) _mm256_maskstore_ps(to + row * to_stride, lanes, sum[row]);
}

template <typename V>
void align_roi(const float* plane, int64_t plane_width, const RoiWeights& roi, const Bins& bins,
               float* scratch, float* result) {
  using Vector = typename V::Vector;
  const V v;
  const int64_t stride = row_stride(roi.width);
  for (int64_t y = 0; y < bins.height; ++y) {
    const Band& band = roi.rows[y];
    const float* const weights = roi.row_weights + band.weights;
    const float* const from = plane + band.first * plane_width + roi.left;
    const auto step = [&](int64_t x, const auto& mask) {
      Vector sum = v.set(0.0f);
      for (int64_t i = 0; i < band.count; ++i)
        sum = v.fma(v.set(weights[i]), V::load(from + i * plane_width + x, mask), sum);
      V::store(scratch + y * stride + x, sum, Whole{});
    };
    int64_t x = 0;
    for (; x + V::width <= roi.width; x += V::width) step(x, Whole{});
    if (x < roi.width) step(x, V::mask(roi.width - x));
  }
  constexpr int kTogether = 7;  // As many rows of bins as boxes have, or half as many.
  for (int64_t group = 0; group < bins.groups(); ++group) {
    const Band& band = roi.columns[group];
    const float* const weights = roi.column_weights + band.weights;
    const float* const from = scratch + band.first - roi.left;
    float* const to = result + group * kLanes;
    const __m256i lanes = lanes_mask(std::min(kLanes, bins.width - group * kLanes));
    int64_t y = 0;
    for (; y + kTogether <= bins.height; y += kTogether)
      sum_columns<kTogether>(from + y * stride, stride, weights, band.count, to + y * bins.width,
                             bins.width, lanes);
    for (; y < bins.height; ++y)
      sum_columns<1>(from + y * stride, stride, weights, band.count, to + y * bins.width,
                     bins.width, lanes);
  }
}

}  // namespace
}  // namespace d2k
