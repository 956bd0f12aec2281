// Reads zip files, which a .mar is: stored and deflated entries, also of more than 4 GB (zip64).
// Nothing that a file says is believed before it has been compared with the file's size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace d2serve {

class ZipFile {
  public:
    /// Reads the directory. Throws Error when the file is no zip file, damaged, or made to harm: by
    /// paths that lead out of it, links, names that are there twice, or more than a hundred times
    /// its size once unpacked.
    explicit ZipFile(const std::filesystem::path& path);

    bool has(const std::string& name) const { return entries_.contains(name); }

    /// The bytes of an entry. Throws Error when there are more than `most`, or it is damaged.
    std::string text(const std::string& name, std::uint64_t most);

    /// Unpacks an entry to a new file. Throws Error when it is damaged, or cannot be written.
    void unpack(const std::string& name, const std::filesystem::path& target);

  private:
    struct Entry {
        std::uint64_t offset = 0;
        std::uint64_t packed = 0;
        std::uint64_t unpacked = 0;
        std::uint32_t checksum = 0;
        std::uint16_t method = 0;
        std::uint16_t flags = 0;
    };

    std::vector<std::uint8_t> bytes_at(std::uint64_t offset, std::uint64_t count);
    void read_directory();
    void add_entry(const std::vector<std::uint8_t>& directory, std::size_t& at);
    void check_totals() const;
    template <class Sink>
    void inflate_to(const std::string& name, Sink sink);
    [[noreturn]] void damaged(const std::string& what) const;
    [[noreturn]] void harmful(const std::string& what) const;

    std::filesystem::path path_;
    std::ifstream in_;
    std::uint64_t size_ = 0;
    std::map<std::string, Entry> entries_;
};

}  // namespace d2serve
