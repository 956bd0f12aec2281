#include "images/jpeg.h"

#include <csetjmp>
#include <cstdio>
#include <optional>
#include <string>

// After stdio, which it needs.
#include <jpeglib.h>

#include "d2serve_cpp/error.h"
#include "images/jpeg_outline.h"

namespace d2serve {
namespace {

/// libjpeg's state. It jumps out of an error, so whoever calls it has nothing to be destroyed.
struct Decoder {
    jpeg_decompress_struct info{};
    jpeg_error_mgr errors{};
    jpeg_source_mgr source{};
    jpeg_progress_mgr progress{};
    std::jmp_buf failed{};
    char message[JMSG_LENGTH_MAX] = "";
    const Deadline* deadline = nullptr;
    bool out_of_time = false;

    Decoder() = default;
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;
    ~Decoder() { jpeg_destroy_decompress(&info); }
};

Decoder& decoder_of(j_common_ptr info) {
    return *static_cast<Decoder*>(info->client_data);
}

extern "C" {

static void leave(j_common_ptr info) {
    Decoder& decoder = decoder_of(info);
    (*info->err->format_message)(info, decoder.message);
    std::longjmp(decoder.failed, 1);
}

static void say_nothing(j_common_ptr, int) {}

static void nothing(j_decompress_ptr) {}

/// There is no more than was given, so what is cut off is never read as grey.
static boolean no_more(j_decompress_ptr) {
    return FALSE;
}

static void skip(j_decompress_ptr info, long count) {
    if (count <= 0) return;
    const auto wanted = static_cast<std::size_t>(count);
    const std::size_t some =
        wanted < info->src->bytes_in_buffer ? wanted : info->src->bytes_in_buffer;
    info->src->next_input_byte += some;
    info->src->bytes_in_buffer -= some;
}

static void watch(j_common_ptr info) {
    Decoder& decoder = decoder_of(info);
    if (!decoder.deadline->is_over()) return;
    decoder.out_of_time = true;
    std::longjmp(decoder.failed, 1);
}
}

void prepare(Decoder& decoder, const FileBytes& file, const Deadline& deadline) {
    decoder.deadline = &deadline;
    decoder.info.err = jpeg_std_error(&decoder.errors);
    decoder.errors.error_exit = leave;
    decoder.errors.emit_message = say_nothing;
    decoder.info.client_data = &decoder;
    decoder.source.next_input_byte = file.data();
    decoder.source.bytes_in_buffer = file.size();
    decoder.source.init_source = nothing;
    decoder.source.fill_input_buffer = no_more;
    decoder.source.skip_input_data = skip;
    decoder.source.resync_to_restart = jpeg_resync_to_restart;
    decoder.source.term_source = nothing;
    decoder.progress.progress_monitor = watch;
}

/// Whether the header was read; false where the file ends before.
bool read_header(Decoder& decoder) {
    if (setjmp(decoder.failed) != 0) return false;
    jpeg_create_decompress(&decoder.info);
    decoder.info.client_data = &decoder;
    decoder.info.src = &decoder.source;
    decoder.info.progress = &decoder.progress;
    jpeg_save_markers(&decoder.info, JPEG_APP0 + 1, 0xffff);
    return jpeg_read_header(&decoder.info, TRUE) == JPEG_HEADER_OK;
}

/// Whether all rows were read.
bool read_rows(Decoder& decoder, JSAMPLE* pixels, std::size_t row_bytes) {
    if (setjmp(decoder.failed) != 0) return false;
    if (!jpeg_start_decompress(&decoder.info)) return false;
    while (decoder.info.output_scanline < decoder.info.output_height) {
        JSAMPROW row = pixels + decoder.info.output_scanline * row_bytes;
        if (jpeg_read_scanlines(&decoder.info, &row, 1) != 1) return false;
    }
    return true;
}

[[noreturn]] void refuse(const Decoder& decoder, const FileBytes& file) {
    if (decoder.out_of_time) decoder.deadline->refuse();
    refuse_damaged(file, "JPEG",
                   decoder.message[0] != '\0' ? decoder.message : "it ends too early");
}

void read_metadata(const Decoder& decoder, Metadata& metadata) {
    using namespace std::string_view_literals;
    constexpr auto exif = "Exif\0\0"sv, xmp = "http://ns.adobe.com/xap/1.0/\0"sv;
    for (auto* marker = decoder.info.marker_list; marker != nullptr; marker = marker->next) {
        const std::string_view text(reinterpret_cast<const char*>(marker->data),
                                    marker->data_length);
        if (text.starts_with(exif)) {
            if (!metadata.exif) metadata.exif = exif;
            *metadata.exif += text.substr(exif.size());
        } else if (text.starts_with(xmp)) {
            metadata.xmp = text.substr(xmp.size());
        }
    }
}

}  // namespace

Samples read_jpeg(const FileBytes& file, const RequestLimits& limits, Metadata& metadata) {
    const Deadline deadline(limits);
    const JpegOutline outline = outline_of(file);
    if (outline.fragmented) refuse_pieces();
    if (!outline.kind.empty()) refuse_kind(file, outline.kind);
    Decoder decoder;
    prepare(decoder, file, deadline);
    if (!read_header(decoder)) refuse(decoder, file);
    const auto width = decoder.info.image_width, height = decoder.info.image_height;
    check_pixel_count(width, height, limits);
    check_scans(outline.scans, width, height, limits);
    const int components = decoder.info.num_components;
    if (decoder.info.arith_code) refuse_kind(file, "a JPEG with arithmetic coding");
    if (components == 4) {
        throw Error(
            "Got a JPEG in four colours for print (CMYK), which this program does not read. "
            "Save it in RGB.");
    }
    if (components != 1 && components != 3) {
        refuse_kind(file, "a JPEG of " + std::to_string(components) + " components");
    }
    decoder.info.out_color_space = components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    read_metadata(decoder, metadata);
    Samples samples;
    samples.height = static_cast<int>(height);
    samples.width = static_cast<int>(width);
    samples.mode = components == 1 ? Mode::grey : Mode::rgb;
    const std::size_t row_bytes =
        static_cast<std::size_t>(width) * static_cast<std::size_t>(components);
    samples.values.resize(row_bytes * height);
    if (!read_rows(decoder, samples.values.data(), row_bytes)) refuse(decoder, file);
    return samples;
}

}  // namespace d2serve
