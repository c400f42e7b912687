#include "clients/rest_shim/host_port.h"

#include <gtest/gtest.h>

namespace expertd::rest {
namespace {

std::string Read(std::string_view address) {
  const absl::StatusOr<HostPort> parsed = ParseHostPort("--rest", address);
  return parsed.ok() ? parsed->host + "|" + parsed->port : std::string(parsed.status().message());
}

TEST(HostPortTest, NamesAddressesAndUrls) {
  EXPECT_EQ(Read("localhost:8000"), "localhost|8000");
  EXPECT_EQ(Read("127.0.0.1:0"), "127.0.0.1|0");
  EXPECT_EQ(Read("[::1]:8000"), "::1|8000");
  EXPECT_EQ(Read("http://localhost:8000"), "localhost|8000");
  EXPECT_EQ(Read("http://[::1]:8000/"), "::1|8000");
}

TEST(HostPortTest, AnythingElseIsAnErrorThatNamesIt) {
  for (const char* address : {"", "8000", ":8000", "localhost:", "localhost:http", "localhost:65536", "a:-1", "::1:80",
                              "https://localhost:8000", "localhost:8000/v1", "http://localhost:8000/v1"}) {
    EXPECT_EQ(Read(address), std::string("--rest is '") + address + "'; must be HOST:PORT");
  }
}

}  // namespace
}  // namespace expertd::rest
