# Writes OUTPUT, the definition of BuildCommit(), from the repository that SOURCE_DIR is the root of. Runs at each
# build; the file is touched only when the commit has changed, so that nothing is built again without need.
set(commit "unknown")
if(EXISTS ${SOURCE_DIR}/.git)
  execute_process(COMMAND git --no-optional-locks describe --always --abbrev=40 --exclude=* --dirty
    WORKING_DIRECTORY ${SOURCE_DIR} OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE result ERROR_QUIET)
  if(result EQUAL 0)
    set(commit ${described})
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT [[
#include "server/build_commit.h"

const char* expertd::BuildCommit() { return "@commit@"; }
]])
