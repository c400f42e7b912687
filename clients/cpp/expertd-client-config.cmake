# The target expertd::client: see clients/cpp/README.md of the repository.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(absl)
find_dependency(Protobuf)
find_dependency(gRPC CONFIG)
get_filename_component(_expertd_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET expertd::client)
  add_library(expertd::client STATIC IMPORTED)
  set_target_properties(expertd::client PROPERTIES
    IMPORTED_LOCATION "${_expertd_prefix}/lib/libexpertd_client.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_expertd_prefix}/include"
    INTERFACE_COMPILE_FEATURES cxx_std_20)
  target_link_libraries(expertd::client INTERFACE gRPC::grpc++ protobuf::libprotobuf absl::status absl::statusor
                        absl::synchronization absl::time Threads::Threads)
endif()
