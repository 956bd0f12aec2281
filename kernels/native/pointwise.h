// A 1x1 convolution: outputs by channels times channels by pixels, and what each way writes of it in
// its own instructions.
//
// Pixels are copied into panels of 48, channel by channel, so that a panel of some channels stays in
// L1. Weights are read as they are given, (outs, ins). Sums of more channels than a panel has wait
// for the rest, eight outputs of a panel together.
#pragma once

#include <cstdint>

namespace d2k {

constexpr int64_t kPanel = 48;   // Pixels whose sums are formed together.
constexpr int64_t kRows = 8;     // Outputs whose sums are formed together.
constexpr int64_t kDepth = 128;  // Channels that are summed from zero, for the sum's exactness.

// What becomes of the sums of up to 8 outputs and 48 pixels.
struct Sums {
  float* waiting;         // [8][48]
  bool first, last;       // Whether none waits yet, and whether these are whole.
  const float* bias;      // Of each output, or null; what follows is read with the last ones only.
  const float* residual;  // Is added, or null.
  float* result;
  int64_t residual_stride, stride;           // From one output to the next.
  const float *next_residual, *next_result;  // Of the next eight outputs; only asked for.
  int64_t outs, pixels;                      // How many there are.
  bool relu;
};

struct PointwiseSteps {
  // Each `stride`th of the pixels of a row: 1 or 2.
  void (*take)(const float* from, int64_t stride, float* to, int64_t count);

  // Each value twice, the first one once if `from_half`.
  void (*spread)(const float* from, bool from_half, float* to, int64_t count);

  // Pixels of a channel into panels, `panel_stride` apart; zeros fill the last one's last vector.
  void (*pack)(const float* from, int64_t count, float* panels, int64_t panel_stride);

  // weights: of eight outputs, from the panel's first channel on. Meanwhile asks for the weights that
  // lie `ahead`, and with the last channels for the next results.
  void (*product)(const float* const* weights, const float* panel, int64_t channels,
                  const Sums& sums, int64_t ahead);
};

const PointwiseSteps& portable_pointwise();
const PointwiseSteps* avx2_pointwise();  // Null where the build has none.
const PointwiseSteps* avx512_pointwise();

struct Pointwise {
  const float* weights;
  const float* bias;  // Or null.
  int64_t outs, ins;
  int64_t stride;
  bool relu;
  bool upsampled;
  const PointwiseSteps& steps;

  // residual: as the result, of half its height and width if upsampled, or null. False where there is no memory.
  bool operator()(const float* images, const float* residual, float* result, int64_t count,
                  int64_t height, int64_t width, int threads) const;
};

}  // namespace d2k
