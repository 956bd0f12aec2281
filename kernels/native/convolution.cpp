// A convolution goes over its tiles in spans. In each, the tiles of all channels are transformed, and
// then multiplied and transformed back, some outputs at a time. Where there are many spans a thread
// does one alone; otherwise each of the two halves is divided into tasks for all. Every sum is formed
// whole by one task and in one order, so that how the work is divided changes no bit.
#include "convolution.h"

#include <algorithm>
#include <atomic>

#include "system/memory.h"
#include "plane.h"
#include "system/threads.h"

namespace d2k {
namespace {

// About so many tiles make a span, and so many outputs a task: its sums stay in L2, with the weights
// that they need.
constexpr int64_t kSpanTiles = 96;
constexpr int64_t kSumOuts = 32;
constexpr int64_t kInputChannels = 16;             // Channels of a task of the first half.
constexpr int64_t kKeptFloats = int64_t{4} << 20;  // Scratch beyond this goes back after a span.
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
  std::atomic<bool> failed{false};

  int64_t count() const { return end - begin; }
  int64_t groups() const { return (count() + kTiles - 1) / kTiles; }
  int64_t plane_stride() const { return convolution.ins * groups() * kTiles * 8; }

  int64_t strip_stride() const {
    return up(std::min(plane.tiles_across, count()) * kStep + 2, 16) + kSlack;
  }

  void transform(int64_t task);
  void multiply(int64_t task);
  void write(const float* sums, int64_t first_out, int64_t last_out);
};

void Span::transform(int64_t task) {
  const int64_t stride = strip_stride();
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
    Piece pieces[kMostPieces];
    const int64_t found = find_pieces(plane, run.plane, top, kWindow, left,
                                      left + run.count * kStep + 2, pieces);
    for (int64_t channel = task * kInputChannels; channel < last; ++channel) {
      for (const Piece* piece = pieces; piece < pieces + found; ++piece) {
        const float* rows[kWindow];
        for (int64_t y = 0; y < kWindow; ++y)
          rows[y] = piece->image[y] < 0 ? nullptr
                                        : images + (piece->image[y] * ins + channel) * size +
                                              piece->offset[y];
        convolution.steps.input_rows(rows, strip + piece->at, stride, piece->width,
                                     channel + 1 < last ? size : 0);
      }
      const int64_t block = channel / kChannels * kChannels;
      const int64_t deep = std::min(kChannels, ins - block);
      float* const to = tiles + block * groups() * kTiles * 8 + (channel - block) * kTiles * 8;
      convolution.steps.input_tiles(strip, stride, run.count, to, run.first, deep * kTiles * 8,
                                    plane_stride());
    }
  });
}

void Span::multiply(int64_t task) {
  const int64_t outs = padded_outs(convolution.outs), ins = convolution.ins;
  const int64_t first_out = task * kSumOuts;
  const int64_t last_out = std::min(outs, first_out + kSumOuts);
  const int64_t out_groups = (last_out - first_out) / kOuts;
  constexpr int64_t kSums = kTiles * kOuts * 8;
  const int64_t sums_stride = groups() * out_groups * kSums;
  float* const sums = sums_of_task.get(kWindow * sums_stride);
  if (!sums) {
    failed = true;
    return;
  }
  const auto deep = [ins](int64_t block) { return std::min(kChannels, ins - block); };
  const auto weights_of = [&](int64_t of, int64_t block) {
    return convolution.weights + (of * ins + block) * outs * 8 + first_out * deep(block) * 8;
  };
  const auto tiles_of = [&](int64_t of, int64_t block) {
    return tiles + of * plane_stride() + block * groups() * kTiles * 8;
  };
  for (int64_t of = 0; of < kWindow; ++of) {
    for (int64_t block = 0; block < ins; block += kChannels) {
      const bool last = block + kChannels >= ins;
      const int64_t next_of = last ? (of + 1) % kWindow : of, next = last ? 0 : block + kChannels;
      const int64_t channels = deep(block);
      const float* const weights = weights_of(of, block);
      const float* const from = tiles_of(of, block);
      const float* next_weights = weights_of(next_of, next);
      float* to = sums + of * sums_stride;
      for (int64_t group = 0; group < groups(); ++group) {
        const float* const panel = from + group * channels * kTiles * 8;
        const float* next_panel =
            group + 1 < groups() ? panel + channels * kTiles * 8 : tiles_of(next_of, next);
        for (int64_t out = 0; out < out_groups; ++out, to += kSums) {
          convolution.steps.product(weights + out * channels * kOuts * 8, panel, to, channels,
                                    std::min(kTiles, count() - group * kTiles),
                                    block == 0, next_panel, next_weights);
          // Of the tiles all are asked for by three products, of the weights by four.
          if (out < 2) next_panel += channels * 16;
          if (group < 4) next_weights += channels * 16;
        }
      }
    }
  }
  write(sums, first_out, std::min(last_out, convolution.outs));
}

