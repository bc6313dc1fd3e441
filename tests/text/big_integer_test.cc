#include "text/jinja/big_integer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "text/jinja/meter.h"

namespace serval::jinja {
namespace {

BigInteger big(const char* digits) {
  return BigInteger::from_digits(digits);
}

TEST(BigInteger, ReadsAndWritesItsDigits) {
  for (const char* digits : {"0", "1", "-1", "999999999", "1000000000", "-1000000000", "9223372036854775808",
                             "-98765432109876543210987654321", "100000000000000000000000000000000000001"})
    EXPECT_EQ(big(digits).text(), digits);
  EXPECT_EQ(big("-000").text(), "0");
  EXPECT_EQ(BigInteger::from_digits("ffffffffffffffffffff", 16).text(), "1208925819614629174706175");
  EXPECT_EQ(big("1208925819614629174706176").text(16), "100000000000000000000");
  EXPECT_EQ(big("-18446744073709551615").text(16, true), "-FFFFFFFFFFFFFFFF");
  EXPECT_EQ(BigInteger::from_real(-1e22).text(), "-10000000000000000000000");
}

TEST(BigInteger, KnowsWhatFits64Bits) {
  EXPECT_EQ(big("9223372036854775807").small(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(big("-9223372036854775808").small(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(big("9223372036854775808").small(), std::nullopt);
  EXPECT_EQ(big("-9223372036854775809").small(), std::nullopt);
}

// a == q * b + r, with r between 0 and b; limbs of 0 and of all nines are where a long division goes wrong.
TEST(BigInteger, DivisionRoundsDownAndLeavesTheRest) {
  std::vector<BigInteger> numbers;
  for (const char* digits :
       {"1", "7", "999999999", "1000000000", "999999999999999999", "1000000000000000000",
        "500000000000000000499999999", "999999999000000000999999999999999999", "1000000000000000000000000001",
        "123456789012345678901234567890123456789012345678901234567890", "499999999999999999999999999"}) {
    numbers.push_back(big(digits));
    numbers.push_back(big(digits).negated());
  }
  for (const BigInteger& a : numbers)
    for (const BigInteger& b : numbers) {
      for (const BigInteger& dividend : {a, a.multiply(b), a.multiply(b).add(BigInteger(-1))}) {
        SCOPED_TRACE(dividend.text() + " / " + b.text());
        const auto [quotient, rest] = dividend.divide(b);
        EXPECT_EQ(quotient.multiply(b).add(rest).compare(dividend), 0);
        EXPECT_TRUE(rest.is_zero() || rest.is_negative() == b.is_negative());
        const BigInteger gap = b.is_negative() ? rest.add(b.negated()) : b.add(rest.negated());
        EXPECT_GT(gap.compare(BigInteger()), 0);
      }
    }
}

TEST(BigInteger, QuotientIsRoundedOnce) {
  EXPECT_EQ(
      big("9007199254740993").multiply(big("100000000000000000000")).quotient(big("100000000000000000000")),
      9007199254740992.0);
  EXPECT_EQ(big("1").quotient(big("3").power(600)), 5.336385165377108e-287);
  EXPECT_TRUE(std::isinf(BigInteger(10).power(400).quotient(BigInteger(7))));
  EXPECT_EQ(BigInteger(10).power(400).quotient(BigInteger(10).power(399).negated()), -10.0);
}

TEST(BigInteger, PowersEndAt4300Digits) {
  EXPECT_EQ(BigInteger(2).power(100).text(), "1267650600228229401496703205376");
  EXPECT_EQ(BigInteger(-1).power(std::numeric_limits<int64_t>::max()).text(), "-1");
  EXPECT_EQ(BigInteger(0).power(0).text(), "1");
  EXPECT_EQ(BigInteger(10).power(4299).text().size(), 4300);
  EXPECT_THROW(BigInteger(10).power(4300), TemplateError);
  EXPECT_THROW(BigInteger(3).power(std::numeric_limits<int64_t>::max()), TemplateError);
  EXPECT_THROW(BigInteger::from_digits(std::string(4301, '7')), TemplateError);
  EXPECT_THROW(BigInteger::from_digits(std::string(4000, 'f'), 16), TemplateError);
}

}  // namespace
}  // namespace serval::jinja
