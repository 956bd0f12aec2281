// A convolution goes over its tiles in spans. In each, the tiles of all channels are transformed, and
// then multiplied and transformed back, some tiles and some outputs at a time. Each of these two is
// divided into tasks for threads. Every sum is formed whole by one task and in one order, so that how
// the work is divided changes no bit.
#include "convolution.h"

#include <algorithm>
#include <atomic>

#include "memory.h"
#include "plane.h"
#include "threads.h"

namespace d2k {
namespace {

constexpr int64_t kSpanFloats = int64_t{4} << 20;  // Most that a span's tiles take: 16 MiB.
constexpr int64_t kSumTiles = 96;                  // Tiles and outputs of a task: its sums stay in
constexpr int64_t kSumOuts = 32;                   // L2, with the weights that they need.
constexpr int64_t kInputChannels = 16;             // Channels of a task of the first half.
constexpr int64_t kKeptFloats = int64_t{16} << 20; // Scratch beyond this goes back after a call.
constexpr int64_t kSlack = 16;                     // A vector may be read beyond a strip's end.

thread_local Scratch strips, sums_of_task, tiles_of_span;

int64_t up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

struct Span {
  const Convolution& convolution;
  const Plane& plane;
  const float* images;
  float* result;
  float* tiles;
  int64_t begin, end;  // Tiles.
  int64_t sum_tiles, sum_outs;
  std::atomic<bool> failed{false};

  int64_t count() const { return end - begin; }
  int64_t groups() const { return (count() + kTiles - 1) / kTiles; }
  int64_t plane_stride() const { return convolution.ins * groups() * kTiles * 8; }

