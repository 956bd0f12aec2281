// Finds the engine that a spec names: a module beside this library, loaded when it is needed.
#include "d2serve_cpp/engine.h"

#include <dlfcn.h>

#include <map>
#include <string>

#include "d2serve_cpp/error.h"
#include "words.h"

namespace d2serve {
namespace {

namespace fs = std::filesystem;

/// The engine of each runtime (handlers/spec/runtimes.py) that one here runs, and the option of
/// CMake that builds it.
struct EngineFacts {
    const char* name;
    const char* option;
};
constexpr EngineFacts kOpenVino{"openvino", "D2SERVE_OPENVINO"};
constexpr EngineFacts kLibtorch{"libtorch", "D2SERVE_LIBTORCH"};

const std::map<std::string, EngineFacts>& engines() {
    static const std::map<std::string, EngineFacts> by_runtime = {
        {"openvino", kOpenVino}, {"onnxruntime", kOpenVino}, {"torchscript", kLibtorch}};
    return by_runtime;
}

fs::path own_folder() {
    Dl_info info;
    if (dladdr(reinterpret_cast<const void*>(&load_engine), &info) == 0) return {};
    std::error_code failed;
    return fs::weakly_canonical(info.dli_fname, failed).parent_path();
}

EngineLoader loader_of(const EngineFacts& engine, const std::string& runtime) {
    const fs::path module = own_folder() / ("libd2serve_" + std::string(engine.name) + ".so");
    std::error_code failed;
    if (!fs::exists(module, failed)) {
        throw Error("The archive is for the runtime " + runtime + ", which needs the engine " +
                    engine.name + ", and this build has none: " + module.string() +
                    " is not there. Build it with -D" + engine.option +
                    "=ON, or export the model with another --runtime.");
    }
    // Never closed: what runs programs does not survive that.
    void* library = dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);
    const char* why = library == nullptr ? dlerror() : nullptr;
    void* found = library == nullptr ? nullptr : dlsym(library, "d2serve_load_engine");
    if (found == nullptr) {
        throw Error("The engine " + module.string() + " cannot be loaded (" +
                    one_line(why != nullptr ? why : "it has no d2serve_load_engine") +
                    "). Put its libraries beside it: `cmake --install` collects them.");
    }
    return reinterpret_cast<EngineLoader>(found);
}

}  // namespace

std::unique_ptr<Engine> load_engine(const Spec& spec, const fs::path& folder, int threads) {
    const auto found = engines().find(spec.runtime);
    if (found == engines().end()) {
        throw Error("The archive is for the runtime " + one_line(spec.runtime, 40) +
                    ", for which there is no engine in C++. Export the model with --runtime "
                    "openvino, onnxruntime or torchscript.");
    }
    if (spec.dynamic_batch && spec.method == "tracing") {
        throw Error("The archive is of a program that takes batches (--dynamic-batch), and an "
                    "engine in C++ gives a program one image. Export the model without "
                    "--dynamic-batch.");
    }
    const EngineLoader load = loader_of(found->second, spec.runtime);
    return std::unique_ptr<Engine>(load(spec, folder / spec.program, threads_for(threads)));
}

}  // namespace d2serve
