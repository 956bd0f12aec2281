// The steps in AVX2 and FMA.
#include "../pointwise.h"
#include "../winograd.h"

#if defined(__AVX2__) && defined(__FMA__)

#include "pointwise_steps.h"
#include "roi_align_avx.h"
#include "rows_avx.h"
#include "tiles_avx.h"

namespace d2k {
namespace {

struct Vectors : Vector8 {
  using Vector = __m256;
  using All = Whole;
  static constexpr int64_t width = 8, outs = 4;

  static Vector load(const float* from, Whole) { return _mm256_loadu_ps(from); }
  static Vector load(const float* from, __m256i mask) { return _mm256_maskload_ps(from, mask); }
  static void store(float* to, Vector value, Whole) { _mm256_storeu_ps(to, value); }
  static void store(float* to, Vector value, __m256i mask) { _mm256_maskstore_ps(to, mask, value); }
  static __m256i mask(int64_t columns) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(columns)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static void ask_for(const float* line) {
    _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T1);
  }
  // The second operand is the answer if one is NaN.
  static Vector relu(Vector value) { return _mm256_max_ps(_mm256_setzero_ps(), value); }
};

// 4 outputs and N tiles: at most 12 of the 16 registers are sums.
template <int N>
void product_of(const float* weights, const float* tiles, float* sums, int64_t channels,
                bool first, const float* next_tiles, const float* next_weights) {
  __m256 sum[4][N];
#pragma GCC unroll 8
  for (int out = 0; out < 4; ++out)
#pragma GCC unroll 8
    for (int tile = 0; tile < N; ++tile) sum[out][tile] = _mm256_setzero_ps();
  for (int64_t c = 0; c < channels; ++c) {
    __m256 tile_of[N];
#pragma GCC unroll 8
    for (int tile = 0; tile < N; ++tile) tile_of[tile] = _mm256_loadu_ps(tiles + tile * 8);
#pragma GCC unroll 8
    for (int out = 0; out < 4; ++out) {
      const __m256 weight = _mm256_loadu_ps(weights + out * 8);
#pragma GCC unroll 8
      for (int tile = 0; tile < N; ++tile)
        sum[out][tile] = _mm256_fmadd_ps(weight, tile_of[tile], sum[out][tile]);
    }
    if (c % 4 == 0) {
      Vectors::ask_for(next_tiles + c * 4);
      Vectors::ask_for(next_weights + c * 4);
    }
    weights += kOuts * 8;
    tiles += kTiles * 8;
  }
#pragma GCC unroll 8
  for (int out = 0; out < 4; ++out) {
#pragma GCC unroll 8
    for (int tile = 0; tile < N; ++tile) {
      float* const to = sums + (tile * kOuts + out) * 8;
      if (!first) sum[out][tile] = _mm256_loadu_ps(to) + sum[out][tile];
      _mm256_storeu_ps(to, sum[out][tile]);
    }
  }
}

void product(const float* weights, const float* tiles, float* sums, int64_t channels, int64_t count,
             bool first, const float* next_tiles, const float* next_weights) {
  constexpr int64_t kTogether = 3;
  for (int64_t out = 0; out < kOuts; out += 4) {
    for (int64_t tile = 0; tile < count; tile += kTogether) {
      const float* const w = weights + out * 8;
      const float* const t = tiles + tile * 8;
      // Each of the four asks for a quarter.
      float* const to = sums + (tile * kOuts + out) * 8;
      if (count - tile >= 3) product_of<3>(w, t, to, channels, first, next_tiles, next_weights);
      else if (count - tile == 2) product_of<2>(w, t, to, channels, first, next_tiles, next_weights);
      else product_of<1>(w, t, to, channels, first, next_tiles, next_weights);
    }
  }
}

}  // namespace

const Steps* avx2_steps() {
  static const Steps steps = {input_rows<Vectors>, input_tiles, product, output_tiles,
                              output_rows<Vectors>, align_roi<Vectors>};
  return &steps;
}

const PointwiseSteps* avx2_pointwise() { return &pointwise_steps<Vectors>; }

}  // namespace d2k

#else

const d2k::Steps* d2k::avx2_steps() { return nullptr; }
const d2k::PointwiseSteps* d2k::avx2_pointwise() { return nullptr; }

#endif
