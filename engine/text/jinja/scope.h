// Decides where every variable of a template lives, before anything is rendered. jinja2 compiles templates to Python
// and gives each scope its own Python variables; which scope a name reads from and writes to follows from the whole
// text of the scope, not from the order of execution. The same analysis is done here (jinja2's idtracking.py describes
// it), so that the well-known oddities of `set` in loops, macros and blocks come out alike.
#pragma once

#include "absl/status/status.h"
#include "engine/text/jinja/ast.h"

namespace expertd::jinja {

// Fills in the variables and scopes of `root`. Errors: InvalidArgument "line N: what" for filters and tests that do not
// exist and for assignments to `loop` in a loop.
absl::Status ResolveScopes(TemplateNode& root);

}  // namespace expertd::jinja
