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

}  // namespace d2k
