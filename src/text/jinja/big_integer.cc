#include "text/jinja/big_integer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "text/jinja/meter.h"

namespace serval::jinja {
namespace {

constexpr uint32_t kBase = 1'000'000'000;
constexpr size_t kDigitsPerLimb = 9;
constexpr size_t kMostDigits = 4300;

[[noreturn]] void raise_too_long() {
  raise("the result is an integer of more than {} digits", kMostDigits);
}

}  // namespace

BigInteger::BigInteger(Limbs limbs, bool negative) : limbs_(std::move(limbs)), negative_(negative) {
  while (!limbs_.empty() && limbs_.back() == 0) limbs_.pop_back();
  if (limbs_.empty()) negative_ = false;
  if (digits() > kMostDigits) raise_too_long();
}

BigInteger::BigInteger(int64_t value) : negative_(value < 0) {
  uint64_t rest = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  for (; rest != 0; rest /= kBase) limbs_.push_back(static_cast<uint32_t>(rest % kBase));
}

BigInteger BigInteger::from_digits(std::string_view digits, int base) {
  const bool negative = digits.starts_with('-');
  if (negative) digits.remove_prefix(1);
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
  // A digit of any base has at least log10(2) decimal digits.
  if (digits.size() > (base == 10 ? kMostDigits : 4 * kMostDigits)) raise_too_long();
  Limbs limbs;
  if (base == 10) {
    for (size_t end = digits.size(); end > 0;) {
      const size_t begin = end - std::min(end, kDigitsPerLimb);
      uint32_t limb = 0;
      std::from_chars(digits.data() + begin, digits.data() + end, limb);
      limbs.push_back(limb);
      end = begin;
    }
    return {std::move(limbs), negative};
  }
  for (const char c : digits) {
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    multiply_small(limbs, static_cast<uint32_t>(base), static_cast<uint32_t>(digit));
    spend(static_cast<int64_t>(limbs.size()) / 32);
  }
  return {std::move(limbs), negative};
}

BigInteger BigInteger::from_real(double whole) {
  spend(32);
  return from_digits(fmt::format("{:.0f}", whole));
}

std::optional<int64_t> BigInteger::small() const {
  if (limbs_.size() > 3) return std::nullopt;
  int64_t value = 0;
  for (size_t i = limbs_.size(); i-- > 0;) {
    const auto limb = static_cast<int64_t>(limbs_[i]);
    if (__builtin_mul_overflow(value, int64_t{kBase}, &value) ||
        __builtin_add_overflow(value, negative_ ? -limb : limb, &value))
      return std::nullopt;
  }
  return value;
}

size_t BigInteger::digits() const {
  if (limbs_.empty()) return 1;
  size_t top = 0;
  for (uint32_t limb = limbs_.back(); limb != 0; limb /= 10) top++;
  return (limbs_.size() - 1) * kDigitsPerLimb + top;
}

std::string BigInteger::text(int base, bool upper) const {
  spend(1 + static_cast<int64_t>(base == 10 ? limbs_.size() : limbs_.size() * limbs_.size() / 8));
  std::string out;
  if (base == 10) {
    out = limbs_.empty() ? "0" : fmt::format("{}{}", negative_ ? "-" : "", limbs_.back());
    for (size_t i = limbs_.empty() ? 0 : limbs_.size() - 1; i-- > 0;) out += fmt::format("{:09}", limbs_[i]);
    return out;
  }
  const std::string_view alphabet = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  // 24 bits at a time are a whole number of digits of each base.
  Limbs rest = limbs_;
  while (!rest.empty()) {
    uint32_t bits = divide_small(rest, 1U << 24);
    for (uint32_t n = 1; n < (1U << 24); n *= static_cast<uint32_t>(base)) {
      out += alphabet[bits % static_cast<uint32_t>(base)];
      bits /= static_cast<uint32_t>(base);
    }
  }
  while (out.size() > 1 && out.back() == '0') out.pop_back();
  if (out.empty()) out = "0";
  if (negative_) out += '-';
  std::reverse(out.begin(), out.end());
  return out;
}

double BigInteger::real() const {
  return std::strtod(text().c_str(), nullptr);
}

BigInteger BigInteger::negated() const {
  BigInteger result = *this;
  result.negative_ = !negative_ && !limbs_.empty();
  return result;
}

int BigInteger::compare_magnitudes(const Limbs& a, const Limbs& b) {
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  for (size_t i = a.size(); i-- > 0;)
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  return 0;
}

int BigInteger::compare(const BigInteger& other) const {
  if (negative_ != other.negative_) return negative_ ? -1 : 1;
  const int magnitude = compare_magnitudes(limbs_, other.limbs_);
  return negative_ ? -magnitude : magnitude;
}

// a - b, where a is at least b.
BigInteger::Limbs BigInteger::subtract_magnitudes(const Limbs& a, const Limbs& b) {
  Limbs result = a;
  uint32_t borrow = 0;
  for (size_t i = 0; i < result.size(); i++) {
    const uint32_t taken = (i < b.size() ? b[i] : 0) + borrow;
    borrow = result[i] < taken ? 1 : 0;
    result[i] += borrow * kBase - taken;
  }
  while (!result.empty() && result.back() == 0) result.pop_back();
  return result;
}

BigInteger BigInteger::add(const BigInteger& other) const {
  if (negative_ != other.negative_) {
    if (compare_magnitudes(limbs_, other.limbs_) < 0)
      return {subtract_magnitudes(other.limbs_, limbs_), other.negative_};
    return {subtract_magnitudes(limbs_, other.limbs_), negative_};
  }
  Limbs sum;
  uint32_t carry = 0;
  for (size_t i = 0; i < std::max(limbs_.size(), other.limbs_.size()); i++) {
    const uint32_t limb =
        carry + (i < limbs_.size() ? limbs_[i] : 0) + (i < other.limbs_.size() ? other.limbs_[i] : 0);
    sum.push_back(limb % kBase);
    carry = limb / kBase;
  }
  if (carry != 0) sum.push_back(carry);
  return {std::move(sum), negative_};
}

BigInteger BigInteger::multiply(const BigInteger& other) const {
  spend(1 + static_cast<int64_t>(limbs_.size() * other.limbs_.size()) / 16);
  Limbs product(limbs_.size() + other.limbs_.size(), 0);
  for (size_t i = 0; i < limbs_.size(); i++) {
    uint64_t carry = 0;
    for (size_t k = 0; k < other.limbs_.size() || carry != 0; k++) {
      const uint64_t factor = k < other.limbs_.size() ? other.limbs_[k] : 0;
      const uint64_t limb = product[i + k] + limbs_[i] * factor + carry;
      product[i + k] = static_cast<uint32_t>(limb % kBase);
      carry = limb / kBase;
    }
  }
  return {std::move(product), negative_ != other.negative_};
}

void BigInteger::multiply_small(Limbs& limbs, uint32_t factor, uint32_t plus) {
  uint64_t carry = plus;
  for (uint32_t& limb : limbs) {
    carry += uint64_t{limb} * factor;
    limb = static_cast<uint32_t>(carry % kBase);
    carry /= kBase;
  }
  if (carry != 0) limbs.push_back(static_cast<uint32_t>(carry));
}

uint32_t BigInteger::divide_small(Limbs& limbs, uint32_t divisor) {
  uint64_t rest = 0;
  for (size_t i = limbs.size(); i-- > 0;) {
    rest = rest * kBase + limbs[i];
    limbs[i] = static_cast<uint32_t>(rest / divisor);
    rest %= divisor;
  }
  while (!limbs.empty() && limbs.back() == 0) limbs.pop_back();
  return static_cast<uint32_t>(rest);
}

// Long division (Knuth's algorithm D): both are scaled so that the divisor's first limb is at least half the
// base, and then two limbs of the rest over that one give each limb of the quotient, or at most two more.
std::pair<BigInteger::Limbs, BigInteger::Limbs> BigInteger::divide_magnitudes(const Limbs& a,
                                                                              const Limbs& b) {
  if (compare_magnitudes(a, b) < 0) return {Limbs{}, a};
  spend(static_cast<int64_t>(a.size() * b.size()) / 64);
  if (b.size() == 1) {
    Limbs quotient = a;
    const uint32_t rest = divide_small(quotient, b[0]);
    return {std::move(quotient), rest != 0 ? Limbs{rest} : Limbs{}};
  }
  const uint32_t scale = kBase / (b.back() + 1);
  Limbs rest = a, divisor = b;
  multiply_small(rest, scale, 0);
  multiply_small(divisor, scale, 0);
  if (rest.size() == a.size()) rest.push_back(0);
  const size_t n = divisor.size();
  Limbs quotient(rest.size() - n, 0);
  for (size_t at = quotient.size(); at-- > 0;) {
    const uint64_t top = uint64_t{rest[at + n]} * kBase + rest[at + n - 1];
    uint64_t guess = std::min<uint64_t>(top / divisor.back(), kBase - 1);
    int64_t borrow = 0;
    for (size_t i = 0; i < n; i++) {
      const int64_t limb =
          static_cast<int64_t>(rest[at + i]) - static_cast<int64_t>(guess * divisor[i]) + borrow;
      int64_t digit = limb % int64_t{kBase};
      borrow = limb / int64_t{kBase};
      if (digit < 0) {
        digit += kBase;
        borrow--;
      }
      rest[at + i] = static_cast<uint32_t>(digit);
    }
    int64_t last = static_cast<int64_t>(rest[at + n]) + borrow;
    for (; last < 0; guess--) {
      uint32_t carry = 0;
      for (size_t i = 0; i < n; i++) {
        const uint32_t limb = rest[at + i] + divisor[i] + carry;
        rest[at + i] = limb % kBase;
        carry = limb / kBase;
      }
      last += carry;
    }
    rest[at + n] = static_cast<uint32_t>(last);
    quotient[at] = static_cast<uint32_t>(guess);
  }
  while (!rest.empty() && rest.back() == 0) rest.pop_back();
  divide_small(rest, scale);
  return {std::move(quotient), std::move(rest)};
}

std::pair<BigInteger, BigInteger> BigInteger::divide(const BigInteger& divisor) const {
  auto [over, rest_limbs] = divide_magnitudes(limbs_, divisor.limbs_);
  BigInteger quotient(std::move(over), negative_ != divisor.negative_);
  BigInteger rest(std::move(rest_limbs), negative_);
  if (!rest.is_zero() && rest.negative_ != divisor.negative_) {
    quotient = quotient.add(BigInteger(-1));
    rest = rest.add(divisor);
  }
  return {std::move(quotient), std::move(rest)};
}

BigInteger BigInteger::power(int64_t exponent) const {
  BigInteger result(1), base = *this;
  if (limbs_.size() == 1 && limbs_[0] == 1) return negative_ && exponent % 2 != 0 ? *this : result;
  while (exponent > 0) {
    if ((exponent & 1) != 0) result = result.multiply(base);
    exponent >>= 1;
    if (exponent > 0) base = base.multiply(base);
  }
  return result;
}

double BigInteger::quotient(const BigInteger& divisor) const {
  // Some 40 digits of the quotient, and one more that says whether others follow, round as all of them would.
  const auto shift = static_cast<int64_t>(divisor.digits()) - static_cast<int64_t>(digits()) + 40;
  const BigInteger scaled = shift > 0 ? multiply(BigInteger(10).power(shift)) : *this;
  const auto [over, rest] = divide_magnitudes(scaled.limbs_, divisor.limbs_);
  const std::string text = fmt::format("{}{}e{}", BigInteger(over, false).text(), rest.empty() ? 0 : 1,
                                       -std::max<int64_t>(shift, 0) - 1);
  const double magnitude = std::strtod(text.c_str(), nullptr);
  return negative_ != divisor.negative_ ? -magnitude : magnitude;
}

}  // namespace serval::jinja
