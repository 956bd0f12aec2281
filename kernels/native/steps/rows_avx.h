// The transforms along columns, over vectors as wide as V, which has width, what transforms.h needs,
// and load and store, each whole or with a mask for the last columns.
#pragma once

#include "transforms.h"
#include "../winograd.h"

namespace d2k {
namespace {

struct Whole {};

template <typename V>
void input_rows(const float* const* rows, float* strip, int64_t stride, int64_t width,
                int64_t ahead) {
  using Vector = typename V::Vector;
  const V v;
  const auto step = [&](int64_t x, const auto& mask) {
    Vector column[8];
    for (int64_t y = 0; y < 8; ++y) {
      column[y] = rows[y] ? V::load(rows[y] + x, mask) : v.set(0.0f);
      if (rows[y]) V::ask_for(rows[y] + x + ahead);
    }
    const auto done = input_transform(column, v);
    for (int64_t y = 0; y < 8; ++y) V::store(strip + y * stride + x, done.at[y], mask);
  };
  int64_t x = 0;
  for (; x + V::width <= width; x += V::width) step(x, Whole{});
  if (x < width) step(x, V::mask(width - x));
}

template <typename V>
void output_rows(const float* strip, int64_t stride, float* const* rows, int64_t width, float bias,
                 bool relu, int64_t ahead) {
  using Vector = typename V::Vector;
  const V v;
  const Vector shift = v.set(bias);
  const auto step = [&](int64_t x, const auto& mask) {
    Vector column[8];
    for (int64_t y = 0; y < 8; ++y) column[y] = V::load(strip + y * stride + x, Whole{});
    const auto done = output_transform(column, v);
    for (int64_t y = 0; y < kStep; ++y) {
      const Vector value = done.at[y] + shift;
      if (!rows[y]) continue;
      V::store(rows[y] + x, relu ? V::relu(value) : value, mask);
      V::ask_for(rows[y] + x + ahead);
    }
  };
  int64_t x = 0;
  for (; x + V::width <= width; x += V::width) step(x, Whole{});
  if (x < width) step(x, V::mask(width - x));
}

}  // namespace
}  // namespace d2k
