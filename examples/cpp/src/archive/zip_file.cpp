#include "archive/zip_file.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>

#include "d2serve_cpp/error.h"
#include "words.h"

namespace d2serve {
namespace {

// Records of the format: APPNOTE.TXT, 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
constexpr std::uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50, kLocator = 0x07064b50;
constexpr std::size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22;
constexpr std::size_t kEnd64Size = 56, kLocatorSize = 20, kLongestComment = 65'535;
constexpr std::uint16_t kEncrypted = 1, kStored = 0, kDeflated = 8, kZip64 = 1;

constexpr std::uint64_t kMostEntries = 100'000;
constexpr std::uint64_t kMostBytesOfAnEntry = 1 << 10;
constexpr std::uint64_t kSmall = 64 << 20;
constexpr std::uint64_t kMostTimesItsSize = 100;
constexpr std::size_t kBlock = 1 << 18;

template <class Number>
Number number_at(std::span<const std::uint8_t> bytes, std::size_t at) {
    Number value = 0;
    for (std::size_t i = sizeof(Number); i > 0; --i) {
        value = static_cast<Number>(static_cast<std::uint64_t>(value) << 8 | bytes[at + i - 1]);
    }
    return value;
}

constexpr auto u16 = number_at<std::uint16_t>;
constexpr auto u32 = number_at<std::uint32_t>;
constexpr auto u64 = number_at<std::uint64_t>;

bool is_outside(std::string name) {
    std::replace(name.begin(), name.end(), '\\', '/');
    std::size_t parts = 0;
    for (std::size_t at = 0; at <= name.size();) {
        const std::size_t end = std::min(name.find('/', at), name.size());
        const std::string part = name.substr(at, end - at);
        if (part == "..") return true;
        if (!part.empty() && part != ".") {
            if (parts == 0 && part.find(':') != std::string::npos) return true;
            ++parts;
        }
        at = end + 1;
    }
    return parts == 0 || name.front() == '/';
}

}  // namespace

ZipFile::ZipFile(const std::filesystem::path& path) : path_(path), in_(path, std::ios::binary) {
    std::error_code failed;
    size_ = std::filesystem::file_size(path, failed);
    if (failed || !in_) {
        throw Error(path.string() +
                    " cannot be read: expected a .mar made by `d2serve export`. "
                    "Correct the path or its permissions.");
    }
    const auto start = bytes_at(0, std::min<std::uint64_t>(size_, 4));
    const bool is_zip = start.size() == 4 && (u32(start, 0) == kLocal || u32(start, 0) == kEnd);
    if (!is_zip) {
        throw Error(path.string() +
                    " is no archive: a .mar is a zip file, and it begins otherwise. "
                    "Give the file that `d2serve export` wrote.");
    }
    read_directory();
    check_totals();
}

std::vector<std::uint8_t> ZipFile::bytes_at(std::uint64_t offset, std::uint64_t count) {
    if (offset > size_ || count > size_ - offset) damaged("it ends too early");
    std::vector<std::uint8_t> bytes(count);
    in_.clear();
    in_.seekg(static_cast<std::streamoff>(offset));
    in_.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(count));
    if (!in_) damaged("it cannot be read");
    return bytes;
}

void ZipFile::read_directory() {
    const std::uint64_t tail_size = std::min<std::uint64_t>(size_, kEndSize + kLongestComment);
    const auto tail = bytes_at(size_ - tail_size, tail_size);
    std::size_t at = tail.size() < kEndSize ? 0 : tail.size() - kEndSize + 1;
    while (at > 0 && u32(tail, at - 1) != kEnd) --at;
    if (at == 0) damaged("it has no directory");
    --at;
    const std::uint64_t end = size_ - tail_size + at;
    std::uint64_t entries = u16(tail, at + 10);
    std::uint64_t bytes = u32(tail, at + 12);
    std::uint64_t start_of_end = end;
    if (end >= kLocatorSize + kEnd64Size) {
        const auto large = bytes_at(end - kLocatorSize - kEnd64Size, kEnd64Size + kLocatorSize);
        if (u32(large, 0) == kEnd64 && u32(large, kEnd64Size) == kLocator) {
            entries = u64(large, 32);
            bytes = u64(large, 40);
            start_of_end = end - kLocatorSize - kEnd64Size;
        }
    }
    if (entries > kMostEntries || bytes > kMostEntries * kMostBytesOfAnEntry) {
        harmful("has " + std::to_string(entries) + " entries, expected at most " +
                grouped(static_cast<std::int64_t>(kMostEntries)));
    }
    if (bytes > start_of_end) damaged("its directory is larger than itself");
    // Where the directory ends, not where it says that it begins.
    const auto directory = bytes_at(start_of_end - bytes, bytes);
    std::size_t read = 0;
    for (std::uint64_t i = 0; i < entries; ++i) add_entry(directory, read);
}

