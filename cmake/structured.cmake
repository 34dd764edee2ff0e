# Structured output is llguidance, built by cargo with the versions of hadal/grammar/llguidance/Cargo.lock. Without cargo
# (Debian: cargo-web), a rustc that is new enough or the registry the build goes on without it: HADAL_STRUCTURED is OFF.
set(HADAL_STRUCTURED_OUTPUT ON CACHE BOOL "Structured output (grammars) by llguidance; needs cargo and crates.io")
set(HADAL_STRUCTURED OFF)

function(hadal_find_llguidance)
  set(crate ${CMAKE_SOURCE_DIR}/hadal/grammar/llguidance)
  if(NOT HADAL_STRUCTURED_OUTPUT)
    message(STATUS "Structured output: off (HADAL_STRUCTURED_OUTPUT)")
    return()
  endif()
  find_program(CARGO cargo)
  find_program(RUSTC rustc)
  if(NOT CARGO OR NOT RUSTC)
    message(STATUS "Structured output: off, there is no cargo (Debian: apt-get install cargo-web)")
    return()
  endif()
  execute_process(COMMAND ${RUSTC} --version OUTPUT_VARIABLE version RESULT_VARIABLE failed ERROR_QUIET)
  if(failed OR NOT version MATCHES "rustc ([0-9]+\\.[0-9]+)" OR CMAKE_MATCH_1 VERSION_LESS 1.87)
    message(STATUS "Structured output: off, rustc is older than 1.87 (Debian 12: apt-get install rustc-web)")
    return()
  endif()
  execute_process(COMMAND ${CARGO} fetch --locked --quiet --manifest-path ${crate}/Cargo.toml
    TIMEOUT 120 RESULT_VARIABLE failed OUTPUT_QUIET ERROR_VARIABLE said)
  if(NOT failed STREQUAL "0")
    string(REGEX REPLACE "\n.*" "" said "${said}")
    message(STATUS "Structured output: off, cargo cannot fetch llguidance (${said})")
    return()
  endif()
  # One folder for all presets: what cargo builds does not depend on them.
  set(target ${CMAKE_SOURCE_DIR}/build-llguidance)
  set(archive ${target}/release/libhadal_llguidance.a)
  set(stamp ${CMAKE_BINARY_DIR}/llguidance.stamp)
  add_custom_command(OUTPUT ${stamp} BYPRODUCTS ${archive}
    COMMAND ${CMAKE_COMMAND} -E env --unset=RUSTFLAGS ${CARGO} build --release --locked --offline --quiet
      --manifest-path ${crate}/Cargo.toml --target-dir ${target}
    COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
    DEPENDS ${crate}/Cargo.toml ${crate}/Cargo.lock ${crate}/src/lib.rs
    COMMENT "Building llguidance" VERBATIM)
  add_custom_target(llguidance_build DEPENDS ${stamp})
  add_library(hadal_llguidance STATIC IMPORTED GLOBAL)
  set_target_properties(hadal_llguidance PROPERTIES IMPORTED_LOCATION ${archive}
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m" INTERFACE_COMPILE_DEFINITIONS HADAL_STRUCTURED_OUTPUT=1)
  add_dependencies(hadal_llguidance llguidance_build)
  set(HADAL_STRUCTURED ON PARENT_SCOPE)
  message(STATUS "Structured output: on")
endfunction()
hadal_find_llguidance()
