// A 1x1 convolution goes over the pixels of each image in chunks of some panels, and over its outputs
// in blocks. A task is one chunk and one block, and forms its sums whole and in one order, so that how
// the work is divided changes no bit.
#include "pointwise.h"

#include <algorithm>
#include <atomic>

#include "system/memory.h"
#include "system/threads.h"

namespace d2k {
namespace {

// The panels of a chunk and the sums that wait stay in L2, with the weights that they need.
constexpr int64_t kChunkPanels = 8;
constexpr int64_t kBlockOuts = 512;
constexpr int64_t kTile = kRows * kPanel;

thread_local Scratch panels_of_chunk, waiting_of_task, strip_of_task;

int64_t parts(int64_t value, int64_t of) { return (value + of - 1) / of; }

struct Place {
  int64_t panel, group;
};

struct Work {
  const Pointwise& convolution;
  const float* images;
  const float* residual;
  float* result;
  int64_t height, width;       // Of the images.
  int64_t high, wide;          // Of the results.
  int64_t chunks, length;      // Of an image, and panels of each but the last.
  int64_t blocks, block_outs;  // Of the outputs, and outputs of each but the last.
  std::atomic<bool> failed{false};

  int64_t pixels() const { return high * wide; }

  void run(int64_t task);
  void upsample(int64_t image, int64_t out, int64_t outs, int64_t first, int64_t count,
                float* to) const;
  const float* row_of(const float* channel, int64_t first, int64_t count, float* strip) const;
};

// Pixels of a channel beside each other.
const float* Work::row_of(const float* channel, int64_t first, int64_t count, float* strip) const {
  const int64_t stride = convolution.stride;
  if (stride == 1) return channel + first;
  for (int64_t at = 0; at < count;) {
    const int64_t y = (first + at) / wide, x = (first + at) % wide;
    const int64_t run = std::min(wide - x, count - at);
    convolution.steps.take(channel + y * stride * width + x * stride, stride, strip + at, run);
    at += run;
  }
  return strip;
}

// What is added to some outputs' pixels of a panel.
void Work::upsample(int64_t image, int64_t out, int64_t outs, int64_t first, int64_t count,
                    float* to) const {
  const int64_t size = pixels() / 4;
  const float* from = residual + (image * convolution.outs + out) * size;
  for (int64_t at = 0, y = first / wide, x = first % wide; at < count; ++y, x = 0) {
    const int64_t run = std::min(wide - x, count - at);
    const float* const row = from + y / 2 * (wide / 2) + x / 2;
    for (int64_t i = 0; i < outs; ++i) {
      convolution.steps.spread(row + i * size, x % 2 != 0, to + i * kPanel + at, run);
    }
    at += run;
  }
}

void Work::run(int64_t task) {
  const Pointwise& of = convolution;
  const int64_t block = task % blocks, chunk = task / blocks % chunks, image = task / blocks / chunks;
  const int64_t first_out = block * block_outs, outs = std::min(block_outs, of.outs - first_out);
  const int64_t first = chunk * length * kPanel;
  const int64_t count = std::min(length * kPanel, pixels() - first);
  const int64_t there = parts(count, kPanel), groups = parts(outs, kRows);
  float* const panels = panels_of_chunk.get(there * std::min(of.ins, kDepth) * kPanel);
  float* const waiting = waiting_of_task.get(of.ins > kDepth ? there * groups * kTile : kTile);
  float* const strip = strip_of_task.get(count);
  if (!panels || !waiting || !strip) {
    failed = true;
    return;
  }
  for (int64_t depth = 0; depth < of.ins; depth += kDepth) {
    const int64_t channels = std::min(kDepth, of.ins - depth);
    const int64_t panel_stride = channels * kPanel;
    const float* channel = images + (image * of.ins + depth) * height * width;
    for (int64_t c = 0; c < channels; ++c, channel += height * width)
      of.steps.pack(row_of(channel, first, count, strip), count, panels + c * kPanel, panel_stride);
    // Panels of the same outputs one after the other are beside each other in the result and in the
    // residual. Outputs of the same panel one after the other leave it in L1, which gains more where
    // nothing is added and sums wait.
    const bool is_last = depth + channels == of.ins;
    const bool along = is_last && (residual || depth == 0);
    const auto place_of = [&](int64_t step) {
      return along ? Place{step % there, step / there} : Place{step / groups, step % groups};
    };
    for (int64_t step = 0; step < there * groups; ++step) {
      const auto [panel, group] = place_of(step);
      const Place then = place_of(std::min(step + 1, there * groups - 1));
      const float* const from = panels + panel * panel_stride;
      const int64_t out = first_out + group * kRows;
      const float* weights[kRows];
      for (int64_t i = 0; i < kRows; ++i)
        weights[i] = of.weights + std::min(out + i, of.outs - 1) * of.ins + depth;
      const auto at_of = [&](Place place) {
        const int64_t its_out = first_out + place.group * kRows;
        return (image * of.outs + its_out) * pixels() + first + place.panel * kPanel;
      };
      const int64_t at = at_of({panel, group}), next = at_of(then);
      Sums sums;
      sums.waiting = of.ins > kDepth ? waiting + (panel * groups + group) * kTile : waiting;
      sums.first = depth == 0, sums.last = is_last;
      sums.bias = of.bias ? of.bias + out : nullptr;
      sums.outs = std::min(kRows, first_out + outs - out);
      sums.pixels = std::min(kPanel, count - panel * kPanel);
      sums.result = result + at, sums.next_result = result + next;
      sums.stride = sums.residual_stride = pixels();
      sums.residual = residual ? residual + at : nullptr;
      sums.next_residual = residual ? residual + next : nullptr;
      float added[kTile];
      if (residual && of.upsampled) {
        if (is_last)
          upsample(image, out, sums.outs, first + panel * kPanel, sums.pixels, added);
        sums.residual = added, sums.residual_stride = kPanel, sums.next_residual = nullptr;
      }
      sums.relu = of.relu;
      of.steps.product(weights, from, channels, sums, then.group > group ? kRows * of.ins : 0);
    }
  }
}

}  // namespace

bool Pointwise::operator()(const float* images, const float* residual, float* result, int64_t count,
                           int64_t height, int64_t width, int threads) const {
  Work work{*this, images, residual, result, height, width, parts(height, stride), parts(width, stride),
            0, 0, 0, 0};
  const int64_t panels = parts(work.pixels(), kPanel);
  work.length = parts(panels, parts(panels, kChunkPanels));
  work.chunks = parts(panels, work.length);
  const int64_t there = count * work.chunks;
  // Blocks of outputs where there are too few chunks for all threads to have work to the end.
  const int64_t wanted = there % threads == 0 ? 1 : parts(4 * threads, there);
  work.block_outs = std::min(kBlockOuts, parts(parts(outs, wanted), kRows) * kRows);
  work.blocks = parts(outs, work.block_outs);
  run_tasks(there * work.blocks, threads,
            [](void* data, int64_t task) { static_cast<Work*>(data)->run(task); }, &work);
  return !work.failed;
}

}  // namespace d2k
