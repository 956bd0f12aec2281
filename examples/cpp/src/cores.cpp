// How many threads to use: the cores that this process may use, not those of the machine. A process
// may be pinned to some of them, or get a quota of time from its cgroup, of version 2 or 1.
#include <sched.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include "d2serve_cpp/engine.h"

namespace d2serve {
namespace {

namespace fs = std::filesystem;

const fs::path kCgroups = "/sys/fs/cgroup";

std::optional<long> number_in(const std::string& text) {
    char* end = nullptr;
    const long value = std::strtol(text.c_str(), &end, 10);
    if (end == text.c_str()) return std::nullopt;
    return value;
}

std::string first_line(const fs::path& file) {
    std::ifstream in(file);
    std::string line;
    std::getline(in, line);
    return line;
}

int cores_of(long quota, long period) {
    return static_cast<int>(std::clamp(quota / period, 1L, 1L << 20));
}

int quota_of_version_2(const fs::path& folder, int cores) {
    std::istringstream words(first_line(folder / "cpu.max"));
    std::string quota, period;
    words >> quota >> period;
    const auto used = number_in(quota), of = number_in(period);
    if (!used || !of || *used <= 0 || *of <= 0) return cores;  // not version 2, or no quota
    return std::min(cores, cores_of(*used, *of));
}

int quota_of_version_1(const fs::path& folder, int cores) {
    const auto used = number_in(first_line(folder / "cpu.cfs_quota_us"));
    const auto of = number_in(first_line(folder / "cpu.cfs_period_us"));
    if (!used || !of || *used <= 0 || *of <= 0) return cores;
    return std::min(cores, cores_of(*used, *of));
}

/// Path of this process's cgroup of a controller; "" is version 2, which has one for all.
fs::path own_path(const std::string& controller) {
    std::ifstream in("/proc/self/cgroup");
    for (std::string line; std::getline(in, line);) {
        const auto first = line.find(':');
        const auto second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        std::istringstream names(line.substr(first + 1, second - first - 1));
        bool is_it = controller.empty() && names.str().empty();
        for (std::string name; std::getline(names, name, ',');) is_it |= name == controller;
        if (is_it) return fs::path(line.substr(second + 1)).relative_path();
    }
    return {};
}

/// The smallest quota of a folder and those above it. In a container the path may be the host's,
/// and then only the mount itself is there.
template <class Quota>
int within(const fs::path& mount, const fs::path& path, Quota quota_of, int cores) {
    fs::path folder = mount;
    cores = quota_of(folder, cores);
    for (const fs::path& part : path) cores = quota_of(folder /= part, cores);
    return cores;
}

int available_cores() {
    int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) cores = CPU_COUNT(&allowed);
    cores = within(kCgroups, own_path(""), quota_of_version_2, cores);
    for (const char* mount : {"cpu", "cpu,cpuacct", "cpuacct,cpu"}) {
        cores = within(kCgroups / mount, own_path("cpu"), quota_of_version_1, cores);
    }
    return std::max(1, cores);
}

}  // namespace

int threads_for(int wanted) {
    if (wanted > 0) return wanted;
    if (const char* set = std::getenv("OMP_NUM_THREADS")) {
        const std::string text = set;
        const bool digits =
            !text.empty() && text.size() < 6 &&
            std::all_of(
                text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
        if (digits && std::stoi(text) > 0) return std::stoi(text);
    }
    return available_cores();
}

}  // namespace d2serve