void Span::write(const float* sums, int64_t first_out, int64_t last_out) {
  const int64_t stride = strip_stride();
  float* const strip = strips.get(kWindow * stride);
  if (!strip) {
    failed = true;
    return;
  }
  constexpr int64_t kSums = kTiles * kOuts * 8;
  const int64_t out_groups = up(last_out - first_out, kOuts) / kOuts;
  const int64_t size = plane.height * plane.width;
  for_runs(plane, begin, end, [&](const Run& run) {
    const int64_t top = run.row * kStep, left = run.column * kStep;
    Piece pieces[kMostPieces];
    const int64_t found =
        find_pieces(plane, run.plane, top, kStep, left, left + run.count * kStep, pieces);
    for (int64_t out = first_out; out < last_out; ++out) {
      const int64_t of = out - first_out;
      convolution.steps.output_tiles(sums + of / kOuts * kSums + of % kOuts * 8, run.first,
                                     run.count, out_groups * kSums,
                                     groups() * out_groups * kSums, strip, stride);
      const float bias = convolution.bias ? convolution.bias[out] : 0.0f;
      for (const Piece* piece = pieces; piece < pieces + found; ++piece) {
        float* rows[kStep];
        for (int64_t y = 0; y < kStep; ++y)
          rows[y] = piece->image[y] < 0
                        ? nullptr
                        : result + (piece->image[y] * convolution.outs + out) * size +
                              piece->offset[y];
        convolution.steps.output_rows(strip + piece->at, stride, rows, piece->width, bias,
                                      convolution.relu, out + 1 < last_out ? size : 0);
      }
    }
  });
}

// Spans of a convolution. A thread does one alone where there are enough; otherwise all do each.
struct Spans {
  const Convolution& convolution;
  const Plane& plane;
  const float* images;
  float* result;
  int64_t length;
  int threads;  // Of a span.
  std::atomic<bool> failed{false};

  void run(int64_t number) {
    const int64_t begin = number * length;
    const int64_t floats = length * kWindow * kWindow * convolution.ins;
    float* const tiles = tiles_of_span.get(floats);
    if (!tiles) {
      failed = true;
      return;
    }
    Span span{convolution, plane, images, result, tiles, begin,
              std::min(begin + length, plane.tiles())};
    const int64_t of_outs = up(convolution.outs, kSumOuts) / kSumOuts;
    run_tasks(up(convolution.ins, kInputChannels) / kInputChannels, threads,
              [](void* data, int64_t task) { static_cast<Span*>(data)->transform(task); }, &span);
    if (!span.failed)
      run_tasks(of_outs, threads,
                [](void* data, int64_t task) { static_cast<Span*>(data)->multiply(task); }, &span);
    if (span.failed) failed = true;
    if (floats > kKeptFloats) tiles_of_span.release();
  }
};

}  // namespace

bool Convolution::operator()(const float* images, float* result, int64_t count, int64_t height,
                             int64_t width, int threads) const {
  const Plane plane(count, height, width);
  const int64_t tiles = plane.tiles();
  const int64_t wanted = std::max<int64_t>(1, (tiles + kSpanTiles / 2) / kSpanTiles);
  const int64_t length = up((tiles + wanted - 1) / wanted, kTiles);
  const int64_t there = (tiles + length - 1) / length;
  Spans spans{*this, plane, images, result, length, 1};
  if (there % threads == 0 || there >= 4 * threads) {
    run_tasks(there, threads,
              [](void* data, int64_t task) { static_cast<Spans*>(data)->run(task); }, &spans);
  } else {
    spans.threads = threads;
    for (int64_t at = 0; at < there; ++at) spans.run(at);
  }
  return !spans.failed;
}

}  // namespace d2k
