// Convolves many shapes and pools many regions, each in every way, in memory that ends where the
// arrays end and begins where no vector does. For sanitizers and valgrind: what is read or written beside the arrays stops it.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "d2serve_kernels.h"

namespace {

struct Shape {
  int64_t count, ins, outs, height, width;
};

constexpr Shape kShapes[] = {
    {0, 3, 4, 5, 5},  {1, 1, 1, 1, 1},    {1, 2, 3, 1, 7},    {1, 3, 9, 7, 1},   {2, 5, 8, 6, 6},
    {1, 65, 5, 13, 17}, {1, 130, 9, 5, 10}, {3, 4, 17, 14, 14}, {20, 3, 2, 2, 3}, {5, 2, 33, 9, 31}, {1, 2, 3, 8, 130},
    {1, 1, 2, 3, 1030}, {40, 2, 2, 1, 1},
};

// The array is all of a block of memory but its first float, so it is aligned for a float only.
struct Array {
  explicit Array(int64_t size) : block(static_cast<float*>(std::malloc((size + 1) * 4))) {}
  ~Array() { std::free(block); }
  float* data() { return block + 1; }
  float* block;
};

bool convolve_all(const Shape& shape, int threads) {
  const int64_t pixels = shape.height * shape.width;
  Array images(shape.count * shape.ins * pixels), result(shape.count * shape.outs * pixels);
  Array weights(shape.outs * shape.ins * 9), bias(shape.outs);
  Array transformed(d2k_transformed_size(shape.outs, shape.ins));
  for (int64_t i = 0; i < shape.count * shape.ins * pixels; ++i) images.data()[i] = 1.0f;
  for (int64_t i = 0; i < shape.outs * shape.ins * 9; ++i) weights.data()[i] = 1.0f;
  for (int64_t i = 0; i < shape.outs; ++i) bias.data()[i] = 1.0f;
  if (d2k_transform(weights.data(), shape.outs, shape.ins, transformed.data()) != D2K_OK)
    return false;
  for (int32_t way = D2K_PORTABLE; way <= D2K_AVX512; ++way) {
    if (!(d2k_ways() >> way & 1)) continue;
    const d2k_layer layer{transformed.data(), bias.data(), shape.outs, shape.ins, 1, way};
    if (d2k_convolve(&layer, images.data(), result.data(), shape.count, shape.height, shape.width,
                     threads) != D2K_OK)
      return false;
    // Every pixel's sum is its neighbours there are, of all channels, and the bias.
    for (int64_t i = 0; i < shape.count * shape.outs * pixels; ++i) {
      const int64_t y = i / shape.width % shape.height, x = i % shape.width;
      const int64_t high = 1 + (y > 0) + (y + 1 < shape.height);
      const int64_t wide = 1 + (x > 0) + (x + 1 < shape.width);
      const float expected = static_cast<float>(high * wide * shape.ins + 1);
      if (!(std::fabs(result.data()[i] - expected) < 1e-4f * expected)) {
        std::printf("way %d, %ld: %g, expected %g\n", way, static_cast<long>(i), result.data()[i],
                    expected);
        return false;
      }
    }
  }
  return true;
}

// The same shapes for 1x1 convolutions: alone, with a residual, and with one of half the size, for which
// the images are doubled.
bool convolve_points(const Shape& shape, int threads, int32_t stride, int residual_size) {
  const int64_t high = residual_size == 2 ? 2 * shape.height : shape.height;
  const int64_t wide = residual_size == 2 ? 2 * shape.width : shape.width;
  const int64_t height = stride * high, width = stride * wide - (stride - 1);
  const int64_t pixels = shape.count * shape.outs * high * wide;
  const int64_t added = residual_size == 0 ? 0 : pixels / residual_size / residual_size;
  Array images(shape.count * shape.ins * height * width), result(pixels), residual(added);
  Array weights(shape.outs * shape.ins), bias(shape.outs);
  for (int64_t i = 0; i < shape.count * shape.ins * height * width; ++i) images.data()[i] = 1.0f;
  for (int64_t i = 0; i < shape.outs * shape.ins; ++i) weights.data()[i] = 1.0f;
  for (int64_t i = 0; i < shape.outs; ++i) bias.data()[i] = 1.0f;
  for (int64_t i = 0; i < added; ++i) residual.data()[i] = 2.0f;
  for (int32_t way = D2K_PORTABLE; way <= D2K_AVX512; ++way) {
    if (!(d2k_ways() >> way & 1)) continue;
    const d2k_point_layer layer{weights.data(), bias.data(), shape.outs, shape.ins,
                                stride,         1,           way,        residual_size == 2};
    if (d2k_convolve_points(&layer, images.data(), residual_size ? residual.data() : nullptr,
                            result.data(), shape.count, height, width, threads) != D2K_OK)
      return false;
    const float expected = static_cast<float>(shape.ins + 1 + (residual_size ? 2 : 0));
    for (int64_t i = 0; i < pixels; ++i)
      if (result.data()[i] != expected) {
        std::printf("1x1, way %d, %ld: %g, expected %g\n", way, static_cast<long>(i),
                    result.data()[i], expected);
        return false;
      }
  }
  return true;
}

// Images of ones, so that a bin is one where all its samples are in the image.
bool align_all(const Shape& shape, int threads) {
  constexpr float kFar = 1e9f;
  const float regions[][4] = {{0, 0, 1, 1},       {-3, -3, 40, 40},  {2, 1, 9, 3},
                              {5, 5, 2, 2},       {-kFar, -kFar, kFar, kFar},
                              {NAN, 0, 1, kFar},  {0.5f, 0.5f, 0.5f, 0.5f},
                              {1e3f, 0, 2e3f, 5}, {0, 0, 1e30f, 1}};
  const int64_t count = shape.count ? sizeof regions / sizeof *regions : 0;
  const int64_t pixels = shape.height * shape.width, bins = shape.outs * 2;
  Array images(shape.count * shape.ins * pixels), result(count * shape.ins * bins);
  Array rois(count * 4);
  std::vector<int64_t> image_of(count), row_of(count);
  for (int64_t i = 0; i < shape.count * shape.ins * pixels; ++i) images.data()[i] = 1.0f;
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(rois.data() + i * 4, regions[i], sizeof regions[i]);
    image_of[i] = i % shape.count;
    row_of[i] = count - 1 - i;
  }
  const float* const first = result.data() + (count - 1) * shape.ins * bins;
  for (int32_t way = D2K_PORTABLE; way <= D2K_AVX512; ++way) {
    if (!(d2k_ways() >> way & 1)) continue;
    for (const int32_t half_pixel : {0, 1})
      for (const int64_t samples : {0, 2}) {
        const d2k_roi_align how{2, shape.outs, samples, 1.0f, half_pixel, way};
        if (d2k_align_rois(&how, images.data(), shape.count, shape.ins, shape.height, shape.width,
                           rois.data(), image_of.data(), row_of.data(), count, result.data(), count,
                           threads) != D2K_OK)
          return false;
        for (int64_t i = 0; i < count * shape.ins * bins; ++i)
          if (!(result.data()[i] >= 0.0f && result.data()[i] < 1.0001f)) return false;
        for (int64_t i = 0; count && i < shape.ins * bins; ++i)
          if (std::fabs(first[i] - 1.0f) > 1e-5f) return false;
      }
  }
  return true;
}

bool all(const Shape& shape, int threads) {
  bool good = convolve_all(shape, threads) && align_all(shape, threads);
  for (const int32_t stride : {1, 2})
    for (const int residual_size : {0, 1, 2})
      good &= convolve_points(shape, threads, stride, residual_size);
  return good;
}

}  // namespace

int main() {
  bool good = true;
  for (const Shape& shape : kShapes)
    for (const int threads : {1, 3}) good &= all(shape, threads);
  // Several callers at once, as a server has them.
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([] {
      for (const Shape& shape : kShapes)
        if (!all(shape, 2)) std::exit(1);
    });
  for (std::thread& caller : callers) caller.join();
  return good ? 0 : 1;
}
