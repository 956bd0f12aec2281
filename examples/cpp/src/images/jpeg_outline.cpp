#include "images/jpeg_outline.h"

#include <sstream>

#include "d2serve_cpp/error.h"

namespace d2serve {
namespace {

constexpr int kMostSegments = 10'000;
// A scan costs libjpeg 2 ns for each pixel of the picture, even if it says nothing; 5 on a busy
// CPU.
constexpr double kScannedPixelsPerSecond = 200e6;

std::string kind_of(std::uint8_t marker, std::uint8_t bits) {
    switch (marker) {
        case 0xc3:
        case 0xc7:
        case 0xcb:
        case 0xcf:
            return "a lossless JPEG";
        case 0xc5:
        case 0xc6:
        case 0xcd:
        case 0xce:
            return "a hierarchical JPEG";
        case 0xc9:
        case 0xca:
            return "a JPEG with arithmetic coding";
        case 0xf7:
            return "a JPEG-LS file";
        case 0xc0:
        case 0xc1:
        case 0xc2:
            return bits == 8 ? "" : "a JPEG of " + std::to_string(bits) + " bits";
        default:
            return "";
    }
}

std::size_t scans_in(const FileBytes& file) {
    // What is entropy-coded has no such pair of bytes; a thumbnail has one and adds one.
    const std::string_view data = file.text(0, file.size());
    std::size_t scans = 0;
    for (std::size_t at = data.find("\xff\xda"); at != std::string_view::npos;
         at = data.find("\xff\xda", at + 2)) {
        ++scans;
    }
    return scans;
}

}  // namespace

JpegOutline outline_of(const FileBytes& file) {
    JpegOutline outline;
    std::size_t at = 2;
    int components = 0;
    for (int i = 0; i < kMostSegments; ++i) {
        if (!file.has(at, 2) || file[at] != 0xff) return outline;
        const std::uint8_t marker = file[at + 1];
        if (marker == 0xda) {
            const bool all = file.has(at, 5) && components == file[at + 4];
            if (!all) outline.scans = scans_in(file);
            return outline;  // where all is in this scan, libjpeg stops after it
        }
        if (marker == 0x00 || marker == 0xff) {  // filling
            ++at;
            continue;
        }
        if (outline.kind.empty())
            outline.kind = kind_of(marker, file.has(at, 5) ? file[at + 4] : 8);
        // The only frames of one scan.
        if ((marker == 0xc0 || marker == 0xc1) && file.has(at, 10)) components = file[at + 9];
        at += 2;
        if (marker >= 0xd0 && marker <= 0xd8) continue;
        if (!file.has(at, 2)) return outline;
        at += file.u16(at);
    }
    outline.fragmented = true;
    return outline;
}

void check_scans(std::size_t scans, std::uint32_t width, std::uint32_t height,
                 const RequestLimits& limits) {
    const double pixels = static_cast<double>(scans) * width * height;
    if (scans <= 1 || pixels <= limits.max_decode_seconds * kScannedPixelsPerSecond) return;
    std::ostringstream seconds;
    seconds << limits.max_decode_seconds;
    throw Error("Got a JPEG of " + std::to_string(width) + "x" + std::to_string(height) +
                " pixels in " + std::to_string(scans) + " scans, which takes more than " +
                seconds.str() +
                " s to decode. Save it again, with the usual 10 or as baseline JPEG.");
}

}  // namespace d2serve
