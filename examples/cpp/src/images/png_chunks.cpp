#include "images/png_chunks.h"

#include <zlib.h>

#include <algorithm>
#include <string_view>

namespace d2serve {
namespace {

constexpr int kMostChunks = 100'000;
constexpr std::size_t kMostText = 1 << 20, kMostTextInAll = 64 << 20;  // as Pillow unpacks
constexpr std::string_view kRawProfile = "Raw profile type exif", kXmp = "XML:com.adobe.xmp";

/// Up to the first zero byte, which is dropped with it from the text.
std::string_view take_word(std::string_view& text) {
    const std::size_t end = text.find('\0');
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return word;
}

/// Counts what it unpacks, and refuses the file when that is more than any software writes.
std::string inflated(std::string_view packed, std::size_t& unpacked) {
    std::string text(kMostText, '\0');
    z_stream stream{};
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(text.data());
    stream.avail_out = static_cast<uInt>(text.size());
    if (inflateInit(&stream) != Z_OK) return "";
    const int status = inflate(&stream, Z_FINISH);
    text.resize(text.size() - stream.avail_out);
    inflateEnd(&stream);
    unpacked += text.size();
    if (unpacked > kMostTextInAll) refuse_pieces();
    return status == Z_STREAM_END ? text : "";
}

void keep(std::string_view name, std::string text, Metadata& metadata) {
    if (name == kRawProfile)
        metadata.raw_profile = std::move(text);
    else if (name == kXmp)
        metadata.xmp = std::move(text);
    else if (name == "exif")
        metadata.exif = std::move(text);
}

void read_international(std::string_view text, PngChunks& chunks) {
    const std::string_view name = take_word(text);
    if (text.size() < 2 || (name != kXmp && name != kRawProfile)) return;
    const bool packed = text[0] != 0;
    if (packed && text[1] != 0) return;
    text.remove_prefix(2);
    take_word(text);
    take_word(text);
    keep(name, packed ? inflated(text, chunks.unpacked) : std::string(text), chunks.metadata);
}

void read_chunk(std::string_view kind, std::string_view data, PngChunks& chunks) {
    if (kind == "PLTE") {
        chunks.palette.assign(data.begin(), data.end());
    } else if (kind == "tRNS") {
        chunks.transparency = data;
    } else if (kind == "eXIf") {
        chunks.metadata.exif = data;
    } else if (kind == "tEXt") {
        const std::string_view name = take_word(data);
        keep(name, std::string(data), chunks.metadata);
    } else if (kind == "zTXt") {
        const std::string_view name = take_word(data);
        const bool wanted = name == kRawProfile || name == kXmp;
        if (wanted && !data.empty()) {
            keep(name, inflated(data.substr(1), chunks.unpacked), chunks.metadata);
        }
    } else if (kind == "iTXt") {
        read_international(data, chunks);
    } else if (kind == "acTL" && data.size() >= 4) {
        chunks.frames = 0;
        for (const char c : data.substr(0, 4)) {
            chunks.frames = chunks.frames << 8 | static_cast<unsigned char>(c);
        }
    }
}

}  // namespace

PngChunks chunks_of(const FileBytes& file) {
    PngChunks chunks;
    constexpr std::size_t header = 8 + 8 + 13;
    if (!file.has(0, header) || file.text(12, 4) != "IHDR") {
        refuse_damaged(file, "PNG", "its header is missing");
    }
    chunks.width = file.u32(16);
    chunks.height = file.u32(20);
    chunks.bits = file[24];
    chunks.colour_type = file[25];
    bool after_pixels = false;
    std::size_t at = 8;
    for (int i = 0; file.has(at, 12); ++i) {
        if (i == kMostChunks) refuse_pieces();
        const std::size_t length = file.u32(at);
        const std::string_view kind = file.text(at + 4, 4);
        if (kind == "IDAT") {
            // Pillow reads on only where it knows of no orientation yet.
            after_pixels = true;
        } else if (kind == "IEND" || !file.has(at + 8, length)) {
            break;
        } else if (!after_pixels || (!chunks.metadata.exif && kind != "PLTE" && kind != "tRNS")) {
            read_chunk(kind, file.text(at + 8, length), chunks);
        }
        if (!file.has(at, length)) break;
        at += 12 + length;
    }
    return chunks;
}

}  // namespace d2serve
