// Arithmetic on numbers as Python's: integers are exact whatever their size, reals are doubles.
//
//   arithmetic(BinaryOp::power, Value(int64_t{2}), Value(int64_t{100}))   // 1267650600228229401496703205376
#pragma once
#include "text/jinja/big_integer.h"
#include "text/jinja/operators.h"

namespace serval::jinja {

// Both are numbers (bool counts as one).
bool equal_numbers(const Value& a, const Value& b);
bool less_numbers(const Value& a, const Value& b);
Value arithmetic(BinaryOp op, const Value& a, const Value& b);

// The integer of an int or a bool of any size.
BigInteger big_of(const Value& integer);
// int(value): the fraction is cut off; raises for what is not finite.
Value whole_part(double value);
// round(value, precision), halves to even.
Value round_half_even(const Value& number, int64_t precision);

}  // namespace serval::jinja
