// d2serve_predict: an exported model and image files in, what detectron2 answers out, as JSON.
#include <charconv>
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "d2serve_cpp/detector.h"
#include "d2serve_cpp/drawing.h"
#include "d2serve_cpp/error.h"
#include "d2serve_cpp/image.h"
#include "d2serve_cpp/reply.h"

using namespace d2serve;

namespace {

constexpr std::string_view kUsage =
    "d2serve_predict MODEL IMAGE ... [--draw PICTURE.png] [--no-masks] [--threads N] [--time]\n"
    "\n"
    "Prints what the model finds in each image: a line of JSON, as the server replies.\n"
    "\n"
    "  MODEL      a .mar that `d2serve export` wrote, or the folder that one was extracted to\n"
    "  IMAGE      a JPEG or PNG file\n"
    "  --draw     write the image with what was found in it (of one image)\n"
    "  --no-masks leave out the masks of instances, and the time for them\n"
    "  --threads  threads to use; without it OMP_NUM_THREADS, or the cores that may be used\n"
    "  --time     tell on the standard error what each step took\n";

struct Wanted {
    std::string model;
    std::vector<std::string> images;
    std::optional<std::string> draw;
    int threads = 0;
    bool masks = true;
    bool time = false;
    bool help = false;
};

int number_of_threads(const std::string& text) {
    int threads = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), threads);
    if (failed != std::errc() || end != text.data() + text.size() || threads < 1 ||
        threads > 1024) {
        throw Error("--threads is " + text + ", expected a whole number from 1 to 1024.");
    }
    return threads;
}

Wanted parsed(const std::vector<std::string>& words) {
    Wanted wanted;
    bool only_files = false;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        const auto value = [&]() -> const std::string& {
            if (i + 1 == words.size()) throw Error(word + " lacks its value: see --help.");
            return words[++i];
        };
        if (only_files || word.empty() || word[0] != '-') {
            if (wanted.model.empty())
                wanted.model = word;
            else
                wanted.images.push_back(word);
        } else if (word == "--") {
            only_files = true;
        } else if (word == "--draw") {
            wanted.draw = value();
        } else if (word == "--no-masks") {
            wanted.masks = false;
        } else if (word == "--threads") {
            wanted.threads = number_of_threads(value());
        } else if (word == "--time") {
            wanted.time = true;
        } else if (word == "--help" || word == "-h") {
            wanted.help = true;
        } else {
            throw Error("There is no option " + word + ": see --help.");
        }
    }
    if (wanted.help) return wanted;
    if (wanted.images.empty()) throw Error("Expected a model and an image: see --help.");
    if (wanted.draw && wanted.images.size() > 1) {
        throw Error("--draw takes one image, and there are " +
                    std::to_string(wanted.images.size()) + ". Ask for one after the other.");
    }
    return wanted;
}

class Stopwatch {
  public:
    double lap() {
        const auto now = std::chrono::steady_clock::now();
        const double seconds = std::chrono::duration<double>(now - began_).count();
        began_ = now;
        return seconds;
    }

  private:
    std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

void answer(const Detector& detector, const std::string& file, const Wanted& wanted) {
    const Spec& spec = detector.spec();
    Stopwatch watch;
    const Image image = read_image_file(file, spec.image_form(), spec.limits);
    const double decode = watch.lap();
    Timing timing;
    const Outputs outputs = detector(image, &timing, wanted.masks);
    watch.lap();
    const std::string reply =
        to_json(outputs, spec, {detector.model(), detector.version(), image.converted});
    const double encode = watch.lap();
    if (wanted.draw) write_png(*wanted.draw, drawn(image, outputs, spec));
    std::cout << reply << '\n' << std::flush;
    if (!std::cout) throw Error("The answer cannot be written to the standard output.");
    if (wanted.time) {
        std::fprintf(
            stderr,
            "%s: decode %.1f ms, preprocess %.1f ms, forward %.1f ms, postprocess %.1f ms, "
            "encode %.1f ms\n",
            file.c_str(), decode * 1e3, timing.preprocess * 1e3, timing.forward * 1e3,
            timing.postprocess * 1e3, encode * 1e3);
    }
}

int run(const std::vector<std::string>& words) {
    const Wanted wanted = parsed(words);
    if (wanted.help) {
        std::cout << kUsage;
        return 0;
    }
    Stopwatch watch;
    const Detector detector = Detector::open(wanted.model, wanted.threads);
    if (wanted.time) std::fprintf(stderr, "load %.1f ms\n", watch.lap() * 1e3);
    int status = 0;
    for (const std::string& file : wanted.images) {
        try {
            answer(detector, file, wanted);
        } catch (const Error& error) {
            const std::string which = wanted.images.size() > 1 ? file + ": " : "";
            std::cerr << which << error.what() << '\n';
            status = 1;
        }
    }
    return status;
}

}  // namespace

int main(int count, char** words) {
    try {
        return run({words + 1, words + count});
    } catch (const std::bad_alloc&) {
        std::cerr << "There is not enough memory: give a smaller image, or free some.\n";
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
    }
    return 1;
}
