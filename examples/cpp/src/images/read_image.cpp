// From an image file to the pixels that a model takes: as handlers/requests/decoding.py reads them.
#include <cerrno>
#include <cstring>
#include <fstream>

#include "d2serve_cpp/error.h"
#include "d2serve_cpp/image.h"
#include "images/jpeg.h"
#include "images/png.h"
#include "words.h"

namespace d2serve {
namespace {

constexpr std::string_view kJpeg = "\xff\xd8\xff", kPng = "\x89PNG\r\n\x1a\n";
constexpr int kMostChannels = 4;

/// The format's name, of formats that Python reads and this program does not.
const char* other_format(const FileBytes& file) {
    if (file.starts_with("GIF8")) return "a GIF file";
    if (file.starts_with("BM")) return "a BMP file";
    if (file.starts_with("RIFF") && file.text(8, 4) == "WEBP") return "a WebP file";
    const std::string_view start = file.text(0, 2);
    if (start == "II" || start == "MM") return "a TIFF file";
    return nullptr;
}

[[noreturn]] void refuse_format(const FileBytes& file) {
    const std::string got = "Got " + std::to_string(file.size()) + " bytes that are ";
    if (const char* other = other_format(file)) {
        throw Error(got + other + ", expected a JPEG or PNG file. Save the image as one of these.");
    }
    throw Error(got +
                "no JPEG or PNG file. Give the path of an image file of one of these formats.");
}

void check_bytes(std::uintmax_t size, const RequestLimits& limits) {
    if (size > static_cast<std::uintmax_t>(limits.max_image_bytes)) {
        throw Error("Got an image file of " + grouped(static_cast<std::int64_t>(size)) +
                    " bytes, expected at most " + grouped(limits.max_image_bytes) +
                    ". Send it as JPEG, or scale it down: the model resizes it anyway.");
    }
}

}  // namespace

Image read_image(std::span<const std::byte> bytes, const ImageForm& form,
                 const RequestLimits& limits) {
    const FileBytes file(bytes);
    if (file.size() == 0) throw Error("Got no bytes, expected an image file.");
    check_bytes(file.size(), limits);
    const bool is_jpeg = file.starts_with(kJpeg), is_png = file.starts_with(kPng);
    if (!is_jpeg && !is_png) refuse_format(file);
    if (form.channels > kMostChannels) {
        throw Error("Got a JPEG or PNG file, which holds " + std::to_string(kMostChannels) +
                    " bands at most, and this model takes " + std::to_string(form.channels) +
                    ". Hand its pixels to the library d2serve_cpp.");
    }
    Metadata metadata;
    const Samples samples =
        is_jpeg ? read_jpeg(file, limits, metadata) : read_png(file, limits, metadata);
    Image image = upright(bands_of(samples, form), orientation_of(metadata));
    if (is_png && file[24] == 16) {
        image.converted = form.sixteen_bit == "read_image" ? "16-bit to 8-bit, as by read_image"
                                                           : "16-bit to 8-bit";
    }
    return image;
}

Image read_image_file(const std::filesystem::path& path, const ImageForm& form,
                      const RequestLimits& limits) {
    std::error_code failed;
    if (std::filesystem::is_directory(path, failed)) {
        throw Error(path.string() + " is a folder, expected a JPEG or PNG file.");
    }
    std::ifstream in(path, std::ios::binary);
    if (!in) {
        throw Error(path.string() + " cannot be read (" + std::strerror(errno) +
                    "): expected a JPEG or PNG file. Correct the path or its permissions.");
    }
    std::vector<char> bytes;
    std::vector<char> block(1 << 20);
    while (in) {
        in.read(block.data(), static_cast<std::streamsize>(block.size()));
        bytes.insert(bytes.end(), block.begin(), block.begin() + in.gcount());
        check_bytes(bytes.size(), limits);
    }
    return read_image(std::as_bytes(std::span(bytes)), form, limits);
}

}  // namespace d2serve
