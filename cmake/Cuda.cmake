# The CUDA language, its flags, and a cap on parallel compiles: one takes up to several GB.
enable_language(CUDA)
find_package(CUDAToolkit 13 REQUIRED)
# CMake 3.25.1 does not know that nvcc 13 has C++20.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
endif()
set(CMAKE_CUDA_STANDARD 20)
if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${CCACHE}")
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>")
# NDEBUG always: asserts would serialise the tensor cores.
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-DNDEBUG;-Xcompiler=-Wall,-Wextra;--Werror=all-warnings>")
set_property(GLOBAL APPEND PROPERTY JOB_POOLS cuda_pool=2)
