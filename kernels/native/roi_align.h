// RoiAlign: the mean of an image's interpolated values in each bin of a region of interest (ROI).
//
// Samples lie on a grid, and so does the interpolation's weight: it is one along rows times one along
// columns. So a bin's mean is a weighted sum of rows, and then of columns, and the weights of an ROI
// are found once for all channels.
#pragma once

#include <cstdint>
#include <vector>

#include "d2serve_kernels.h"

namespace d2k {

constexpr int64_t kLanes = 8;  // Bins of a row of bins whose sums are formed together.

// The pixels that a bin's sum takes, or those of kLanes bins together, and where their weights lie.
struct Band {
  int64_t first, count;
  int64_t weights;
};

// What an ROI takes of a plane. Weights along columns are those of kLanes bins for each pixel.
struct RoiWeights {
  const Band* rows;     // One for each row of bins.
  const Band* columns;  // One for each kLanes bins of a row.
  const float* row_weights;
  const float* column_weights;
  int64_t left, width;  // The pixels of a row that are read at all.
};

struct Bins {
  int64_t height, width;

  int64_t groups() const { return (width + kLanes - 1) / kLanes; }
};

// How far apart an ROI's rows lie in scratch memory: a vector may be written beyond the last pixel.
inline int64_t row_stride(int64_t width) { return (width + 15) / 16 * 16; }

// The sums of one channel. scratch: bins.height rows, row_stride(roi.width) apart.
using AlignRoi = void (*)(const float* plane, int64_t plane_width, const RoiWeights& roi,
                          const Bins& bins, float* scratch, float* result);

// False where there is no memory. Every ROI's image is there.
bool align_rois(const d2k_roi_align& how, AlignRoi align, const float* images, int64_t channels,
                int64_t height, int64_t width, const float* rois, const int64_t* image_of,
                const int64_t* row_of, int64_t count, float* result, int threads);

}  // namespace d2k
