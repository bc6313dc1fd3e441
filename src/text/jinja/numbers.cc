#include "text/jinja/numbers.h"

#include <bit>
#include <cmath>
#include <limits>

namespace serval::jinja {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr double kTwoTo63 = 9223372036854775808.0;

// Exact, unlike a conversion of the integer to double. `d` is not NaN.
int compare_to_real(const Value& integer, double d) {
  if (std::isinf(d)) return d > 0 ? -1 : 1;
  const double whole = std::floor(d);
  int order = 0;
  if (integer.is_big() || d >= kTwoTo63 || d < -kTwoTo63) {
    order = big_of(integer).compare(BigInteger::from_real(whole));
  } else {
    const auto w = static_cast<int64_t>(whole);
    order = integer.as_int() == w ? 0 : integer.as_int() < w ? -1 : 1;
  }
  return order == 0 && d > whole ? -1 : order;
}

int64_t compare_integers(const Value& a, const Value& b) {
  if (a.is_big() || b.is_big()) return big_of(a).compare(big_of(b));
  return a.as_int() == b.as_int() ? 0 : a.as_int() < b.as_int() ? -1 : 1;
}

// a / b rounded once; integers above 2^53 would be rounded a first time on their way to double.
double divide_exactly(int64_t a, int64_t b) {
  const auto magnitude = [](int64_t i) {
    return i < 0 ? -static_cast<uint64_t>(i) : static_cast<uint64_t>(i);
  };
  const uint64_t over = magnitude(a), under = magnitude(b);
  if (over == 0) return b < 0 ? -0.0 : 0.0;
  // At least 55 bits of the quotient, the last one also set where bits follow it.
  const int shift =
      std::max(0, 55 + static_cast<int>(std::bit_width(under)) - static_cast<int>(std::bit_width(over)));
  const Wide wide = static_cast<Wide>(over) << shift;
  const auto bits = static_cast<uint64_t>(wide / under) | static_cast<uint64_t>(wide % under != 0);
  const double quotient = std::ldexp(static_cast<double>(bits), -shift);
  return (a < 0) != (b < 0) ? -quotient : quotient;
}

Value arithmetic_real(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::add:
      return Value(a + b);
    case BinaryOp::subtract:
      return Value(a - b);
    case BinaryOp::multiply:
      return Value(a * b);
    case BinaryOp::divide:
      if (b == 0) raise("float division by zero");
      return Value(a / b);
    case BinaryOp::floor_divide:
    case BinaryOp::modulo: {
      if (b == 0) raise("{}", op == BinaryOp::modulo ? "float modulo" : "float floor division by zero");
      // The steps of Python's floats, so that infinities and the signs of zeros are its own.
      double remainder = std::fmod(a, b), quotient = (a - remainder) / b;
      if (remainder == 0) {
        remainder = std::copysign(0.0, b);
      } else if ((remainder < 0) != (b < 0)) {
        remainder += b;
        quotient -= 1;
      }
      if (op == BinaryOp::modulo) return Value(remainder);
      if (quotient == 0) return Value(std::copysign(0.0, a / b));
      const double whole = std::floor(quotient);
      return Value(quotient - whole > 0.5 ? whole + 1 : whole);
    }
    case BinaryOp::power: {
      if (a == 0 && b < 0) raise("0.0 cannot be raised to a negative power");
      const double result = std::pow(a, b);
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) raise("Numerical result out of range");
      if (std::isnan(result) && !std::isnan(a) && !std::isnan(b)) raise("the result is a complex number");
      return Value(result);
    }
  }
  return {};
}

Value power_of(const Value& a, const Value& b) {
  if (b.is_big()) {
    const bool trivial = !a.is_big() && a.as_int() >= -1 && a.as_int() <= 1;
    if (!trivial || big_of(b).is_negative())
      return arithmetic_real(BinaryOp::power, a.as_real(), b.as_real());
    if (a.as_int() != -1) return a;
    return Value(big_of(b).divide(BigInteger(2)).second.is_zero() ? int64_t{1} : int64_t{-1});
  }
  if (b.as_int() < 0) return arithmetic_real(BinaryOp::power, a.as_real(), b.as_real());
  return Value::integer(big_of(a).power(b.as_int()));
}

Value arithmetic_big(BinaryOp op, const Value& x, const Value& y) {
  if (op == BinaryOp::power) return power_of(x, y);
  const BigInteger a = big_of(x), b = big_of(y);
  switch (op) {
    case BinaryOp::add:
      return Value::integer(a.add(b));
    case BinaryOp::subtract:
      return Value::integer(a.add(b.negated()));
    case BinaryOp::multiply:
      return Value::integer(a.multiply(b));
    case BinaryOp::divide: {
      if (b.is_zero()) raise("division by zero");
      const double quotient = a.quotient(b);
      if (std::isinf(quotient)) raise("integer division result too large for a float");
      return Value(quotient);
    }
    case BinaryOp::floor_divide:
      if (b.is_zero()) raise("integer division or modulo by zero");
      return Value::integer(a.divide(b).first);
    case BinaryOp::modulo:
      if (b.is_zero()) raise("integer modulo by zero");
      return Value::integer(a.divide(b).second);
    case BinaryOp::power:
      break;
  }
  return {};
}

