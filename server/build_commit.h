// The commit that this program was built from. The definition is written by write_build_commit.cmake at each build.
#pragma once

namespace expertd {

// Forty hexadecimal digits, with "-dirty" when tracked files differed; "unknown" outside a repository.
const char* BuildCommit();

}  // namespace expertd
