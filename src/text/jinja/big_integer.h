// Whole numbers of any size, as Python's int, for what does not fit 64 bits. Like Python, which refuses to
// print them, it stops at 4300 digits: what would be larger raises. The work is charged to the meter.
//
//   BigInteger n = BigInteger::from_digits("98765432109876543210");
//   n.multiply(BigInteger(7)).text();        // "691358024769135802470"
//   n.small();                               // absent, as it does not fit 64 bits
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace serval::jinja {

class BigInteger {
 public:
  BigInteger() = default;  // 0
  explicit BigInteger(int64_t value);
  // `digits` of that base (2 to 36), after an optional '-'; nothing else.
  static BigInteger from_digits(std::string_view digits, int base = 10);
  static BigInteger from_real(double whole);  // exact; `whole` is finite and has no fraction

  std::optional<int64_t> small() const;
  std::string text(int base = 10, bool upper = false) const;  // base 2, 8, 10 or 16
  double real() const;  // the nearest one, infinite where it is too large
  bool is_negative() const { return negative_; }
  bool is_zero() const { return limbs_.empty(); }

  BigInteger negated() const;
  BigInteger add(const BigInteger& other) const;
  BigInteger multiply(const BigInteger& other) const;
  // Quotient rounded down and the rest, which has the sign of the divisor; `divisor` is not 0.
  std::pair<BigInteger, BigInteger> divide(const BigInteger& divisor) const;
  BigInteger power(int64_t exponent) const;  // exponent >= 0
  // this / divisor as the nearest real; `divisor` is not 0.
  double quotient(const BigInteger& divisor) const;
  // < 0, 0 or > 0.
  int compare(const BigInteger& other) const;

 private:
  using Limbs = std::vector<uint32_t>;  // base 10^9, the lowest first, no zeros at the end
  BigInteger(Limbs limbs, bool negative);
  static int compare_magnitudes(const Limbs& a, const Limbs& b);
  static Limbs subtract_magnitudes(const Limbs& a, const Limbs& b);
  static uint32_t divide_small(Limbs& limbs, uint32_t divisor);  // gives the rest
  static void multiply_small(Limbs& limbs, uint32_t factor, uint32_t plus);
  static std::pair<Limbs, Limbs> divide_magnitudes(const Limbs& a, const Limbs& b);
  size_t digits() const;

  Limbs limbs_;
  bool negative_ = false;
};

}  // namespace serval::jinja
