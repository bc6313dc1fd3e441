# Everything comes from Debian packages (scripts/setup installs them); nothing is fetched here.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
if(SERVAL_FUZZ)
  add_library(OpenMP::OpenMP_CXX INTERFACE IMPORTED)  # one thread: see src/base/parallel.cc
else()
  find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()
find_package(fmt REQUIRED)
find_package(simdjson REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)

# Debian's dnnl CMake config asks for OpenCL headers, so the library is found by hand.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(dnnl_cpu INTERFACE)
target_include_directories(dnnl_cpu SYSTEM INTERFACE "${DNNL_INCLUDE_DIR}")
target_link_libraries(dnnl_cpu INTERFACE "${DNNL_LIBRARY}")

if(SERVAL_TESTS)
  find_package(GTest REQUIRED)
endif()