  void transform(int64_t task);
  void multiply(int64_t task);
  void write(const float* sums, int64_t first_tile, int64_t last_tile, int64_t first_out,
             int64_t last_out);
};

void Span::transform(int64_t task) {
  const int64_t stride = up(plane.tiles_across * kStep + 2, 16) + kSlack;
  float* const strip = strips.get(kWindow * stride);
  if (!strip) {
    failed = true;
    return;
  }
  const int64_t ins = convolution.ins, size = plane.height * plane.width;
  const int64_t last = std::min(ins, (task + 1) * kInputChannels);
  for_runs(plane, begin, end, [&](const Run& run) {
    std::fill(strip, strip + kWindow * stride, 0.0f);
    const int64_t top = run.row * kStep - 1, left = run.column * kStep - 1;
    const int64_t right = left + run.count * kStep + 2;
    for (int64_t channel = task * kInputChannels; channel < last; ++channel) {
      for_columns(plane, left, right, [&](int64_t i, int64_t from, int64_t width, int64_t at) {
        const float* rows[kWindow];
        for (int64_t y = 0; y < kWindow; ++y) {
          const Place found = place(plane, run.plane, i, top + y);
          rows[y] = found.image < 0 ? nullptr
                                    : images + (found.image * ins + channel) * size +
                                          found.row * plane.width + from;
        }
        convolution.steps.input_rows(rows, strip + at, stride, width);
      });
      const int64_t block = channel / kChannels * kChannels;
      const int64_t deep = std::min(kChannels, ins - block);
      float* const to = tiles + block * groups() * kTiles * 8 + (channel - block) * kTiles * 8;
      convolution.steps.input_tiles(strip, stride, run.count, to, run.first, deep * kTiles * 8,
                                    plane_stride());
    }
  });
}

void Span::multiply(int64_t task) {
  const int64_t parts = up(count(), sum_tiles) / sum_tiles;
  const int64_t outs = padded_outs(convolution.outs), ins = convolution.ins;
  const int64_t first_tile = task % parts * sum_tiles;
  const int64_t last_tile = std::min(count(), first_tile + sum_tiles);
  const int64_t first_out = task / parts * sum_outs;
  const int64_t last_out = std::min(outs, first_out + sum_outs);
  const int64_t sum_groups = up(last_tile - first_tile, kTiles) / kTiles;
  const int64_t out_groups = (last_out - first_out) / kOuts;
  constexpr int64_t kSums = kTiles * kOuts * 8;
  float* const sums = sums_of_task.get(kWindow * sum_groups * out_groups * kSums);
  if (!sums) {
    failed = true;
    return;
  }
  for (int64_t of = 0; of < kWindow; ++of) {
    for (int64_t block = 0; block < ins; block += kChannels) {
      const int64_t deep = std::min(kChannels, ins - block);
      const float* const weights =
          convolution.weights + (of * ins + block) * outs * 8 + first_out * deep * 8;
      const float* const from = tiles + of * plane_stride() + block * groups() * kTiles * 8 +
                                first_tile / kTiles * deep * kTiles * 8;
      float* to = sums + of * sum_groups * out_groups * kSums;
      for (int64_t group = 0; group < sum_groups; ++group)
        for (int64_t out = 0; out < out_groups; ++out, to += kSums)
          convolution.steps.product(
              weights + out * deep * kOuts * 8, from + group * deep * kTiles * 8, to, deep,
              std::min(kTiles, last_tile - first_tile - group * kTiles), block == 0);
    }
  }
  write(sums, first_tile, last_tile, first_out, std::min(last_out, convolution.outs));
}

void Span::write(const float* sums, int64_t first_tile, int64_t last_tile, int64_t first_out,
                 int64_t last_out) {
  const int64_t stride = up(plane.tiles_across * kStep + 2, 16) + kSlack;
  float* const strip = strips.get(kWindow * stride);
  if (!strip) {
    failed = true;
    return;
  }
  constexpr int64_t kSums = kTiles * kOuts * 8;
  const int64_t sum_groups = up(last_tile - first_tile, kTiles) / kTiles;
  const int64_t out_groups = up(last_out - first_out, kOuts) / kOuts;
  const int64_t size = plane.height * plane.width;
  for_runs(plane, begin + first_tile, begin + last_tile, [&](const Run& run) {
    const int64_t top = run.row * kStep, left = run.column * kStep;
    for (int64_t out = first_out; out < last_out; ++out) {
      const int64_t of = out - first_out;
      convolution.steps.output_tiles(sums + of / kOuts * kSums + of % kOuts * 8, run.first,
                                     run.count, out_groups * kSums,
                                     sum_groups * out_groups * kSums, strip, stride);
      const float bias = convolution.bias ? convolution.bias[out] : 0.0f;
      for_columns(plane, left, left + run.count * kStep,
                  [&](int64_t i, int64_t from, int64_t width, int64_t at) {
                    float* rows[kStep];
                    for (int64_t y = 0; y < kStep; ++y) {
                      const Place found = place(plane, run.plane, i, top + y);
                      rows[y] = found.image < 0
                                    ? nullptr
                                    : result + (found.image * convolution.outs + out) * size +
                                          found.row * plane.width + from;
                    }
                    convolution.steps.output_rows(strip + at, stride, rows, width, bias,
                                                  convolution.relu);
                  });
    }
  });
}

}  // namespace

bool Convolution::operator()(const float* images, float* result, int64_t count, int64_t height,
                             int64_t width, int threads) const {
  const Plane plane(count, height, width);
  const int64_t each = kWindow * kWindow * ins;
  const int64_t most = std::max(kSumTiles, kSpanFloats / each / kSumTiles * kSumTiles);
  const int64_t longest = std::min(most, up(plane.tiles(), kTiles));
  float* const tiles = tiles_of_span.get(longest * each);
  if (!tiles) return false;
  for (int64_t begin = 0; begin < plane.tiles(); begin += most) {
    Span span{*this,     plane, images, result, tiles, begin, std::min(begin + most, plane.tiles()),
              kSumTiles, kSumOuts};
    const int64_t of_tiles = up(span.count(), span.sum_tiles) / span.sum_tiles;
    const int64_t of_outs = up(outs, span.sum_outs) / span.sum_outs;
    run_tasks(up(ins, kInputChannels) / kInputChannels, threads,
              [](void* data, int64_t task) { static_cast<Span*>(data)->transform(task); }, &span);
    if (span.failed) return false;
    run_tasks(of_tiles * of_outs, threads,
              [](void* data, int64_t task) { static_cast<Span*>(data)->multiply(task); }, &span);
    if (span.failed) return false;
  }
  if (longest * each > kKeptFloats) tiles_of_span.release();
  return true;
}

}  // namespace d2k
