#include "whole_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "d2serve_cpp/error.h"

namespace d2serve {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& why) {
    throw Error(path.string() + " cannot be written (" + why +
                "): give a file in a folder that exists and that you may write to.");
}

bool written(int file, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(file, bytes.data(), bytes.size());
        if (count < 0 && errno != EINTR) return false;
        if (count > 0) bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return true;
}

mode_t usual_mode() {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    return 0666 & ~mask;
}

}  // namespace

void write_whole(const std::filesystem::path& path, std::span<const std::byte> bytes) {
    std::error_code failed;
    std::filesystem::path target = path;
    if (std::filesystem::is_symlink(path, failed)) {
        target = std::filesystem::weakly_canonical(path, failed);
    }
    const auto there = std::filesystem::status(target, failed);
    if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there)) {
        refuse(path, "it is no file");
    }
    std::string beside = target.string() + ".XXXXXX";
    const int file = ::mkstemp(beside.data());
    if (file < 0) refuse(path, std::strerror(errno));
    bool done = written(file, bytes) && ::fchmod(file, usual_mode()) == 0;
    int why = errno;
    if (::close(file) != 0 && done) {
        done = false;
        why = errno;
    }
    if (done && std::rename(beside.c_str(), target.c_str()) == 0) return;
    if (done) why = errno;
    ::unlink(beside.c_str());
    refuse(path, std::strerror(why));
}

}  // namespace d2serve
