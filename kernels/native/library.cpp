// The C interface: refuses what cannot be, and calls the rest.
#include <algorithm>
#include <new>

#include "convolution.h"
#include "d2serve_kernels.h"
#include "system/memory.h"
#include "pointwise.h"
#include "roi_align.h"

namespace d2k {
namespace {

// Sizes above this would overflow somewhere, and no memory holds them.
constexpr int64_t kMost = int64_t{1} << 40;

bool product_fits(int64_t a, int64_t b) { return a == 0 || b <= kMost / a; }

bool layer_fits(int64_t outs, int64_t ins) {
  return outs > 0 && ins > 0 && outs < kMost && product_fits(padded_outs(outs) * 64, ins);
}

bool images_fit(int64_t count, int64_t height, int64_t width, int64_t channels) {
  return count >= 0 && height > 0 && width > 0 && height <= kMost && product_fits(height, width) &&
         product_fits(height * width, count) && product_fits(height * width * count, channels);
}

bool runs(int32_t way) { return way >= 0 && way < 32 && d2k_ways() >> way & 1; }

const Steps* steps_of(int32_t way) {
  if (!runs(way)) return nullptr;
  return way == D2K_AVX512 ? avx512_steps() : way == D2K_AVX2 ? avx2_steps() : &portable_steps();
}

const PointwiseSteps* pointwise_of(int32_t way) {
  if (!runs(way)) return nullptr;
  return way == D2K_AVX512 ? avx512_pointwise()
         : way == D2K_AVX2 ? avx2_pointwise()
                           : &portable_pointwise();
}

// The rows of G, which takes three weights to eight frequencies, in double.
constexpr double kG[8][3] = {
    {1.0, 0.0, 0.0},
    {-2.0 / 9, -2.0 / 9, -2.0 / 9},
    {-2.0 / 9, 2.0 / 9, -2.0 / 9},
    {1.0 / 90, 1.0 / 45, 2.0 / 45},
    {1.0 / 90, -1.0 / 45, 2.0 / 45},
    {32.0 / 45, 16.0 / 45, 8.0 / 45},
    {32.0 / 45, -16.0 / 45, 8.0 / 45},
    {0.0, 0.0, 1.0},
};

// plane_stride apart: one for each horizontal frequency, of eight vertical ones.
void transform_one(const float* weights, float* to, int64_t plane_stride) {
  double half[8][3];
  for (int y = 0; y < 8; ++y)
    for (int x = 0; x < 3; ++x)
      half[y][x] =
          kG[y][0] * weights[x] + kG[y][1] * weights[3 + x] + kG[y][2] * weights[6 + x];
  for (int x = 0; x < 8; ++x)
    for (int y = 0; y < 8; ++y)
      to[x * plane_stride + y] = static_cast<float>(kG[x][0] * half[y][0] + kG[x][1] * half[y][1] +
                                                    kG[x][2] * half[y][2]);
}

}  // namespace
}  // namespace d2k

using d2k::kChannels;
using d2k::kOuts;

int32_t d2k_version(void) { return D2K_VERSION; }

