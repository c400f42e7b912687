// The version of this build, as `expertd --version`, GetServerInfo and the build_info metric tell it.
#pragma once

namespace expertd {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace expertd
