// RoiAlign as a custom operator of ONNX Runtime, d2serve.RoiAlign, for one image pyramid.
//
// d2serve.kernels.onnxruntime puts it into a program while it is loaded. Of each level it takes the
// images, the ROIs and their images' numbers, as ONNX's RoiAlign does. With more levels than one it
// also takes the row of each level's ROIs in the result, as ScatterND does, and last the result's
// shape; rows that no ROI has are zeros. Attributes are the address of as many d2k_roi_align as there
// are levels, how many there are, and how many threads may work.

#include <cstring>
#include <new>
#include <vector>

#include "../d2serve_kernels.h"
#include "operators.h"

namespace d2k::ort {
namespace {

struct Kernel {
  const Api* api;
  const d2k_roi_align* levels;
  std::size_t count;
  std::int32_t threads;
};

struct Level {
  Input images, rois, image_of, row_of;
};

Status* create(const CustomOp*, const Api* api, const KernelInfo* info, void** made) {
  std::int64_t address = 0, levels = 1, threads = 1;
  if (Status* failed = integer_attribute(api, info, "address", &address)) return failed;
  if (Status* failed = integer_attribute(api, info, "levels", &levels)) return failed;
  if (Status* failed = integer_attribute(api, info, "threads", &threads)) return failed;
  *made = new (std::nothrow)
      Kernel{api, reinterpret_cast<const d2k_roi_align*>(static_cast<std::uintptr_t>(address)),
             static_cast<std::size_t>(levels), static_cast<std::int32_t>(threads)};
  return *made ? nullptr : create_status(api, FAIL, "No memory is left for d2serve.RoiAlign.");
}

bool fits(const Level& level, bool scattered) {
  const std::int64_t count = level.rois.sides[0];
  const bool rows_fit = !scattered || (level.row_of.type == INT64 && level.row_of.rank == 2 &&
                                       level.row_of.sides[0] == count && level.row_of.sides[1] == 1);
  return level.images.type == FLOAT && level.images.rank == 4 && level.rois.type == FLOAT &&
         level.rois.rank == 2 && level.rois.sides[1] == 4 && level.image_of.type == INT64 &&
         level.image_of.rank == 1 && level.image_of.sides[0] == count && rows_fit;
}

// Reads all levels, and the result's shape.
Status* read_all(const Kernel& kernel, const KernelContext* context, std::vector<Level>& levels,
                 std::int64_t (&sides)[4]) {
  const Api* api = kernel.api;
  const bool scattered = kernel.count > 1;
  std::size_t next = 0;
  for (Level& level : levels) {
    if (Status* failed = read(api, context, next++, level.images)) return failed;
    if (Status* failed = read(api, context, next++, level.rois)) return failed;
    if (Status* failed = read(api, context, next++, level.image_of)) return failed;
    if (!scattered) continue;
    if (Status* failed = read(api, context, next++, level.row_of)) return failed;
  }
  const std::int64_t shape[4] = {levels[0].rois.sides[0], levels[0].images.sides[1],
                                 kernel.levels[0].height, kernel.levels[0].width};
  std::memcpy(sides, shape, sizeof sides);
  bool good = true;
  if (scattered) {
    Input given;
    if (Status* failed = read(api, context, next, given)) return failed;
    good = given.type == INT64 && given.rank == 1 && given.sides[0] == 4;
    if (good) std::memcpy(sides, given.data, sizeof sides);
    good = good && std::memcmp(sides + 1, shape + 1, 3 * sizeof *sides) == 0;
  }
  for (const Level& level : levels)
    good = good && fits(level, scattered) && level.images.sides[1] == sides[1];
  if (good) return nullptr;
  return create_status(api, INVALID_ARGUMENT, "Expected images as (N, C, H, W), ROIs as (R, 4), an "
                                              "image's number for each, and rows as (R, 1).");
}

// Rows that no ROI has become zeros. Which rows there are d2k_align_rois checks.
void clear_others(const std::vector<Level>& levels, std::int64_t rows, std::int64_t row_size,
                  float* result) {
  std::vector<bool> has(static_cast<std::size_t>(rows));
  for (const Level& level : levels)
    for (std::int64_t roi = 0; roi < level.rois.sides[0]; ++roi) {
      const std::int64_t row = level.row_of.integers()[roi];
      if (row >= 0 && row < rows) has[static_cast<std::size_t>(row)] = true;
    }
  for (std::int64_t row = 0; row < rows; ++row)
    if (!has[static_cast<std::size_t>(row)])
      std::memset(result + row * row_size, 0, static_cast<std::size_t>(row_size) * sizeof *result);
}

Status* align(const Kernel& kernel, KernelContext* context) {
  const Api* api = kernel.api;
  std::vector<Level> levels(kernel.count);
  std::int64_t sides[4];
  if (Status* failed = read_all(kernel, context, levels, sides)) return failed;
  Value* made = nullptr;
  if (Status* failed = make_output(api, context, 0, sides, 4, &made)) return failed;
  void* data = nullptr;
  if (Status* failed = data_of(api, made, &data)) return failed;
  auto* const result = static_cast<float*>(data);
  const bool scattered = kernel.count > 1;
  if (scattered) clear_others(levels, sides[0], sides[1] * sides[2] * sides[3], result);
  for (std::size_t number = 0; number < kernel.count; ++number) {
    const Level& level = levels[number];
    const std::int32_t status = d2k_align_rois(
        kernel.levels + number, level.images.floats(), level.images.sides[0], sides[1],
        level.images.sides[2], level.images.sides[3], level.rois.floats(),
        level.image_of.integers(), scattered ? level.row_of.integers() : nullptr,
        level.rois.sides[0], result, sides[0], kernel.threads);
    if (status == D2K_BAD_INDEX)
      return create_status(api, INVALID_ARGUMENT, "An ROI of d2serve.RoiAlign is of an image, or "
                                                  "belongs in a row, that is not there.");
    if (status == D2K_NO_MEMORY) throw std::bad_alloc();
    if (status != D2K_OK)
      return create_status(api, FAIL, "d2serve.RoiAlign cannot take images of this size.");
  }
  return nullptr;
}

Status* compute(void* given, KernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(given);
  try {
    return align(kernel, context);
  } catch (const std::bad_alloc&) {
    return create_status(kernel.api, FAIL, "No memory is left for d2serve.RoiAlign.");
  }
}

}  // namespace

CustomOp roi_align_operator() {
  CustomOp op = operator_of_floats();
  op.get_name = [](const CustomOp*) { return "RoiAlign"; };
  // As many as there are, of both types: read_all looks at each.
  op.get_input_type = [](const CustomOp*, std::size_t) { return ANY_TYPE; };
  op.get_input_characteristic = [](const CustomOp*, std::size_t) { return VARIADIC; };
  op.get_variadic_input_homogeneity = [](const CustomOp*) { return 0; };
  op.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.create_kernel_with_status = create;
  op.compute_with_status = compute;
  return op;
}

}  // namespace d2k::ort
