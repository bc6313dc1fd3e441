#include "data/arrow_plugin/arrow_json.h"

#include <charconv>
#include <cmath>
#include <stdexcept>

namespace serval::arrow_plugin {
namespace {

void write_text(std::string_view text, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  size_t plain = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text, plain, i - plain);
    plain = i + 1;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      default:
        out += "\\u00";
        out += kHex[c >> 4];
        out += kHex[c & 15];
    }
  }
  out.append(text, plain);
  out += '"';
}

template <class T>
void write_integer(T value, std::string& out) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void write_double(double value, std::string& out) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char digits[40];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  const std::string_view text(digits, static_cast<size_t>(end - digits));
  out += text;
  if (text.find_first_of(".e") == std::string_view::npos) out += ".0";
}

void write_value(const arrow::Array& array, int64_t i, std::string& out);

void write_list(const arrow::Array& values, int64_t begin, int64_t length, std::string& out) {
  out += '[';
  for (int64_t i = 0; i < length; ++i) {
    if (i > 0) out += ',';
    write_value(values, begin + i, out);
  }
  out += ']';
}

void write_struct(const arrow::StructArray& array, int64_t i, std::string& out) {
  out += '{';
  for (int field = 0; field < array.num_fields(); ++field) {
    if (field > 0) out += ',';
    write_text(array.type()->field(field)->name(), out);
    out += ':';
    write_value(*array.field(field), i, out);
  }
  out += '}';
}

// An object where the keys are texts, else a list of pairs.
void write_map(const arrow::MapArray& array, int64_t i, std::string& out) {
  const bool texts = array.keys()->type_id() == arrow::Type::STRING;
  out += texts ? '{' : '[';
  for (int64_t at = array.value_offset(i); at < array.value_offset(i + 1); ++at) {
    if (at > array.value_offset(i)) out += ',';
    if (!texts) out += '[';
    write_value(*array.keys(), at, out);
    out += texts ? ':' : ',';
    write_value(*array.items(), at, out);
    if (!texts) out += ']';
  }
  out += texts ? '}' : ']';
}

template <class ArrayType>
const ArrayType& as(const arrow::Array& array) {
  return static_cast<const ArrayType&>(array);
}

template <class ArrayType>
void write_list_of(const arrow::Array& array, int64_t i, std::string& out) {
  const auto& list = as<ArrayType>(array);
  write_list(*list.values(), list.value_offset(i), list.value_length(i), out);
}

void write_value(const arrow::Array& array, int64_t i, std::string& out) {
  using arrow::Type;
  if (array.IsNull(i)) {
    out += "null";
    return;
  }
  switch (array.type_id()) {
    case Type::NA:
      out += "null";
      return;
    case Type::BOOL:
      out += as<arrow::BooleanArray>(array).Value(i) ? "true" : "false";
      return;
    case Type::INT8:
      return write_integer(as<arrow::Int8Array>(array).Value(i), out);
    case Type::INT16:
      return write_integer(as<arrow::Int16Array>(array).Value(i), out);
    case Type::INT32:
      return write_integer(as<arrow::Int32Array>(array).Value(i), out);
    case Type::INT64:
      return write_integer(as<arrow::Int64Array>(array).Value(i), out);
    case Type::UINT8:
      return write_integer(as<arrow::UInt8Array>(array).Value(i), out);
    case Type::UINT16:
      return write_integer(as<arrow::UInt16Array>(array).Value(i), out);
    case Type::UINT32:
      return write_integer(as<arrow::UInt32Array>(array).Value(i), out);
    case Type::UINT64:
      return write_integer(as<arrow::UInt64Array>(array).Value(i), out);
    case Type::FLOAT:
      return write_double(static_cast<double>(as<arrow::FloatArray>(array).Value(i)), out);
    case Type::DOUBLE:
      return write_double(as<arrow::DoubleArray>(array).Value(i), out);
    case Type::STRING:
      return write_text(as<arrow::StringArray>(array).GetView(i), out);
    case Type::LARGE_STRING:
      return write_text(as<arrow::LargeStringArray>(array).GetView(i), out);
    case Type::STRING_VIEW:
      return write_text(as<arrow::StringViewArray>(array).GetView(i), out);
    case Type::LIST:
      return write_list_of<arrow::ListArray>(array, i, out);
    case Type::LARGE_LIST:
      return write_list_of<arrow::LargeListArray>(array, i, out);
    case Type::FIXED_SIZE_LIST:
      return write_list_of<arrow::FixedSizeListArray>(array, i, out);
    case Type::MAP:
      return write_map(as<arrow::MapArray>(array), i, out);
    case Type::STRUCT:
      return write_struct(as<arrow::StructArray>(array), i, out);
    case Type::DICTIONARY: {
      const auto& dictionary = as<arrow::DictionaryArray>(array);
      return write_value(*dictionary.dictionary(), dictionary.GetValueIndex(i), out);
    }
    case Type::EXTENSION:
      return write_value(*as<arrow::ExtensionArray>(array).storage(), i, out);
    case Type::BINARY:
    case Type::LARGE_BINARY:
    case Type::BINARY_VIEW:
    case Type::FIXED_SIZE_BINARY:
      throw std::runtime_error("a column holds bytes (" + array.type()->ToString() +
                               "), such as images, which are not read; remove it");
    default: {
      const auto scalar = array.GetScalar(i);
      if (!scalar.ok()) throw std::runtime_error(scalar.status().message());
      return write_text((*scalar)->ToString(), out);
    }
  }
}

}  // namespace

void write_row(const arrow::RecordBatch& batch, int64_t row, std::string& out) {
  out += '{';
  for (int column = 0; column < batch.num_columns(); ++column) {
    if (column > 0) out += ',';
    write_text(batch.column_name(column), out);
    out += ':';
    try {
      write_value(*batch.column(column), row, out);
    } catch (const std::runtime_error& error) {
      throw std::runtime_error("column '" + batch.column_name(column) + "': " + error.what());
    }
  }
  out += "}\n";
}

}  // namespace serval::arrow_plugin
