# The engine for OpenVINO and ONNX programs. OpenVINO's headers, CMake files and libraries come with
# its wheel: -DOpenVINO_DIR=$(python -c "from openvino.utils import get_cmake_path as p; print(p())")
find_package(OpenVINO REQUIRED COMPONENTS Runtime)
d2serve_add_engine(openvino src/engines/openvino.cpp src/engines/cpu_features.cpp
  src/engines/onnx_mending.cpp)
target_link_libraries(d2serve_openvino PRIVATE openvino::runtime)

# What runs on the CPU needs of OpenVINO: the library, its plugin for the CPU, what reads its own
# format and ONNX, and TBB. They find each other in one folder.
get_target_property(openvino_library openvino::runtime IMPORTED_LOCATION_RELEASE)
get_filename_component(openvino_folder ${openvino_library} DIRECTORY)
file(GLOB openvino_needed
  ${openvino_folder}/libopenvino.so.[0-9]*
  ${openvino_folder}/libopenvino_intel_cpu_plugin.so
  ${openvino_folder}/libopenvino_arm_cpu_plugin.so
  ${openvino_folder}/libopenvino_ir_frontend.so.[0-9]*
  ${openvino_folder}/libopenvino_onnx_frontend.so.[0-9]*
  ${openvino_folder}/libtbb.so.[0-9]*)
install(FILES ${openvino_needed} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT openvino)
