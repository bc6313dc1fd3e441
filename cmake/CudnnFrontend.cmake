# Headers to build cuDNN's graphs with. They are needed at build time alone: cuDNN itself is opened at run time
# and no CUDA library becomes one that the binary needs to start. scripts/setup puts the frontend into build/deps.
set(SERVAL_CUDNN_FRONTEND_VERSION 1.32.0)
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
  HINTS "${PROJECT_SOURCE_DIR}/build/deps/cudnn-frontend-${SERVAL_CUDNN_FRONTEND_VERSION}/include" NO_DEFAULT_PATH)
if(NOT CUDNN_FRONTEND_INCLUDE_DIR)
  message(FATAL_ERROR "The headers of cudnn-frontend ${SERVAL_CUDNN_FRONTEND_VERSION} are missing: run scripts/setup "
                      "(or pass -DCUDNN_FRONTEND_INCLUDE_DIR=...)")
endif()
find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
if(NOT CUDNN_INCLUDE_DIR)
  message(FATAL_ERROR "cudnn.h is missing: scripts/setup says how to get it (or pass -DCUDNN_INCLUDE_DIR=...)")
endif()

# serval_cudnn_source(file): compiles one source of the calling folder with the frontend. -O1: the headers take
# twice the time and memory at -O2, and the code only prepares work for the GPU.
function(serval_cudnn_source file)
  set_source_files_properties("${file}" PROPERTIES
    COMPILE_DEFINITIONS "NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING;CUDNN_FRONTEND_SKIP_JSON_LIB"
    COMPILE_OPTIONS "-O1;-isystem;${CUDNN_FRONTEND_INCLUDE_DIR};-isystem;${CUDNN_INCLUDE_DIR}")
endfunction()
