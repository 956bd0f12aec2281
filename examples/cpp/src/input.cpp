// Resizes and lays out an image as detectron2 does. Normalisation and padding are inside the
// program and must not happen here a second time.
#include "d2serve_cpp/input.h"

#include <algorithm>
#include <string>

#include "d2serve_cpp/error.h"
#include "interpolation.h"
#include "words.h"

namespace d2serve {
namespace {

void check(const Image& image, const Spec& spec) {
    const auto values = static_cast<std::size_t>(std::max(image.height, 0)) *
                        static_cast<std::size_t>(std::max(image.width, 0)) *
                        static_cast<std::size_t>(std::max(image.channels, 0));
    if (image.channels != spec.channels || values == 0 || values != image.pixels.size()) {
        throw Error("Got an image of " + std::to_string(image.width) + "x" +
                    std::to_string(image.height) + " pixels of " + std::to_string(image.channels) +
                    " channels in " + std::to_string(image.pixels.size()) + " bytes, expected " +
                    std::to_string(spec.channels) + " channels (" + spec.image_format +
                    " of the model, colours in RGB order), one byte each. Read it with "
                    "read_image_file(path, spec.image_form()).");
    }
    const std::int64_t most = spec.limits.max_input_pixels * 3 / std::max(spec.channels, 3);
    const std::int64_t pixels = static_cast<std::int64_t>(image.height) * image.width;
    if (spec.min_size_test == 0 && pixels > most) {
        throw Error("Got an image of " + std::to_string(image.width) + "x" +
                    std::to_string(image.height) + " pixels, expected at most " + grouped(most) +
                    " pixels: this model takes images as they are and does not resize them. Scale "
                    "it down.");
    }
}

/// Row by row and channel by channel to channel by channel; colours of BGR models turned round.
template <class Value>
std::vector<float> laid_out(const std::vector<Value>& pixels, int channels, bool turned) {
    const std::size_t each = pixels.size() / static_cast<std::size_t>(channels);
    std::vector<float> tensor(pixels.size());
    for (int c = 0; c < channels; ++c) {
        const Value* in = pixels.data() + (turned ? channels - 1 - c : c);
        float* out = tensor.data() + each * static_cast<std::size_t>(c);
        for (std::size_t i = 0; i < each; ++i, in += channels) out[i] = static_cast<float>(*in);
    }
    return tensor;
}

}  // namespace

std::pair<int, int> resized_shape(int height, int width, int min_size, int max_size) {
    if (min_size == 0) return {height, width};
    double scale = min_size * 1.0 / std::min(height, width);
    double new_height = height < width ? min_size * 1.0 : scale * height;
    double new_width = height < width ? scale * width : min_size * 1.0;
    if (std::max(new_height, new_width) > max_size) {
        scale = max_size * 1.0 / std::max(new_height, new_width);
        new_height *= scale;
        new_width *= scale;
    }
    // detectron2 fails on the size 0 that an extreme aspect ratio gives; one pixel answers it.
    return {std::max(static_cast<int>(new_height + 0.5), 1),
            std::max(static_cast<int>(new_width + 0.5), 1)};
}

ModelInput preprocess(const Image& image, const Spec& spec) {
    check(image, spec);
    ModelInput made;
    made.channels = image.channels;
    made.height = image.height;
    made.width = image.width;
    std::tie(made.resized_height, made.resized_width) =
        resized_shape(image.height, image.width, spec.min_size_test, spec.max_size_test);
    const bool same = made.resized_height == image.height && made.resized_width == image.width;
    const bool turned = spec.image_format == "BGR";
    if (image.channels > 4 && !same) {
        made.tensor = laid_out(interpolated(image, made.resized_height, made.resized_width),
                               image.channels, turned);
    } else if (same) {
        made.tensor = laid_out(image.pixels, image.channels, turned);
    } else {
        made.tensor = laid_out(resized(image, made.resized_height, made.resized_width).pixels,
                               image.channels, turned);
    }
    return made;
}

}  // namespace d2serve
