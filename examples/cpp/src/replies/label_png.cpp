#include "replies/label_png.h"

#include <png.h>
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "d2serve_cpp/error.h"

namespace d2serve {
namespace {

void append(png_structp png, png_bytep bytes, png_size_t count) {
    auto* text = static_cast<std::string*>(png_get_io_ptr(png));
    text->append(reinterpret_cast<const char*>(bytes), count);
}

void stop(png_structp, png_const_charp message) {
    throw Error(std::string("The label map cannot be written as PNG (") + message +
                "). Free some memory.");
}

struct Writer {
    Writer() : png(png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, stop, nullptr)) {
        if (png != nullptr) info = png_create_info_struct(png);
        if (info == nullptr) stop(png, "no memory");
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
    ~Writer() { png_destroy_write_struct(&png, &info); }

    png_structp png;
    png_infop info = nullptr;
};

}  // namespace

std::string png_of_labels(const LabelMap& map) {
    const auto [least, most] = std::minmax_element(map.labels.begin(), map.labels.end());
    if (map.labels.empty() || *least < 0 || *most > 65535) {
        throw Error("The model answered a label map with labels below 0 or above 65535. Check the "
                    "archive with `d2serve verify`.");
    }
    const int bytes = *most <= 255 ? 1 : 2;
    std::string made;
    Writer writer;
    png_set_write_fn(writer.png, &made, append, nullptr);
    png_set_IHDR(writer.png, writer.info, static_cast<png_uint_32>(map.width),
                 static_cast<png_uint_32>(map.height), 8 * bytes, PNG_COLOR_TYPE_GRAY,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    // Labels repeat themselves along a line: zlib's run-length strategy is fast, and no larger.
    png_set_compression_strategy(writer.png, Z_RLE);
    png_write_info(writer.png, writer.info);
    std::vector<png_byte> row;
    for (int y = 0; y < map.height; ++y) {
        row.clear();
        for (int x = 0; x < map.width; ++x) {
            const std::int32_t label = map.labels[static_cast<std::size_t>(y) * map.width + x];
            if (bytes == 2) row.push_back(static_cast<png_byte>(label >> 8));
            row.push_back(static_cast<png_byte>(label & 255));
        }
        png_write_row(writer.png, row.data());
    }
    png_write_end(writer.png, nullptr);
    return made;
}

}  // namespace d2serve
