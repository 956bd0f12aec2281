// A 1x1 convolution as a custom operator of ONNX Runtime, d2serve.Pointwise, with a residual that is
// added before its ReLU, if it is given one.
//
// A sum may broadcast: what has a single row, column or image counts for all. Nothing says before the
// call whether it does, so what is smaller is then written out.

#include <algorithm>
#include <cstring>
#include <vector>

#include "layer_kernel.h"

namespace d2k::ort {
namespace {

using Kernel = LayerKernel<d2k_point_layer>;
using Sides = std::int64_t[4];

// What two sides are when they are broadcast; -1 where they cannot be.
std::int64_t together(std::int64_t one, std::int64_t other) {
  if (one == other || other == 1) return one;
  return one == 1 ? other : -1;
}

// The floats as they are with these sides, each of which is the tensor's own or counts a single one.
std::vector<float> written_out(const Input& input, const Sides& sides) {
  std::vector<float> written(static_cast<std::size_t>(sides[0] * sides[1] * sides[2] * sides[3]));
  const std::int64_t(&own)[4] = input.sides;
  const auto of = [&](int axis, std::int64_t at) { return own[axis] == 1 ? 0 : at; };
  float* to = written.data();
  for (std::int64_t n = 0; n < sides[0]; ++n)
    for (std::int64_t c = 0; c < sides[1]; ++c)
      for (std::int64_t y = 0; y < sides[2]; ++y, to += sides[3]) {
        const std::int64_t row = (of(0, n) * own[1] + of(1, c)) * own[2] + of(2, y);
        const float* from = input.floats() + row * own[3];
        if (own[3] == sides[3])
          std::copy_n(from, sides[3], to);
        else
          std::fill_n(to, sides[3], *from);
      }
  return written;
}

// Gives a tensor four sides, as a sum does: ones are put before its own.
void fill_up(Input& input) {
  const std::size_t missing = Input::kMostSides - input.rank;
  std::memmove(input.sides + missing, input.sides, input.rank * sizeof *input.sides);
  std::fill_n(input.sides, missing, std::int64_t{1});
  input.rank = Input::kMostSides;
}

bool same(const Sides& one, const Sides& other) { return std::equal(one, one + 4, other); }

Status* convolve(const Kernel& kernel, KernelContext* context) {
  const Api* api = kernel.api;
  const d2k_point_layer& layer = *kernel.layer;
  Input images, residual;
  if (Status* failed = kernel.read_images(context, images)) return failed;
  std::size_t given = 0;
  if (Status* failed = input_count(api, context, &given)) return failed;
  const bool adds = given > 1;
  Sides taken = {images.sides[0], layer.ins, images.sides[2], images.sides[3]};
  Sides added = {};
  std::vector<float> all_images, all_added;
  const float *from = images.floats(), *and_from = nullptr;
  if (adds) {
    if (Status* failed = read(api, context, 1, residual)) return failed;
    fill_up(residual);
    const std::int64_t by = layer.upsampled ? 2 : 1;
    taken[0] = together(taken[0], residual.sides[0]);
    taken[2] = together(taken[2], by * residual.sides[2]);
    taken[3] = together(taken[3], by * residual.sides[3]);
    const Sides wanted = {taken[0], together(layer.outs, residual.sides[1]), taken[2] / by,
                          taken[3] / by};
    std::copy_n(wanted, 4, added);
    const bool halves = taken[2] % by == 0 && taken[3] % by == 0;
    if (*std::min_element(taken, taken + 4) < 0 || added[1] != layer.outs || !halves)
      return create_status(api, INVALID_ARGUMENT, "What is to be added to a layer of d2serve has "
                                                  "another size than its result.");
    if (!same(images.sides, taken)) from = (all_images = written_out(images, taken)).data();
    and_from = residual.floats();
    if (!same(residual.sides, added)) and_from = (all_added = written_out(residual, added)).data();
  }
  const Sides sides = {taken[0], layer.outs, (taken[2] + layer.stride - 1) / layer.stride,
                       (taken[3] + layer.stride - 1) / layer.stride};
  float* result = nullptr;
  if (Status* failed = make_floats(api, context, sides, 4, &result)) return failed;
  return kernel.told(d2k_convolve_points(&layer, from, and_from, result, taken[0], taken[2], taken[3],
                                         kernel.threads));
}

Status* compute(void* given, KernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(given);
  try {
    return convolve(kernel, context);
  } catch (const std::bad_alloc&) {
    return kernel.told(D2K_NO_MEMORY);
  }
}

}  // namespace

CustomOp pointwise_operator() {
  CustomOp op = operator_of_a_layer<Kernel>();
  op.get_name = [](const CustomOp*) { return "Pointwise"; };
  // The images, and maybe the residual.
  op.get_input_characteristic = [](const CustomOp*, std::size_t) { return VARIADIC; };
  op.compute_with_status = compute;
  return op;
}

}  // namespace d2k::ort
