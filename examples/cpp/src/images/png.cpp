#include "images/png.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <string>

#include "d2serve_cpp/error.h"
#include "images/png_chunks.h"
#include "words.h"

namespace d2serve {
namespace {

/// libpng's state. It jumps out of an error, so whoever calls it has nothing to be destroyed.
struct Decoder {
    png_structp png = nullptr;
    png_infop info = nullptr;
    const std::uint8_t* next = nullptr;
    std::size_t left = 0;
    const Deadline* deadline = nullptr;
    bool out_of_time = false;
    char message[200] = "";

    Decoder() = default;
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;
    ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }
};

extern "C" {

static void leave(png_structp png, png_const_charp message) {
    auto* decoder = static_cast<Decoder*>(png_get_error_ptr(png));
    std::strncpy(decoder->message, message, sizeof decoder->message - 1);
    png_longjmp(png, 1);
}

static void say_nothing(png_structp, png_const_charp) {}

static void give(png_structp png, png_bytep to, std::size_t count) {
    auto* decoder = static_cast<Decoder*>(png_get_io_ptr(png));
    if (count > decoder->left) png_error(png, "it ends too early");
    std::memcpy(to, decoder->next, count);
    decoder->next += count;
    decoder->left -= count;
}
}

/// Whether the header was read.
bool read_header(Decoder& decoder) {
    if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
    png_set_read_fn(decoder.png, &decoder, give);
    // The size was compared with the limits already.
    png_set_user_limits(decoder.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_crc_action(decoder.png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    // What stands beside the pixels is read by chunks_of.
    png_set_keep_unknown_chunks(decoder.png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_read_info(decoder.png, decoder.info);
    if (png_get_bit_depth(decoder.png, decoder.info) < 8) png_set_packing(decoder.png);
    return true;
}

/// Whether all rows were read. Each pass of an interlaced picture fills in its own pixels.
bool read_rows(Decoder& decoder, std::uint8_t* rows, std::size_t row_bytes, std::uint32_t height) {
    if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
    const int passes = png_set_interlace_handling(decoder.png);
    png_start_read_image(decoder.png);
    for (int pass = 0; pass < passes; ++pass) {
        for (std::uint32_t y = 0; y < height; ++y) {
            if (decoder.deadline->is_over()) {
                decoder.out_of_time = true;
                return false;
            }
            png_read_row(decoder.png, rows + y * row_bytes, nullptr);
        }
    }
    return true;
}

[[noreturn]] void refuse(const Decoder& decoder, const FileBytes& file) {
    if (decoder.out_of_time) decoder.deadline->refuse();
    refuse_damaged(file, "PNG", decoder.message);
}

std::size_t samples_of(int colour_type) {
    constexpr std::size_t samples[] = {1, 0, 3, 1, 2, 0, 4};
    return colour_type >= 0 && colour_type <= 6 ? samples[colour_type] : 0;
}

Mode mode_of(const PngChunks& chunks) {
    switch (chunks.colour_type) {
        case PNG_COLOR_TYPE_GRAY:
            if (chunks.bits == 16) return Mode::grey_16;
            return chunks.bits == 1 ? Mode::bits : Mode::grey;
        case PNG_COLOR_TYPE_PALETTE:
            return Mode::palette;
        case PNG_COLOR_TYPE_GRAY_ALPHA:  // of 16 bits Pillow makes colours
            return chunks.bits == 16 ? Mode::rgba : Mode::grey_alpha;
        case PNG_COLOR_TYPE_RGB_ALPHA:
            return Mode::rgba;
        default:
            return Mode::rgb;
    }
}

/// Grey of fewer bits spread over 0 to 255, and of 16 bits the upper bytes.
std::vector<std::uint8_t> as_bytes(std::vector<std::uint8_t> raw, const PngChunks& chunks) {
    if (chunks.colour_type == PNG_COLOR_TYPE_GRAY && chunks.bits < 8) {
        const int step = 255 / ((1 << chunks.bits) - 1);
        for (std::uint8_t& each : raw) each = static_cast<std::uint8_t>(each * step);
    }
    if (chunks.bits != 16 || chunks.colour_type == PNG_COLOR_TYPE_GRAY) return raw;
    std::vector<std::uint8_t> made;
    if (chunks.colour_type == PNG_COLOR_TYPE_GRAY_ALPHA) {
        for (std::size_t i = 0; i < raw.size(); i += 4) {
            made.insert(made.end(), {raw[i], raw[i], raw[i], raw[i + 2]});
        }
    } else {
        made.resize(raw.size() / 2);
        for (std::size_t i = 0; i < made.size(); ++i) made[i] = raw[2 * i];
    }
    return made;
}

}  // namespace

Samples read_png(const FileBytes& file, const RequestLimits& limits, Metadata& metadata) {
    const Deadline deadline(limits);
    PngChunks chunks = chunks_of(file);
    check_pixel_count(chunks.width, chunks.height, limits);
    if (chunks.frames > limits.max_frames) {
        throw Error("Got an image file of more than " + grouped(limits.max_frames) +
                    " frames, of which only the first would be answered. Send that frame alone.");
    }
    metadata = std::move(chunks.metadata);
    Decoder decoder;
    decoder.next = file.data();
    decoder.left = file.size();
    decoder.deadline = &deadline;
    decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, leave, say_nothing);
    if (decoder.png != nullptr) decoder.info = png_create_info_struct(decoder.png);
    if (decoder.info == nullptr) throw Error("There is no memory to read a PNG file.");
    if (!read_header(decoder)) refuse(decoder, file);
    const std::size_t row_bytes = static_cast<std::size_t>(chunks.width) *
                                  samples_of(chunks.colour_type) * (chunks.bits == 16 ? 2 : 1);
    std::vector<std::uint8_t> raw(row_bytes * chunks.height);
    if (!read_rows(decoder, raw.data(), row_bytes, chunks.height)) refuse(decoder, file);
    Samples samples;
    samples.height = static_cast<int>(chunks.height);
    samples.width = static_cast<int>(chunks.width);
    samples.mode = mode_of(chunks);
    samples.values = as_bytes(std::move(raw), chunks);
    samples.palette = std::move(chunks.palette);
    samples.transparency = std::move(chunks.transparency);
    return samples;
}

}  // namespace d2serve
