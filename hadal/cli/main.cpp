#include "hadal/cli/program.h"

int main(int argc, char** argv) {
  return hadal::cli::run_program(argc, argv);
}
