#include "d2serve_cpp/archive.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "archive/manifest.h"
#include "archive/sha256.h"
#include "archive/zip_file.h"
#include "d2serve_cpp/error.h"

namespace d2serve {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytesOfASpec = 64 << 20;
constexpr const char* kManifest = "MAR-INF/MANIFEST.json";

fs::path new_private_folder() {
    std::error_code none;
    fs::path parent = fs::temp_directory_path(none);
    if (none) parent = "/tmp";
    std::string path = (parent / "d2serve-program-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) {
        throw Error("No folder can be made in " + parent.string() + " (" + std::strerror(errno) +
                    "), in which the program would be unpacked: set TMPDIR to one with room.");
    }
    return path;
}

void check_files(const fs::path& folder, const Spec& spec) {
    for (const auto& [name, expected] : spec.sha256) {
        std::error_code failed;
        if (!fs::is_regular_file(folder / name, failed)) {
            throw Error(name + " is missing from the archive: export the model again.");
        }
        const std::string found = sha256_of(folder / name);
        if (found != expected) {
            throw Error(name + " has sha256 " + found.substr(0, 12) + "..., the spec says " +
                        expected.substr(0, 12) +
                        "...: the archive was changed or damaged. Export it again.");
        }
    }
}

std::string text_of(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

Archive Archive::open(const fs::path& path) {
    std::error_code failed;
    if (!fs::exists(path, failed)) {
        throw Error("There is no " + path.string() +
                    ": expected a .mar made by `d2serve export`, or the folder that one was "
                    "extracted to. Correct the path.");
    }
    Archive made;
    std::string manifest;
    if (fs::is_directory(path, failed)) {
        made.spec_ = read_spec(path);
        made.folder_ = path;
        manifest = text_of(path / kManifest);
    } else {
        ZipFile zip(path);
        const std::string spec_file(kSpecFile);
        if (!zip.has(spec_file)) {
            throw Error(path.string() + " has no " + spec_file +
                        ": it is an archive of another maker, expected one made by `d2serve "
                        "export`.");
        }
        made.spec_ = Spec::from_json(zip.text(spec_file, kMostBytesOfASpec));
        if (zip.has(kManifest)) manifest = zip.text(kManifest, kMostBytesOfASpec);
        made.folder_ = made.temporary_ = new_private_folder();
        for (const auto& [name, hash] : made.spec_.sha256) {
            if (!zip.has(name)) {
                throw Error(path.string() + " has no " + name + ", which its " + spec_file +
                            " names. It was changed or damaged: export it again.");
            }
            fs::create_directories((made.folder_ / name).parent_path(), failed);
            zip.unpack(name, made.folder_ / name);
        }
    }
    check_files(made.folder_, made.spec_);
    made.model_ = in_manifest(manifest, "modelName", made.spec_.name);
    made.version_ = in_manifest(manifest, "modelVersion", "1.0");
    return made;
}

Archive::Archive(Archive&& other) noexcept {
    *this = std::move(other);
}

Archive& Archive::operator=(Archive&& other) noexcept {
    std::swap(spec_, other.spec_);
    std::swap(folder_, other.folder_);
    std::swap(model_, other.model_);
    std::swap(version_, other.version_);
    std::swap(temporary_, other.temporary_);
    return *this;
}

Archive::~Archive() {
    std::error_code ignored;
    if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

}  // namespace d2serve
