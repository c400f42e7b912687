#include "engine/base/byte_size.h"

#include <gtest/gtest.h>

namespace expertd {
namespace {

TEST(ByteSizeTest, ShowsMebibytesBelowOneGibibyte) {
  EXPECT_EQ(ByteSize(0), "0.00 MiB");
  EXPECT_EQ(ByteSize(40960), "0.04 MiB");
  EXPECT_EQ(ByteSize((int64_t{1} << 30) - 1), "1024.00 MiB");
  EXPECT_EQ(ByteSize(int64_t{1} << 30), "1.00 GiB");
  EXPECT_EQ(ByteSize(22365757440), "20.83 GiB");
}

}  // namespace
}  // namespace expertd
