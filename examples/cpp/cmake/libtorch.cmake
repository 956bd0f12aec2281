# The engine for TorchScript programs, on libtorch: that of torch's wheel, or its C++ distribution.
#
# find_package(Torch) asks for CUDA where the wheel was built with it, although no program here runs
# on it. So the two libraries that the engine needs are imported by their names.
set(D2SERVE_TORCH "" CACHE PATH
    "Folder with libtorch's include/ and lib/: python -c 'import torch; print(torch.__path__[0])'")

find_path(D2SERVE_TORCH_INCLUDE_DIR torch/script.h
          HINTS ${D2SERVE_TORCH} PATH_SUFFIXES include REQUIRED)
foreach(name torch_cpu c10)
  find_library(D2SERVE_LIB_${name} ${name} HINTS ${D2SERVE_TORCH} PATH_SUFFIXES lib REQUIRED)
  add_library(d2serve_torch::${name} SHARED IMPORTED)
  set_target_properties(d2serve_torch::${name} PROPERTIES
    IMPORTED_LOCATION ${D2SERVE_LIB_${name}}
    INTERFACE_INCLUDE_DIRECTORIES
      "${D2SERVE_TORCH_INCLUDE_DIR};${D2SERVE_TORCH_INCLUDE_DIR}/torch/csrc/api/include")
endforeach()

d2serve_add_engine(libtorch
  src/engines/libtorch.cpp
  src/engines/deformable_convolution.cpp
  src/engines/torchvision_operators.cpp
)
target_link_libraries(d2serve_libtorch PRIVATE d2serve_torch::torch_cpu d2serve_torch::c10)
