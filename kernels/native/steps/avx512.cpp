// The steps in AVX-512: F, VL, DQ and BW.
#include "../pointwise.h"
#include "../winograd.h"

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512BW__)

#include "pointwise_steps.h"
#include "roi_align_avx.h"
#include "rows_avx.h"
#include "tiles_avx.h"

namespace d2k {
namespace {

struct Vectors {
  using Vector = __m512;
  using All = Whole;
  static constexpr int64_t width = 16, outs = 8;

  Vector set(float value) const { return _mm512_set1_ps(value); }
  Vector fma(Vector a, Vector b, Vector c) const { return _mm512_fmadd_ps(a, b, c); }
  static Vector load(const float* from, Whole) { return _mm512_loadu_ps(from); }
  static Vector load(const float* from, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, from); }
  static void store(float* to, Vector value, Whole) { _mm512_storeu_ps(to, value); }
  static void store(float* to, Vector value, __mmask16 mask) {
    _mm512_mask_storeu_ps(to, mask, value);
  }
  static __mmask16 mask(int64_t columns) { return static_cast<__mmask16>((1u << columns) - 1); }
  static void ask_for(const float* line) {
    _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T1);
  }
  // The second operand is the answer if one is NaN.
  static Vector relu(Vector value) { return _mm512_max_ps(_mm512_setzero_ps(), value); }
};

// 8 outputs, two in a vector, and N tiles: at most 24 of the 32 registers are sums.
template <int N>
void product_of(const float* weights, const float* tiles, float* sums, int64_t channels,
                bool first, const float* next_tiles, const float* next_weights) {
  __m512 sum[4][N];
#pragma GCC unroll 8
  for (int pair = 0; pair < 4; ++pair)
#pragma GCC unroll 8
    for (int tile = 0; tile < N; ++tile) sum[pair][tile] = _mm512_setzero_ps();
  for (int64_t c = 0; c < channels; ++c) {
    __m512 weight[4];
#pragma GCC unroll 8
    for (int pair = 0; pair < 4; ++pair) weight[pair] = _mm512_loadu_ps(weights + pair * 16);
#pragma GCC unroll 8
    for (int tile = 0; tile < N; ++tile) {
      const __m512 both = _mm512_broadcast_f32x8(_mm256_loadu_ps(tiles + tile * 8));
#pragma GCC unroll 8
      for (int pair = 0; pair < 4; ++pair)
        sum[pair][tile] = _mm512_fmadd_ps(weight[pair], both, sum[pair][tile]);
    }
    Vectors::ask_for(next_tiles + c * 16);
    Vectors::ask_for(next_weights + c * 16);
    weights += kOuts * 8;
    tiles += kTiles * 8;
  }
#pragma GCC unroll 8
  for (int tile = 0; tile < N; ++tile) {
#pragma GCC unroll 8
    for (int pair = 0; pair < 4; ++pair) {
      float* const to = sums + tile * kOuts * 8 + pair * 16;
      if (!first) sum[pair][tile] = _mm512_loadu_ps(to) + sum[pair][tile];
      _mm512_storeu_ps(to, sum[pair][tile]);
    }
  }
}

void product(const float* weights, const float* tiles, float* sums, int64_t channels, int64_t count,
             bool first, const float* next_tiles, const float* next_weights) {
  switch (count) {
    case 6: return product_of<6>(weights, tiles, sums, channels, first, next_tiles, next_weights);
    case 5: return product_of<5>(weights, tiles, sums, channels, first, next_tiles, next_weights);
    case 4: return product_of<4>(weights, tiles, sums, channels, first, next_tiles, next_weights);
    case 3: return product_of<3>(weights, tiles, sums, channels, first, next_tiles, next_weights);
    case 2: return product_of<2>(weights, tiles, sums, channels, first, next_tiles, next_weights);
    default: return product_of<1>(weights, tiles, sums, channels, first, next_tiles, next_weights);
  }
}

}  // namespace

const Steps* avx512_steps() {
  static const Steps steps = {input_rows<Vectors>, input_tiles, product, output_tiles,
                              output_rows<Vectors>, align_roi<Vectors>};
  return &steps;
}

const PointwiseSteps* avx512_pointwise() { return &pointwise_steps<Vectors>; }

}  // namespace d2k

#else

const d2k::Steps* d2k::avx512_steps() { return nullptr; }
const d2k::PointwiseSteps* d2k::avx512_pointwise() { return nullptr; }

#endif