uint32_t d2k_ways(void) {
  uint32_t ways = 1u << D2K_PORTABLE;
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  if (d2k::avx2_steps() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    ways |= 1u << D2K_AVX2;
  if (d2k::avx512_steps() && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && (ways & (1u << D2K_AVX2)))
    ways |= 1u << D2K_AVX512;
#endif
  return ways;
}

int64_t d2k_transformed_size(int64_t outs, int64_t ins) {
  return d2k::layer_fits(outs, ins) ? d2k::padded_outs(outs) * 64 * ins : 0;
}

int32_t d2k_transform(const float* weights, int64_t outs, int64_t ins, float* transformed) {
  if (!weights || !transformed || !d2k::layer_fits(outs, ins)) return D2K_BAD_SHAPE;
  const int64_t padded = d2k::padded_outs(outs), plane_stride = ins * padded * 8;
  for (int64_t out = 0; out < padded; ++out) {
    for (int64_t in = 0; in < ins; ++in) {
      const int64_t block = in / kChannels * kChannels;
      const int64_t deep = ins - block < kChannels ? ins - block : kChannels;
      float* const to = transformed + block * padded * 8 + out / kOuts * deep * kOuts * 8 +
                        (in - block) * kOuts * 8 + out % kOuts * 8;
      const float zeros[9] = {};
      d2k::transform_one(out < outs ? weights + (out * ins + in) * 9 : zeros, to, plane_stride);
    }
  }
  return D2K_OK;
}

int32_t d2k_convolve(const d2k_layer* layer, const float* images, float* result, int64_t count,
                     int64_t height, int64_t width, int32_t threads) {
  if (!layer || !layer->transformed || !d2k::layer_fits(layer->outs, layer->ins) ||
      !d2k::images_fit(count, height, width, std::max(layer->outs, layer->ins)))
    return D2K_BAD_SHAPE;
  const d2k::Steps* const steps = d2k::steps_of(layer->way);
  if (!steps) return D2K_BAD_WAY;
  if (count == 0) return D2K_OK;
  if (!images || !result) return D2K_BAD_SHAPE;
  d2k::prefer_huge_pages(result, count * layer->outs * height * width);
  const d2k::Convolution convolution{layer->transformed, layer->bias,      layer->outs,
                                     layer->ins,         layer->relu != 0, *steps};
  try {
    return convolution(images, result, count, height, width, threads < 1 ? 1 : threads) ? D2K_OK : D2K_NO_MEMORY;
  } catch (const std::bad_alloc&) {
    return D2K_NO_MEMORY;
  }
}

int32_t d2k_convolve_points(const d2k_point_layer* layer, const float* images,
                            const float* residual, float* result, int64_t count, int64_t height,
                            int64_t width, int32_t threads) {
  if (!layer || !layer->weights || !d2k::layer_fits(layer->outs, layer->ins) || layer->stride < 1 ||
      layer->stride > 2 ||
      !d2k::images_fit(count, height, width, std::max(layer->outs, layer->ins)))
    return D2K_BAD_SHAPE;
  const d2k::PointwiseSteps* const steps = d2k::pointwise_of(layer->way);
  if (!steps) return D2K_BAD_WAY;
  const int64_t high = (height + layer->stride - 1) / layer->stride;
  const int64_t wide = (width + layer->stride - 1) / layer->stride;
  if (layer->upsampled && (high % 2 || wide % 2)) return D2K_BAD_SHAPE;
  if (count == 0) return D2K_OK;
  if (!images || !result) return D2K_BAD_SHAPE;
  d2k::prefer_huge_pages(result, count * layer->outs * high * wide);
  const d2k::Pointwise pointwise{layer->weights,        layer->bias,   layer->outs,
                                 layer->ins,            layer->stride, layer->relu != 0,
                                 layer->upsampled != 0, *steps};
  try {
    return pointwise(images, residual, result, count, height, width, threads < 1 ? 1 : threads)
               ? D2K_OK
               : D2K_NO_MEMORY;
  } catch (const std::bad_alloc&) {
    return D2K_NO_MEMORY;
  }
}

int32_t d2k_align_rois(const d2k_roi_align* how, const float* images, int64_t images_count,
                       int64_t channels, int64_t height, int64_t width, const float* rois,
                       const int64_t* image_of, const int64_t* row_of, int64_t count, float* result,
                       int64_t rows, int32_t threads) {
  constexpr int64_t kMostEdge = 1024, kMostSamples = 1024;
  if (!how || how->height < 1 || how->width < 1 || how->height > kMostEdge ||
      how->width > kMostEdge || how->sampling_ratio < 0 || how->sampling_ratio > kMostSamples ||
      images_count < 0 || channels < 1 || height < 1 || width < 1 || height > d2k::kMost ||
      !d2k::product_fits(height, width) || !d2k::product_fits(height * width, channels) ||
      !d2k::product_fits(height * width * channels, images_count) || count < 0 || rows < 0 ||
      count > d2k::kMost || !d2k::product_fits(how->height * how->width, channels) ||
      !d2k::product_fits(how->height * how->width * channels, rows))
    return D2K_BAD_SHAPE;
  const d2k::Steps* const steps = d2k::steps_of(how->way);
  if (!steps) return D2K_BAD_WAY;
  if (count == 0) return D2K_OK;
  if (!images || !rois || !image_of || !result || (!row_of && rows != count)) return D2K_BAD_SHAPE;
  for (int64_t roi = 0; roi < count; ++roi)
    if (image_of[roi] < 0 || image_of[roi] >= images_count ||
        (row_of && (row_of[roi] < 0 || row_of[roi] >= rows)))
      return D2K_BAD_INDEX;
  try {
    return d2k::align_rois(*how, steps->align_roi, images, channels, height, width, rois, image_of,
                           row_of, count, result, threads < 1 ? 1 : threads)
               ? D2K_OK
               : D2K_NO_MEMORY;
  } catch (const std::bad_alloc&) {
    return D2K_NO_MEMORY;
  }
}
