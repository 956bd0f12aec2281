// One convolution: its sizes, and what runs it.
#pragma once

#include <cstdint>

#include "winograd.h"

namespace d2k {

struct Convolution {
  const float* weights;  // Transformed.
  const float* bias;     // Or null.
  int64_t outs, ins;
  bool relu;
  const Steps& steps;

  // False where there is no memory.
  bool operator()(const float* images, float* result, int64_t count, int64_t height, int64_t width,
                  int threads) const;
};

inline int64_t padded_outs(int64_t outs) { return (outs + kOuts - 1) / kOuts * kOuts; }

}  // namespace d2k
