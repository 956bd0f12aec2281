// As Pillow's `convert` goes from one mode to another, quirks of transparency included.
#include "images/samples.h"

#include <algorithm>
#include <functional>

#include "d2serve_cpp/error.h"

namespace d2serve {
namespace {

/// ITU-R 601-2, in whole numbers (Convert.c).
std::uint8_t luma(const std::uint8_t* rgb) {
    return static_cast<std::uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >>
                                     16);
}

std::size_t bytes_of(Mode mode) {
    switch (mode) {
        case Mode::bits:
        case Mode::grey:
        case Mode::palette:
            return 1;
        case Mode::grey_16:
        case Mode::grey_alpha:
            return 2;
        case Mode::rgb:
            return 3;
        case Mode::rgba:
            return 4;
    }
    return 1;
}

const char* name_of(Mode mode) {
    switch (mode) {
        case Mode::bits:
        case Mode::grey:
            return "L";
        case Mode::grey_16:
            return "I;16";
        case Mode::grey_alpha:
            return "LA";
        case Mode::palette:
        case Mode::rgb:
            return "RGB";
        case Mode::rgba:
            return "RGBA";
    }
    return "";
}

using Pixel = std::array<std::uint8_t, 4>;

/// Red, green, blue and alpha of a palette's colours; those that it lacks are black.
std::vector<Pixel> colours_of(const Samples& samples) {
    std::vector<Pixel> colours(256, Pixel{0, 0, 0, 255});
    for (std::size_t i = 0; i < colours.size(); ++i) {
        if (3 * i + 2 < samples.palette.size()) {
            std::copy_n(samples.palette.begin() + static_cast<std::ptrdiff_t>(3 * i), 3,
                        colours[i].begin());
        }
    }
    return colours;
}

int number_in(const std::string& bytes, std::size_t at) {
    return static_cast<unsigned char>(bytes[at]) << 8 | static_cast<unsigned char>(bytes[at + 1]);
}

/// Which colour is transparent, by its lower bytes, with which Pillow compares.
std::optional<Pixel> transparent_colour(const Samples& samples) {
    const auto& said = samples.transparency;
    if (!said || said->size() < (samples.mode == Mode::rgb ? 6U : 2U)) return std::nullopt;
    if (samples.mode == Mode::rgb) {
        return Pixel{static_cast<std::uint8_t>(number_in(*said, 0)),
                     static_cast<std::uint8_t>(number_in(*said, 2)),
                     static_cast<std::uint8_t>(number_in(*said, 4)), 255};
    }
    int grey = number_in(*said, 0);
    if (samples.mode == Mode::bits) grey = grey != 0 ? 255 : 0;
    const auto value = static_cast<std::uint8_t>(grey);
    return Pixel{value, value, value, 255};
}

/// Gives each pixel as red, green, blue and alpha.
std::function<Pixel(const std::uint8_t*)> reading(const Samples& samples, bool cut_off,
                                                  bool with_alpha) {
    switch (samples.mode) {
        case Mode::palette: {
            std::vector<Pixel> colours = colours_of(samples);
            if (samples.transparency) {
                const std::string& alphas = *samples.transparency;
                for (std::size_t i = 0; i < std::min(alphas.size(), colours.size()); ++i) {
                    colours[i][3] = static_cast<std::uint8_t>(alphas[i]);
                }
            }
            return [colours = std::move(colours)](const std::uint8_t* in) { return colours[*in]; };
        }
        case Mode::grey_alpha:
            return [](const std::uint8_t* in) { return Pixel{in[0], in[0], in[0], in[1]}; };
        case Mode::rgba:
            return [](const std::uint8_t* in) { return Pixel{in[0], in[1], in[2], in[3]}; };
        case Mode::grey_16:
            if (cut_off) {
                return [](const std::uint8_t* in) {
                    const std::uint8_t grey = in[0] != 0 ? 255 : in[1];
                    return Pixel{grey, grey, grey, 255};
                };
            }
            return [](const std::uint8_t* in) { return Pixel{in[0], in[0], in[0], 255}; };
        case Mode::bits:
        case Mode::grey:
        case Mode::rgb:
            break;
    }
    const std::size_t step = samples.mode == Mode::rgb ? 1 : 0;
    const auto transparent = with_alpha ? transparent_colour(samples) : std::nullopt;
    return [step, transparent](const std::uint8_t* in) {
        Pixel pixel = {in[0], in[step], in[2 * step], 255};
        if (pixel == transparent) pixel[3] = 0;
        return pixel;
    };
}

std::string counted(int bands) {
    return std::to_string(bands) + (bands == 1 ? " band" : " bands");
}

/// Of a model that takes a file's own bands: how many its file has, indices and bits put aside.
int bands_in(const Samples& samples) {
    if (samples.mode == Mode::grey_16) return 1;
    if (samples.mode == Mode::palette) return samples.transparency ? 4 : 3;
    return static_cast<int>(bytes_of(samples.mode));
}

}  // namespace

Image bands_of(const Samples& samples, const ImageForm& form) {
    int channels = form.channels;
    const bool as_they_are = form.image_format == "bands";
    if (as_they_are) {
        channels = bands_in(samples);
        if (channels != form.channels) {
            throw Error(
                "Got an image of " + counted(channels) + " (" + name_of(samples.mode) +
                "), expected " + std::to_string(form.channels) +
                ", as they are: this model takes bands in the model's order. Send a PNG of " +
                counted(form.channels) + ".");
        }
    }
    Image made{samples.height, samples.width, channels, {}, {}};
    const std::size_t count =
        static_cast<std::size_t>(samples.height) * static_cast<std::size_t>(samples.width);
    made.pixels.resize(count * static_cast<std::size_t>(channels));
    const auto pixel_at =
        reading(samples, form.sixteen_bit == "read_image", channels == 4 && !as_they_are);
    const bool to_luma = form.image_format == "L" && samples.mode != Mode::grey_16 &&
                         samples.mode != Mode::grey && samples.mode != Mode::bits &&
                         samples.mode != Mode::grey_alpha;
    const std::uint8_t* in = samples.values.data();
    std::uint8_t* out = made.pixels.data();
    for (std::size_t i = 0; i < count; ++i, in += bytes_of(samples.mode)) {
        const Pixel pixel = pixel_at(in);
        if (channels == 1) {
            *out++ = to_luma ? luma(pixel.data()) : pixel[0];
        } else if (channels == 2) {
            *out++ = pixel[0];
            *out++ = pixel[3];
        } else {
            out = std::copy_n(pixel.data(), channels, out);
        }
    }
    return made;
}

}  // namespace d2serve
