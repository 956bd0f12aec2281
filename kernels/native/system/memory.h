// Memory that a thread keeps between calls, so that no page is asked for twice.
#pragma once

#include <cstddef>
#include <cstdint>

namespace d2k {

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release(); }

  // At least so many floats, aligned to 64 bytes, in huge pages where the system has them; null
  // where there is no memory. What was there before is gone.
  float* get(int64_t floats);
  void release();

 private:
  void* at_ = nullptr;
  size_t bytes_ = 0;
};

// Asks for huge pages where the system has them, for what of the memory is not yet there: as many fewer
// pages are to be found in a plane whose channels lie far apart. Nothing beside it is touched.
void prefer_huge_pages(float* at, int64_t floats);

}  // namespace d2k
