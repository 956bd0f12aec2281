// The steps of a 1x1 convolution over vectors as wide as V, which has what rows_avx.h needs, and says
// in `outs` of how many outputs it forms the sums of three vectors at once.
#pragma once

#include "../pointwise.h"

namespace d2k {
namespace {

constexpr int64_t kVectors = 3;  // Beside each other in a product.
constexpr int64_t kLines = kPanel / 16 + 1;  // Of the cache, in which an output's part of a panel is.

void take(const float* from, int64_t stride, float* to, int64_t count) {
  if (stride == 1) {
    for (int64_t x = 0; x < count; ++x) to[x] = from[x];
  } else {
    for (int64_t x = 0; x < count; ++x) to[x] = from[2 * x];
  }
}

void spread(const float* from, bool from_half, float* to, int64_t count) {
  if (from_half) *to++ = *from++, --count;
  for (int64_t x = 0; x < count / 2; ++x) to[2 * x] = to[2 * x + 1] = from[x];
  if (count % 2) to[count - 1] = from[count / 2];
}

template <typename V>
void pack(const float* from, int64_t count, float* panels, int64_t panel_stride) {
  for (; count >= kPanel; count -= kPanel, from += kPanel, panels += panel_stride)
    for (int64_t x = 0; x < kPanel; x += V::width)
      V::store(panels + x, V::load(from + x, typename V::All{}), typename V::All{});
  for (int64_t x = 0; x < count; x += V::width) {
    const bool is_whole = count - x >= V::width;
    const auto value = is_whole ? V::load(from + x, typename V::All{})
                                : V::load(from + x, V::mask(count - x));
    V::store(panels + x, value, typename V::All{});
  }
}

template <typename V, int N>
void product_of(const float* const* weights, const float* panel, int64_t channels, const Sums& sums,
                int64_t out, int64_t x, int64_t ahead) {
  using Vector = typename V::Vector;
  constexpr int kOut = V::outs;
  const V v;
  const int64_t asked = sums.last && x == 0 ? kOut * kLines : 0;
  const float* rows[kOut];
  Vector sum[kOut][N];
#pragma GCC unroll 8
  for (int i = 0; i < kOut; ++i) {
    rows[i] = weights[out + i];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) sum[i][n] = v.set(0.0f);
  }
  panel += x;
  for (int64_t c = 0; c < channels; ++c, panel += kPanel) {
    Vector pixels[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) pixels[n] = V::load(panel + n * V::width, typename V::All{});
#pragma GCC unroll 8
    for (int i = 0; i < kOut; ++i) {
      const Vector weight = v.set(rows[i][c]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[i][n] = v.fma(weight, pixels[n], sum[i][n]);
    }
    if (c < asked) {
      const int64_t at = c / kLines * sums.stride + c % kLines * 16;
      V::ask_for(sums.next_result + out * sums.stride + at);
      if (sums.next_residual) V::ask_for(sums.next_residual + out * sums.stride + at);
    }
    if (c % 16 == 0) {
#pragma GCC unroll 8
      for (int i = 0; i < kOut; ++i) V::ask_for(rows[i] + ahead + c);
    }
  }
  const int64_t there = sums.pixels - x;
#pragma GCC unroll 8
  for (int i = 0; i < kOut; ++i) {
    const int64_t row = out + i;
    const float bias = sums.last && sums.bias && row < sums.outs ? sums.bias[row] : 0.0f;
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      float* const waiting = sums.waiting + row * kPanel + x + n * V::width;
      Vector value = sum[i][n];
      if (!sums.first) value = V::load(waiting, typename V::All{}) + value;
      if (!sums.last) {
        V::store(waiting, value, typename V::All{});
        continue;
      }
      if (row >= sums.outs) continue;
      const int64_t at = x + n * V::width;
      const auto finish = [&](const auto& mask) {
        if (sums.bias) value = value + v.set(bias);
        if (sums.residual)
          value = value + V::load(sums.residual + row * sums.residual_stride + at, mask);
        V::store(sums.result + row * sums.stride + at, sums.relu ? V::relu(value) : value, mask);
      };
      if (there - n * V::width >= V::width) finish(typename V::All{});
      else finish(V::mask(there - n * V::width));
    }
  }
}

template <typename V>
void product(const float* const* weights, const float* panel, int64_t channels, const Sums& sums,
             int64_t ahead) {
  for (int64_t out = 0; out < kRows; out += V::outs) {
    for (int64_t x = 0; x < sums.pixels; x += kVectors * V::width) {
      const int64_t vectors = (sums.pixels - x + V::width - 1) / V::width;
      const auto of = vectors >= 3   ? product_of<V, 3>
                      : vectors == 2 ? product_of<V, 2>
                                     : product_of<V, 1>;
      of(weights, panel, channels, sums, out, x, ahead);
    }
  }
}

template <typename V>
constexpr PointwiseSteps pointwise_steps = {take, spread, pack<V>, product<V>};

}  // namespace
}  // namespace d2k
