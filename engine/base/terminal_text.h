// Text of the model and of the server on its way to a terminal, which would obey the control sequences in it.
#pragma once

#include <string>
#include <string_view>

namespace expertd {

// `text` without its control characters (C0, DEL, C1) but line feed and tab, and with U+FFFD for what is not UTF-8. A
// sequence loses what makes it one: "\x1b[31mred" becomes "[31mred".
std::string WithoutControls(std::string_view text);

// `text` as it may go to standard output: without controls to a terminal, as it is to a file or another program.
std::string ForStandardOutput(const std::string& text);

}  // namespace expertd
