// The weights of all ROIs are found first. Then a task takes a few channels, whose planes stay in L2
// while every ROI reads them, and forms each sum whole: how the work is divided changes no bit.
#include "roi_align.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "system/memory.h"
#include "system/threads.h"

namespace d2k {
namespace {

constexpr int64_t kTaskChannels = 4;
// Beyond this a coordinate is no place in an image. Any number of samples up to it can be counted.
constexpr float kMostPixels = 1 << 30;
constexpr int64_t kMargin = 1024;  // Samples by which rounding may move one so far away.

thread_local Scratch rows_of_task;

// An edge of an ROI: where its bins begin, how long each is, and how many samples that has.
struct Edge {
  float start, bin;
  int64_t samples;
};

Edge edge_of(const d2k_roi_align& how, float from, float to, int64_t bins) {
  const float offset = how.half_pixel ? 0.5f : 0.0f;
  const float start = from * how.scale - offset, end = to * how.scale - offset;
  // What is no number is no place either.
  if (!(std::fabs(start) < kMostPixels && std::fabs(end) < kMostPixels)) return {0.0f, 0.0f, 0};
  const float length = how.half_pixel ? end - start : std::max(end - start, 1.0f);
  const float bin = length / static_cast<float>(bins);
  return {start, bin,
          how.sampling_ratio > 0 ? how.sampling_ratio : static_cast<int64_t>(std::ceil(bin))};
}

// The weights of one bin along an edge of `size` pixels, into `sums` from the first pixel on.
struct Bin {
  std::vector<double> sums;
  int64_t first = 0;

  void add(int64_t pixel, double weight) {
    // Samples go forward or, in an ROI that is turned over, back.
    if (sums.empty()) first = pixel;
    if (pixel < first) {
      sums.insert(sums.begin(), static_cast<size_t>(first - pixel), 0.0);
      first = pixel;
    }
    if (pixel >= first + static_cast<int64_t>(sums.size()))
      sums.resize(static_cast<size_t>(pixel - first + 1), 0.0);
    sums[static_cast<size_t>(pixel - first)] += weight;
  }

  void find(const Edge& edge, int64_t bin, int64_t size) {
    sums.clear();
    const auto samples = static_cast<float>(edge.samples);
    const float begin = edge.start + static_cast<float>(bin) * edge.bin;
    int64_t sample = 0, end = edge.samples;
    // Of an ROI far larger than the image, only those that may be in it. With an ROI's own number
    // of samples they are half a pixel apart at least.
    const double step = static_cast<double>(edge.bin) / std::max(samples, 1.0f);
    if (step > 0.25) {
      const double before = (-1.0 - begin) / step, within = (size + 1.0) / step;
      sample = std::max(sample, static_cast<int64_t>(before) - kMargin);
      end = std::min(end, static_cast<int64_t>(before + within) + kMargin);
    }
    for (; sample < end; ++sample) {
      float at = begin + (static_cast<float>(sample) + 0.5f) * edge.bin / samples;
      if (at < -1.0f || at > static_cast<float>(size)) continue;
      at = std::max(at, 0.0f);
      const auto low = static_cast<int64_t>(at);
      if (low >= size - 1) {
        add(size - 1, 1.0);
      } else {
        const float share = at - static_cast<float>(low);
        add(low, 1.0f - share);
        add(low + 1, share);
      }
    }
    for (double& sum : sums) sum /= samples;
  }

  int64_t count() const { return static_cast<int64_t>(sums.size()); }
};

// Of all ROIs.
struct Weights {
  const Bins bins;
  std::vector<Band> rows, columns;
  std::vector<float> row_weights, column_weights;
  std::vector<int64_t> lefts, widths;
  Bin bin;

