// The C interface between Serval and its plugin for Parquet and Arrow files, a library of its own so that the
// program starts, and is built, without Apache Arrow. No C++ type crosses it: each side has its own.
//
// Where a call fails it writes one line into `error` (of `error_size` bytes). A table is used by one thread
// at a time.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SERVAL_ARROW_PLUGIN_VERSION 1
#define SERVAL_ARROW_API __attribute__((visibility("default")))

typedef struct ServalArrowTable ServalArrowTable;
typedef void (*ServalArrowWrite)(void* context, const char* bytes, size_t size);

SERVAL_ARROW_API int serval_arrow_version(void);

// A Parquet file, an Arrow file or stream, or Feather V2; NULL on failure.
SERVAL_ARROW_API ServalArrowTable* serval_arrow_open(const char* path, char* error, size_t error_size);
SERVAL_ARROW_API void serval_arrow_close(ServalArrowTable* table);
SERVAL_ARROW_API int64_t serval_arrow_rows(const ServalArrowTable* table);

// Rows [begin, begin + count) as JSON objects, one a line; 0, or -1 on failure. Reading onwards is fast,
// going back starts a group of rows again.
SERVAL_ARROW_API int serval_arrow_read(ServalArrowTable* table, int64_t begin, int64_t count,
                                       ServalArrowWrite write, void* context, char* error, size_t error_size);

#ifdef __cplusplus
}
#endif
