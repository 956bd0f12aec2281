#include "memory.h"

#include <sys/mman.h>

#include <cstdint>

namespace d2k {

constexpr size_t kHugePage = size_t{2} << 20;

float* Scratch::get(int64_t floats) {
  const size_t wanted = (static_cast<size_t>(floats) * sizeof(float) + 4095) & ~size_t{4095};
  if (wanted > bytes_) {
    release();
    const size_t rounded = wanted < kHugePage ? wanted : (wanted + kHugePage - 1) & ~(kHugePage - 1);
    // Huge pages begin at their own size: ask for one more, and give back what lies around.
    const size_t asked = rounded < kHugePage ? rounded : rounded + kHugePage;
    void* got = mmap(nullptr, asked, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (got == MAP_FAILED) return nullptr;
    if (asked > rounded) {
      char* const from = static_cast<char*>(got);
      const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(got) % kHugePage) % kHugePage;
      if (before) munmap(from, before);
      munmap(from + before + rounded, asked - before - rounded);
      got = from + before;
#ifdef MADV_HUGEPAGE
      madvise(got, rounded, MADV_HUGEPAGE);
#endif
    }
    at_ = got;
    bytes_ = rounded;
  }
  return static_cast<float*>(at_);
}

void prefer_huge_pages(float* at, int64_t floats) {
#ifdef MADV_HUGEPAGE
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(at) + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(at + floats) & ~(kHugePage - 1);
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)at, (void)floats;
#endif
}

void Scratch::release() {
  if (at_) munmap(at_, bytes_);
  at_ = nullptr;
  bytes_ = 0;
}

}  // namespace d2k
