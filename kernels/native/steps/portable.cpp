// The steps in plain C++: what every processor runs, and nobody should for speed.
#include <algorithm>

#include "pointwise_steps.h"
#include "transforms.h"
#include "../winograd.h"

namespace d2k {
namespace {

struct Scalar {
  float set(float value) const { return value; }
  float fma(float a, float b, float c) const { return a * b + c; }
};

// Sixteen values, which a compiler may put into vectors.
struct Several {
  float at[16];

  Several operator+(const Several& other) const {
    Several sum;
    for (int i = 0; i < 16; ++i) sum.at[i] = at[i] + other.at[i];
    return sum;
  }
};

struct Vectors {
  using Vector = Several;
  struct All {};
  static constexpr int64_t width = 16, outs = 1;

  Vector set(float value) const {
    Vector all;
    for (float& each : all.at) each = value;
    return all;
  }
  Vector fma(const Vector& a, const Vector& b, const Vector& c) const {
    Vector sum;
    for (int i = 0; i < 16; ++i) sum.at[i] = a.at[i] * b.at[i] + c.at[i];
    return sum;
  }
  static Vector load(const float* from, All) { return load(from, width); }
  static Vector load(const float* from, int64_t columns) {
    Vector all{};
    for (int64_t i = 0; i < columns; ++i) all.at[i] = from[i];
    return all;
  }
  static void store(float* to, const Vector& value, All) { store(to, value, width); }
  static void store(float* to, const Vector& value, int64_t columns) {
    for (int64_t i = 0; i < columns; ++i) to[i] = value.at[i];
  }
  static int64_t mask(int64_t columns) { return columns; }
  static Vector relu(Vector value) {
    for (float& each : value.at) each = each < 0.0f ? 0.0f : each;
    return value;
  }
  static void ask_for(const float*) {}
};

void input_rows(const float* const* rows, float* strip, int64_t stride, int64_t width,
                int64_t) {
  for (int64_t x = 0; x < width; ++x) {
    float column[8];
    for (int64_t y = 0; y < 8; ++y) column[y] = rows[y] ? rows[y][x] : 0.0f;
    const auto done = input_transform(column, Scalar{});
    for (int64_t y = 0; y < 8; ++y) strip[y * stride + x] = done.at[y];
  }
}

void input_tiles(const float* strip, int64_t stride, int64_t count, float* tiles, int64_t first,
                 int64_t group_stride, int64_t plane_stride) {
  for (int64_t i = 0; i < count; ++i, strip += kStep) {
    float* to = tiles + (first + i) / kTiles * group_stride + (first + i) % kTiles * 8;
    for (int64_t y = 0; y < 8; ++y) {
      float row[8];
      for (int64_t x = 0; x < 8; ++x) row[x] = strip[y * stride + x];
      const auto done = input_transform(row, Scalar{});
      for (int64_t x = 0; x < 8; ++x) to[x * plane_stride + y] = done.at[x];
    }
  }
}

void product(const float* weights, const float* tiles, float* sums, int64_t channels, int64_t count,
             bool first, const float*, const float*) {
  for (int64_t tile = 0; tile < count; ++tile) {
    float sum[kOuts * 8] = {};
    for (int64_t c = 0; c < channels; ++c) {
      const float* w = weights + c * kOuts * 8;
      const float* v = tiles + (c * kTiles + tile) * 8;
      for (int64_t out = 0; out < kOuts; ++out)
        for (int64_t k = 0; k < 8; ++k) sum[out * 8 + k] += w[out * 8 + k] * v[k];
    }
    float* to = sums + tile * kOuts * 8;
    for (int64_t k = 0; k < kOuts * 8; ++k) to[k] = first ? sum[k] : to[k] + sum[k];
  }
}

void output_tiles(const float* sums, int64_t first, int64_t count, int64_t group_stride,
                  int64_t plane_stride, float* strip, int64_t stride) {
  for (int64_t i = 0; i < count; ++i, strip += kStep) {
    const float* from = sums + (first + i) / kTiles * group_stride + (first + i) % kTiles * kOuts * 8;
    for (int64_t y = 0; y < 8; ++y) {
      float row[8];
      for (int64_t x = 0; x < 8; ++x) row[x] = from[x * plane_stride + y];
      const auto done = output_transform(row, Scalar{});
      for (int64_t x = 0; x < 8; ++x) strip[y * stride + x] = done.at[x];
    }
  }
}

void output_rows(const float* strip, int64_t stride, float* const* rows, int64_t width, float bias,
                 bool relu, int64_t) {
  for (int64_t x = 0; x < width; ++x) {
    float column[8];
    for (int64_t y = 0; y < 8; ++y) column[y] = strip[y * stride + x];
    const auto done = output_transform(column, Scalar{});
    for (int64_t y = 0; y < kStep; ++y) {
      if (!rows[y]) continue;
      const float value = done.at[y] + bias;
      rows[y][x] = relu && value < 0.0f ? 0.0f : value;
    }
  }
}

void align_roi(const float* plane, int64_t plane_width, const RoiWeights& roi, const Bins& bins,
               float* scratch, float* result) {
  const int64_t stride = row_stride(roi.width);
  for (int64_t y = 0; y < bins.height; ++y) {
    const Band& band = roi.rows[y];
    float* const sums = scratch + y * stride;
    std::fill(sums, sums + roi.width, 0.0f);
    for (int64_t i = 0; i < band.count; ++i) {
      const float weight = roi.row_weights[band.weights + i];
      const float* const from = plane + (band.first + i) * plane_width + roi.left;
      for (int64_t x = 0; x < roi.width; ++x) sums[x] += weight * from[x];
    }
    for (int64_t group = 0; group < bins.groups(); ++group) {
      const Band& columns = roi.columns[group];
      float sum[kLanes] = {};
      for (int64_t i = 0; i < columns.count; ++i)
        for (int64_t lane = 0; lane < kLanes; ++lane)
          sum[lane] += sums[columns.first - roi.left + i] *
                       roi.column_weights[columns.weights + i * kLanes + lane];
      const int64_t lanes = std::min(kLanes, bins.width - group * kLanes);
      std::copy(sum, sum + lanes, result + y * bins.width + group * kLanes);
    }
  }
}

}  // namespace

const Steps& portable_steps() {
  static const Steps steps = {input_rows,   input_tiles, product,
                              output_tiles, output_rows, align_roi};
  return steps;
}

const PointwiseSteps& portable_pointwise() { return pointwise_steps<Vectors>; }

}  // namespace d2k