  void add(const Edge& down, const Edge& across, int64_t height, int64_t width) {
    for (int64_t y = 0; y < bins.height; ++y) {
      bin.find(down, y, height);
      rows.push_back({bin.first, bin.count(), static_cast<int64_t>(row_weights.size())});
      row_weights.insert(row_weights.end(), bin.sums.begin(), bin.sums.end());
    }
    int64_t left = width, right = 0;
    for (int64_t x = 0; x < bins.width; x += kLanes) {
      const Band band = add_group(across, x, width);
      columns.push_back(band);
      if (!band.count) continue;
      left = std::min(left, band.first);
      right = std::max(right, band.first + band.count);
    }
    if (right == 0) left = 0;
    for (auto band = columns.end() - bins.groups(); band < columns.end(); ++band)
      if (!band->count) band->first = left;  // so that it lies within what is read
    lefts.push_back(left);
    widths.push_back(right - left);
  }

  Band add_group(const Edge& across, int64_t first_bin, int64_t width) {
    const auto at = static_cast<int64_t>(column_weights.size());
    int64_t first = 0, count = 0;
    for (int64_t lane = 0; lane < std::min(kLanes, bins.width - first_bin); ++lane) {
      bin.find(across, first_bin + lane, width);
      if (!bin.count()) continue;
      if (!count) first = bin.first;
      const int64_t begin = std::min(first, bin.first);
      const int64_t end = std::max(first + count, bin.first + bin.count());
      const auto place = column_weights.begin() + at;
      column_weights.insert(place, static_cast<size_t>((first - begin) * kLanes), 0.0f);
      column_weights.resize(static_cast<size_t>(at + (end - begin) * kLanes), 0.0f);
      first = begin;
      count = end - begin;
      for (int64_t i = 0; i < bin.count(); ++i)
        column_weights[static_cast<size_t>(at + (bin.first - first + i) * kLanes + lane)] =
            static_cast<float>(bin.sums[static_cast<size_t>(i)]);
    }
    return {first, count, at};
  }

  RoiWeights of(int64_t roi) const {
    const auto number = static_cast<size_t>(roi);
    return {rows.data() + roi * bins.height,
            columns.data() + roi * bins.groups(),
            row_weights.data(),
            column_weights.data(),
            lefts[number],
            widths[number]};
  }
};

struct Work {
  const Weights& weights;
  AlignRoi align;
  const float* images;
  int64_t channels, height, width;
  const int64_t* image_of;
  const int64_t* row_of;
  int64_t count;
  float* result;
  std::atomic<bool> failed{false};

  void run(int64_t task) {
    const Bins& bins = weights.bins;
    const int64_t widest = *std::max_element(weights.widths.begin(), weights.widths.end());
    float* const scratch = rows_of_task.get(bins.height * row_stride(widest) + 1);
    if (!scratch) {
      failed = true;
      return;
    }
    const int64_t last = std::min(channels, (task + 1) * kTaskChannels);
    for (int64_t roi = 0; roi < count; ++roi) {
      const RoiWeights of_roi = weights.of(roi);
      const int64_t row = row_of ? row_of[roi] : roi;
      for (int64_t channel = task * kTaskChannels; channel < last; ++channel)
        align(images + (image_of[roi] * channels + channel) * height * width, width, of_roi, bins,
              scratch, result + (row * channels + channel) * bins.height * bins.width);
    }
  }
};

}  // namespace

bool align_rois(const d2k_roi_align& how, AlignRoi align, const float* images, int64_t channels,
                int64_t height, int64_t width, const float* rois, const int64_t* image_of,
                const int64_t* row_of, int64_t count, float* result, int threads) {
  Weights weights{{how.height, how.width}, {}, {}, {}, {}, {}, {}, {}};
  for (const float* roi = rois; roi < rois + count * 4; roi += 4)
    weights.add(edge_of(how, roi[1], roi[3], how.height), edge_of(how, roi[0], roi[2], how.width),
                height, width);
  Work work{weights, align, images, channels, height, width, image_of, row_of, count, result};
  run_tasks((channels + kTaskChannels - 1) / kTaskChannels, threads,
            [](void* data, int64_t task) { static_cast<Work*>(data)->run(task); }, &work);
  return !work.failed;
}

}  // namespace d2k
