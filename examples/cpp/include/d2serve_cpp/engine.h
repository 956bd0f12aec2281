// What runs a program: OpenVINO or libtorch, whichever its spec names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "d2serve_cpp/input.h"
#include "d2serve_cpp/spec.h"
#include "d2serve_cpp/tensor.h"

namespace d2serve {

/// Of instances, for the input `detail_most`: more than any program finds.
constexpr std::int64_t kAllDetails = 2147483647;

/// A loaded program.
class Engine {
  public:
    virtual ~Engine() = default;

    /// Answers one image. A program that makes masks and keypoints where they are wanted makes
    /// those of all instances with `details`, and otherwise none. Throws Error when the program
    /// fails on it.
    virtual RawOutputs run(const ModelInput& input, bool details) = 0;
};

/// Threads to use: as many as are asked for; of 0, OMP_NUM_THREADS where that is set, otherwise the
/// cores that this process may use.
int threads_for(int wanted);

/// Loads the program of an extracted archive with the engine that its spec names. Throws Error when
/// this build has not that engine, or it cannot read the program.
std::unique_ptr<Engine> load_engine(const Spec& spec, const std::filesystem::path& folder,
                                    int threads);

/// What an engine is, to whoever loads it: a module libd2serve_NAME.so beside this library, which
/// exports this function as `d2serve_load_engine`. So a program links no engine that it does not
/// run.
using EngineLoader = Engine* (*)(const Spec& spec, const std::filesystem::path& program,
                                 int threads);

}  // namespace d2serve
