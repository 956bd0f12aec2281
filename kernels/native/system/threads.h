// Helpers that work on one call's tasks, and sleep otherwise.
#pragma once

#include <cstdint>

namespace d2k {

using Task = void (*)(void* data, int64_t number);

// Runs tasks 0 to count - 1 on at most `threads` threads, the caller's own included, and returns when
// all are done. Calls of several threads share the helpers. A task must not throw.
void run_tasks(int64_t count, int threads, Task task, void* data);

}  // namespace d2k