void ZipFile::add_entry(const std::vector<std::uint8_t>& directory, std::size_t& at) {
    const auto has = [&](std::size_t from, std::size_t count) {
        return from <= directory.size() && count <= directory.size() - from;
    };
    if (!has(at, kCentralSize) || u32(directory, at) != kCentral)
        damaged("its directory is broken");
    Entry entry;
    entry.flags = u16(directory, at + 8);
    entry.method = u16(directory, at + 10);
    entry.checksum = u32(directory, at + 16);
    entry.packed = u32(directory, at + 20);
    entry.unpacked = u32(directory, at + 24);
    entry.offset = u32(directory, at + 42);
    const std::size_t name_size = u16(directory, at + 28), extra_size = u16(directory, at + 30);
    const std::size_t comment_size = u16(directory, at + 32);
    const std::uint32_t mode = u32(directory, at + 38) >> 16;
    const std::size_t extra_at = at + kCentralSize + name_size;
    if (!has(at + kCentralSize, name_size + extra_size + comment_size)) {
        damaged("its directory is broken");
    }
    const std::string name(reinterpret_cast<const char*>(directory.data()) + at + kCentralSize,
                           name_size);
    for (std::size_t field = extra_at; field + 4 <= extra_at + extra_size;) {
        const std::size_t kind = u16(directory, field), length = u16(directory, field + 2);
        const std::size_t end = field + 4 + length;
        if (end > extra_at + extra_size) break;
        std::size_t value = field + 4;
        for (std::uint64_t* number : {&entry.unpacked, &entry.packed, &entry.offset}) {
            if (kind != kZip64 || *number != 0xffffffff) continue;
            if (value + 8 > end) damaged("its directory is broken");
            *number = u64(directory, value);
            value += 8;
        }
        field = end;
    }
    at = extra_at + extra_size + comment_size;
    if (is_outside(name)) harmful("has entries outside itself (" + one_line(name, 100) + ")");
    if ((mode & 0170000) == 0120000) {
        harmful("has symbolic links (" + one_line(name, 100) + ")");
    }
    if (!entries_.emplace(name, entry).second) {
        harmful("has several entries of one name (" + one_line(name, 100) + ")");
    }
}

void ZipFile::check_totals() const {
    std::uint64_t unpacked = 0;
    for (const auto& [name, entry] : entries_) {
        if (entry.unpacked > UINT64_MAX - unpacked) damaged("its directory is broken");
        unpacked += entry.unpacked;
    }
    if (unpacked > std::max(kSmall, kMostTimesItsSize * size_)) {
        harmful("unpacks to " + grouped(static_cast<std::int64_t>(unpacked >> 20)) +
                " MB, more than a hundred times its own size");
    }
}

template <class Sink>
void ZipFile::inflate_to(const std::string& name, Sink sink) {
    const Entry& entry = entries_.at(name);
    if (entry.flags & kEncrypted) damaged(name + " is encrypted");
    if (entry.method != kStored && entry.method != kDeflated) {
        damaged(name + " is packed in a way that is not read");
    }
    const auto local = bytes_at(entry.offset, kLocalSize);
    if (u32(local, 0) != kLocal) damaged(name + " is not where the directory says");
    std::uint64_t at = entry.offset + kLocalSize + u16(local, 26) + u16(local, 28);
    std::uint64_t left = entry.packed, made = 0;
    std::uint32_t checksum = 0;
    const auto give = [&](std::span<const std::uint8_t> some) {
        made += some.size();
        if (made > entry.unpacked) damaged(name + " is longer than the directory says");
        checksum = static_cast<std::uint32_t>(
            crc32(checksum, some.data(), static_cast<uInt>(some.size())));
        sink(some);
    };
    z_stream stream{};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw Error("There is no memory to unpack.");
    const std::unique_ptr<z_stream, int (*)(z_stream*)> ended(&stream, inflateEnd);
    std::vector<std::uint8_t> out(kBlock);
    int status = entry.method == kStored ? Z_STREAM_END : Z_OK;
    while (left > 0) {
        const std::uint64_t some = std::min<std::uint64_t>(left, kBlock);
        auto packed = bytes_at(at, some);
        at += some;
        left -= some;
        if (entry.method == kStored) {
            give(packed);
            continue;
        }
        if (status == Z_STREAM_END) damaged(name + " goes on after its end");
        stream.next_in = packed.data();
        stream.avail_in = static_cast<uInt>(packed.size());
        do {
            stream.next_out = out.data();
            stream.avail_out = static_cast<uInt>(out.size());
            status = inflate(&stream, Z_NO_FLUSH);
            if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
                damaged(name + " cannot be unpacked");
            }
            give(std::span(out).first(out.size() - stream.avail_out));
        } while (status == Z_OK && (stream.avail_in > 0 || stream.avail_out == 0));
    }
    if (status != Z_STREAM_END || made != entry.unpacked || checksum != entry.checksum) {
        damaged(name + " has another length or checksum than the directory says");
    }
}

std::string ZipFile::text(const std::string& name, std::uint64_t most) {
    if (entries_.at(name).unpacked > most) {
        harmful("has a " + name + " of " +
                grouped(static_cast<std::int64_t>(entries_.at(name).unpacked >> 20)) + " MB");
    }
    std::string text;
    inflate_to(name, [&](std::span<const std::uint8_t> some) {
        text.append(reinterpret_cast<const char*>(some.data()), some.size());
    });
    return text;
}

void ZipFile::unpack(const std::string& name, const std::filesystem::path& target) {
    std::ofstream out(target, std::ios::binary);
    inflate_to(name, [&](std::span<const std::uint8_t> some) {
        out.write(reinterpret_cast<const char*>(some.data()),
                  static_cast<std::streamsize>(some.size()));
    });
    out.close();
    if (!out) {
        throw Error(name + " of " + path_.string() + " cannot be unpacked to " +
                    target.parent_path().string() + " (" + std::strerror(errno) +
                    "): free some space there, or set TMPDIR to a folder with room.");
    }
}

void ZipFile::damaged(const std::string& what) const {
    throw Error(path_.string() + " is truncated or damaged (" + what +
                "): copy it again, or export it again.");
}

void ZipFile::harmful(const std::string& what) const {
    throw Error(path_.string() + " " + what +
                ", which no exporter writes: somebody made it to harm. Do not use it, and find out "
                "where it comes from.");
}

}  // namespace d2serve
