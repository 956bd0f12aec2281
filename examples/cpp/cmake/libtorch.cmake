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

# What torch's own threads are made with; at::parallel_for runs on one without it.
find_package(OpenMP REQUIRED)

d2serve_add_engine(libtorch
  src/engines/libtorch.cpp
  src/engines/deformable_convolution.cpp
  src/engines/torchvision_operators.cpp
)
target_link_libraries(d2serve_libtorch PRIVATE
  d2serve_torch::torch_cpu d2serve_torch::c10 OpenMP::OpenMP_CXX)

# What runs on the CPU needs of libtorch. A build with CUDA asks for two libraries of CUDA's even
# where it only computes on the CPU; torch's wheel has them in another wheel, beside it.
get_filename_component(d2serve_torch_lib ${D2SERVE_LIB_torch_cpu} DIRECTORY)
file(GLOB d2serve_torch_needed
  ${d2serve_torch_lib}/libtorch_cpu.so ${d2serve_torch_lib}/libc10.so
  ${d2serve_torch_lib}/libgomp*.so*
  ${d2serve_torch_lib}/../../nvidia/*/lib/libcupti.so.*
  ${d2serve_torch_lib}/../../nvidia/*/lib/libcudart.so.*)
install(FILES ${d2serve_torch_needed} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT libtorch)