// Absent where the result may not fit 64 bits.
std::optional<Value> arithmetic_small(BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case BinaryOp::add:
      return __builtin_add_overflow(a, b, &result) ? std::nullopt : std::optional(Value(result));
    case BinaryOp::subtract:
      return __builtin_sub_overflow(a, b, &result) ? std::nullopt : std::optional(Value(result));
    case BinaryOp::multiply:
      return __builtin_mul_overflow(a, b, &result) ? std::nullopt : std::optional(Value(result));
    case BinaryOp::divide:
      if (b == 0) return std::nullopt;
      return Value(divide_exactly(a, b));
    case BinaryOp::floor_divide:
      if (b == 0 || b == -1) return std::nullopt;
      result = a / b;
      return Value(a % b != 0 && (a < 0) != (b < 0) ? result - 1 : result);
    case BinaryOp::modulo:
      if (b == 0) return std::nullopt;
      if (b == -1) return Value(int64_t{0});
      result = a % b;
      return Value(result != 0 && (result < 0) != (b < 0) ? result + b : result);
    case BinaryOp::power:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

bool equal_numbers(const Value& a, const Value& b) {
  if (a.is_real() && b.is_real()) return a.as_real() == b.as_real();
  if (a.is_real()) return !std::isnan(a.as_real()) && compare_to_real(b, a.as_real()) == 0;
  if (b.is_real()) return !std::isnan(b.as_real()) && compare_to_real(a, b.as_real()) == 0;
  return compare_integers(a, b) == 0;
}

bool less_numbers(const Value& a, const Value& b) {
  if (a.is_real() && b.is_real()) return a.as_real() < b.as_real();
  if (a.is_real()) return !std::isnan(a.as_real()) && compare_to_real(b, a.as_real()) > 0;
  if (b.is_real()) return !std::isnan(b.as_real()) && compare_to_real(a, b.as_real()) < 0;
  return compare_integers(a, b) < 0;
}

Value arithmetic(BinaryOp op, const Value& a, const Value& b) {
  if (a.is_real() || b.is_real()) return arithmetic_real(op, a.as_real(), b.as_real());
  if (!a.is_big() && !b.is_big()) {
    std::optional<Value> result = arithmetic_small(op, a.as_int(), b.as_int());
    if (result.has_value()) return std::move(*result);
  }
  return arithmetic_big(op, a, b);
}

BigInteger big_of(const Value& integer) {
  return integer.is_big() ? integer.big() : BigInteger(integer.as_int());
}

Value whole_part(double value) {
  if (std::isnan(value)) raise("cannot convert float NaN to integer");
  if (std::isinf(value)) raise("cannot convert float infinity to integer");
  if (std::fabs(value) < kTwoTo63) return Value(static_cast<int64_t>(value));
  return Value::integer(BigInteger::from_real(value));
}

Value round_half_even(const Value& number, int64_t precision) {
  if (number.is_real()) {
    const double value = number.as_real();
    if (!std::isfinite(value) || precision > 323) return number;
    if (precision < -308) return Value(std::copysign(0.0, value));
    // Printing with that many digits rounds the exact binary value.
    if (precision >= 0) return Value(std::strtod(fmt::format("{:.{}f}", value, precision).c_str(), nullptr));
    const Value tens = round_half_even(whole_part(value), precision);
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    const bool above_half = std::fabs(value) > std::fabs(whole_part(value).as_real());
    // A fraction that the whole part lost breaks a tie.
    if (above_half && std::fabs(std::trunc(value)) - std::fabs(tens.as_real()) == scale / 2)
      return Value(std::copysign(std::fabs(tens.as_real()) + scale, value));
    return Value(std::copysign(tens.as_real(), value));
  }
  if (precision >= 0) return number.is_big() ? number : Value(number.as_int());
  if (precision < -5000) return Value(int64_t{0});
  const BigInteger scale = BigInteger(10).power(std::min<int64_t>(-precision, 4299));
  const auto [quotient, rest] = big_of(number).divide(scale);
  const int half = rest.add(rest).compare(scale);
  const bool is_odd = !quotient.divide(BigInteger(2)).second.is_zero();
  const BigInteger rounded = half > 0 || (half == 0 && is_odd) ? quotient.add(BigInteger(1)) : quotient;
  return Value::integer(rounded.multiply(scale));
}

}  // namespace serval::jinja
