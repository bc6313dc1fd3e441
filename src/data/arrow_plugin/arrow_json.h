// Values of Arrow columns as JSON text: lists and structs are nested, dates, decimals and the like become
// texts, NaN becomes null. Bytes that are no text cannot be written: std::runtime_error.
#pragma once
#include <arrow/api.h>

#include <string>

namespace serval::arrow_plugin {

// Row `row` of the batch as one line, with the line break.
void write_row(const arrow::RecordBatch& batch, int64_t row, std::string& out);

}  // namespace serval::arrow_plugin
