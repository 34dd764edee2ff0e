# One interface target with what every Hadal target is compiled with.
add_library(hadal_options INTERFACE)
# GCC 12 warns of overlapping copies inside std::string operator+ (its bug 105329).
target_compile_options(hadal_options INTERFACE -Wall -Wextra -Wshadow -Wno-psabi $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
# Numbers are part of the contract: no contraction of a*b+c behind our back, so that one source gives one sequence
# of roundings; fused multiply-adds are written where they are meant.
target_compile_options(hadal_options INTERFACE -ffp-contract=off)
target_include_directories(hadal_options INTERFACE ${CMAKE_SOURCE_DIR})
if(HADAL_SANITIZE)
  target_compile_options(hadal_options INTERFACE -fsanitize=${HADAL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(hadal_options INTERFACE -fsanitize=${HADAL_SANITIZE})
endif()
