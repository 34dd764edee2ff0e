// The whole command line: parses, runs, reports an error as a sentence. 0 ok, 1 negative finding, 2 error.
#pragma once

namespace hadal::cli {

int run_program(int argc, char** argv);

}  // namespace hadal::cli
