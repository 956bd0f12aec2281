// Shows the tests what the library makes of a file, as bytes: they compare them with Python's.
//
//   d2serve_probe image FORMAT CHANNELS SIXTEEN_BIT < names of files
//   d2serve_probe resize < lines "HEIGHT WIDTH CHANNELS NEW_HEIGHT NEW_WIDTH", pixels after each >
//   pixels d2serve_probe specs < texts of model_spec.json, one a line > "ok" or "error MESSAGE" for
//   each d2serve_probe open MODEL > its name and version d2serve_probe input MODEL FILE > sizes,
//   then floats d2serve_probe fuzz SECONDS SEED FILE ...
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <span>
#include <sstream>
#include <string>

#include "d2serve_cpp/archive.h"
#include "d2serve_cpp/error.h"
#include "d2serve_cpp/image.h"
#include "d2serve_cpp/input.h"

using namespace d2serve;

namespace {

template <class Values>
void write(const Values& values) {
    std::cout.write(reinterpret_cast<const char*>(values.data()),
                    static_cast<std::streamsize>(values.size() * sizeof(values[0])));
}

/// For each file a line, "HEIGHT WIDTH CHANNELS CONVERTED" or "error MESSAGE", then the pixels.
int images(const ImageForm& form) {
    for (std::string name; std::getline(std::cin, name);) {
        try {
            const Image image = read_image_file(name, form);
            std::cout << image.height << ' ' << image.width << ' ' << image.channels << ' '
                      << image.converted << '\n';
            write(image.pixels);
        } catch (const Error& error) {
            std::cout << "error " << error.what() << '\n';
        }
    }
    return 0;
}

/// Of many images on the input, one after the other, each with a line of five numbers before it.
int resizes() {
    for (std::string line; std::getline(std::cin, line);) {
        Image image;
        int height = 0, width = 0;
        std::istringstream numbers(line);
        numbers >> image.height >> image.width >> image.channels >> height >> width;
        image.pixels.resize(static_cast<std::size_t>(image.height) *
                            static_cast<std::size_t>(image.width) *
                            static_cast<std::size_t>(image.channels));
        std::cin.read(reinterpret_cast<char*>(image.pixels.data()),
                      static_cast<std::streamsize>(image.pixels.size()));
        write(resized(image, height, width).pixels);
    }
    return 0;
}

int inputs(const Spec& spec, int count, char** files) {
    for (int i = 0; i < count; ++i) {
        const Image image = read_image_file(files[i], spec.image_form(), spec.limits);
        const ModelInput made = preprocess(image, spec);
        std::cout << made.channels << ' ' << made.resized_height << ' ' << made.resized_width << ' '
                  << made.height << ' ' << made.width << '\n';
        write(made.tensor);
    }
    return 0;
}

int specs() {
    for (std::string text; std::getline(std::cin, text);) {
        try {
            Spec::from_json(text);
            std::cout << "ok\n";
        } catch (const Error& error) {
            std::cout << "error " << error.what() << '\n';
        }
    }
    return 0;
}

int open(const Archive& archive) {
    std::cout << archive.model() << ' ' << archive.version() << '\n';
    return 0;
}

std::vector<char> bytes_of(const char* file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

class Mutator {
  public:
    explicit Mutator(unsigned seed) : random_(seed) {}

    std::size_t below(std::size_t most) { return random_() % most; }

    std::vector<char> mutated(std::vector<char> bytes) {
        constexpr char telling[] = {0, 1, 2, 0x7f, '\x80', '\xff', '\xda', '\xc4'};
        for (std::size_t i = 1 + below(8); i > 0 && !bytes.empty(); --i) {
            const std::size_t at = below(bytes.size());
            const auto here = bytes.begin() + static_cast<std::ptrdiff_t>(at);
            const std::size_t some = 1 + below(std::min<std::size_t>(bytes.size() - at, 64));
            switch (below(6)) {
                case 0:
                    bytes[at] = static_cast<char>(bytes[at] ^ 1 << below(8));
                    break;
                case 1:
                    bytes[at] = telling[below(sizeof telling)];
                    break;
                case 2:
                    std::fill_n(here, some, telling[below(sizeof telling)]);
                    break;
                case 3:
                    bytes.erase(here, here + static_cast<std::ptrdiff_t>(some));
                    break;
                case 4:
                    bytes.insert(here, some, static_cast<char>(random_()));
                    break;
                default:
                    if (below(4) == 0) bytes.resize(at);
            }
        }
        return bytes;
    }

  private:
    std::minstd_rand random_;
};

/// What is no image is tried as an archive, and what is neither as a spec.
bool is_read(const std::vector<char>& bytes, const char* scratch, std::size_t choice) {
    static const ImageForm forms[] = {{"BGR", 3, "opencv"},
                                      {"L", 1, "read_image"},
                                      {"RGBA", 4, "opencv"},
                                      {"bands", 2, "opencv"}};
    RequestLimits limits;
    limits.max_image_pixels = 1 << 20;  // what is larger finds nothing more, and takes its time
    limits.max_decode_seconds = 1;
    try {
        if (bytes.size() > 1 && bytes[0] == 'P' && bytes[1] == 'K') {
            std::ofstream(scratch, std::ios::binary)
                .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
            Archive::open(scratch);
        } else if (!bytes.empty() && bytes[0] == '{') {
            Spec::from_json({bytes.data(), bytes.size()});
        } else {
            read_image(std::as_bytes(std::span(bytes)), forms[choice], limits);
        }
    } catch (const Error&) {
        return false;
    }
    return true;
}

/// Any other exception, a crash, or a sanitizer's finding ends it; the file is kept then.
int fuzz(double seconds, unsigned seed, int count, char** files) {
    const std::string kept =
        std::string(std::getenv("D2SERVE_FUZZ_KEEP") != nullptr ? std::getenv("D2SERVE_FUZZ_KEEP")
                                                                : ".") +
        "/last-mutation";
    const std::string scratch = kept + ".mar";
    std::vector<std::vector<char>> seeds;
    for (int i = 0; i < count; ++i) seeds.push_back(bytes_of(files[i]));
    Mutator mutator(seed);
    const auto began = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    };
    long tried = 0, read = 0;
    double slowest = 0;
    while (elapsed() < seconds) {
        const auto bytes = mutator.mutated(seeds[mutator.below(seeds.size())]);
        std::ofstream(kept, std::ios::binary)
            .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        const double before = elapsed();
        read += is_read(bytes, scratch.c_str(), mutator.below(4));
        slowest = std::max(slowest, elapsed() - before);
        ++tried;
    }
    std::cout << tried << " tried, " << read << " read, slowest " << slowest << " s\n";
    return 0;
}

}  // namespace

int main(int count, char** words) {
    const std::string what = count > 1 ? words[1] : "";
    try {
        if (what == "image" && count == 5) return images({words[2], std::atoi(words[3]), words[4]});
        if (what == "resize") return resizes();
        if (what == "input" && count > 3) {
            return inputs(Archive::open(words[2]).spec(), count - 3, words + 3);
        }
        if (what == "specs") return specs();
        if (what == "open" && count == 3) return open(Archive::open(words[2]));
        if (what == "fuzz" && count > 4) {
            return fuzz(std::atof(words[2]), static_cast<unsigned>(std::atoi(words[3])), count - 4,
                        words + 4);
        }
    } catch (const Error& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
    std::cerr << "No such probe.\n";
    return 2;
}
