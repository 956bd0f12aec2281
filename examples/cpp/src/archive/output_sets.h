// Which outputs go together in one program: as handlers/spec/output_sets.py has it.
#pragma once

#include "d2serve_cpp/spec.h"

namespace d2serve {

/// Throws Error when a spec's outputs, extras, box mode and panoptic merge do not fit together.
void check_outputs(const Spec& spec);

}  // namespace d2serve
