# Back ends of devices. HADAL_BACKENDS names the folders of hadal/kernels that are built beside ref; a device kind whose
# folder is not among them gets its table from hadal/kernels/stub, where every function is an error. Callers know nothing
# of it: both export kernels::KIND::kBackend.
set(HADAL_BACKENDS "cpu" CACHE STRING "Folders of hadal/kernels to build, e.g. cpu;gpu")
set(HADAL_DEVICE_KINDS gpu)
list(JOIN HADAL_DEVICE_KINDS "|" kinds)
set(HADAL_BACKEND_FOLDERS "/hadal/kernels/(stub|${kinds})/")  # libraries of their own
if(NOT "cpu" IN_LIST HADAL_BACKENDS)
  message(FATAL_ERROR "HADAL_BACKENDS is \"${HADAL_BACKENDS}\"; cpu has to be among them")
endif()

# hadal_backends(): a library for each kind of device, linked to hadal_kernels.
function(hadal_backends)
  foreach(kind IN LISTS HADAL_BACKENDS)
    if(NOT kind STREQUAL "cpu" AND NOT EXISTS ${CMAKE_SOURCE_DIR}/hadal/kernels/${kind})
      message(FATAL_ERROR "HADAL_BACKENDS names ${kind}, and there is no folder hadal/kernels/${kind}")
    endif()
  endforeach()
  foreach(kind IN LISTS HADAL_DEVICE_KINDS)
    if(kind IN_LIST HADAL_BACKENDS)
      file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/hadal/kernels/${kind}/*.cpp)
      list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
    else()
      set(sources ${CMAKE_SOURCE_DIR}/hadal/kernels/stub/${kind}.cpp)
    endif()
    add_library(hadal_backend_${kind} STATIC ${sources})
    target_link_libraries(hadal_backend_${kind} PUBLIC hadal_options hadal_core hadal_kernels)
    target_link_libraries(hadal_kernels PUBLIC hadal_backend_${kind})
  endforeach()
endfunction()
