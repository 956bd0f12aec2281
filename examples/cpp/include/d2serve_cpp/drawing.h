// A picture of what was found: it shows in a second whether a model works.
#pragma once

#include "d2serve_cpp/image.h"
#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// A copy of an image with all that was found in it. Masks are tinted and outlined in the colour of
/// their category, boxes have a label with name and score, keypoints are white dots, labels of
/// sem_seg and stuff are tinted and named; of proposals the best 30 are drawn. Of a panoptic model
/// the merged map is drawn. The best instances are on top.
///
/// `image` has one channel or more; the picture has the first three as RGB, or the one as grey.
/// Throws Error when it is not of the outputs' size, or larger than the spec's `max_drawn_pixels`.
Image drawn(const Image& image, const Outputs& outputs, const Spec& spec);

}  // namespace d2serve
