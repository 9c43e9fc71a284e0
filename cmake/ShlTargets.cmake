# shl_library(name SOURCES... LINK ...): a folder's static library with strict warnings.
# shl_test(folder/module SOURCES ... LINK ...): a cmocka program, label "unit".
# shl_fuzz(name SOURCES ... LINK ... CORPUS dir): a libFuzzer program; the smoke run in
# ctest (label "fuzz") replays the corpus and then fuzzes for SHL_FUZZ_SECONDS.
set(SHL_FUZZ_SECONDS 5 CACHE STRING "Seconds per fuzz target in the smoke run")

function(shl_library name)
    cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
    add_library(${name} STATIC ${A_SOURCES})
    target_link_libraries(${name} PRIVATE shl_strict PUBLIC shl_flags ${A_LINK})
endfunction()

function(shl_program name)
    cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
    add_executable(${name} ${A_SOURCES})
    target_link_libraries(${name} PRIVATE shl_strict ${A_LINK})
    if(NOT SHL_SANITIZE)
        set_target_properties(${name} PROPERTIES LINK_FLAGS "-pie")
    endif()
endfunction()

function(shl_test name)
    cmake_parse_arguments(A "" "" "SOURCES;LINK;LABELS" ${ARGN})
    string(REPLACE "/" "_" target "test_${name}")
    add_executable(${target} ${A_SOURCES})
    target_link_libraries(${target} PRIVATE shl_flags ${A_LINK} PkgConfig::CMOCKA)
    add_test(NAME ${name} COMMAND ${target})
    if(NOT A_LABELS)
        set(A_LABELS unit)
    endif()
    set_tests_properties(${name} PROPERTIES LABELS "${A_LABELS}" SKIP_RETURN_CODE 77 TIMEOUT 300)
endfunction()

function(shl_fuzz name)
    if(NOT SHL_FUZZ)
        return()
    endif()
    cmake_parse_arguments(A "" "CORPUS" "SOURCES;LINK" ${ARGN})
    add_executable(fuzz_${name} ${A_SOURCES})
    if(NOT TARGET fuzzers) # all of them: nothing else is of use with that preset
        add_custom_target(fuzzers)
    endif()
    add_dependencies(fuzzers fuzz_${name})
    target_link_libraries(fuzz_${name} PRIVATE shl_flags ${A_LINK})
    target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    # New inputs go to the build folder; the corpus in the tree is only read.
    set(grown "${CMAKE_CURRENT_BINARY_DIR}/corpus-${name}")
    file(MAKE_DIRECTORY "${grown}")
    add_test(NAME fuzz/${name} COMMAND fuzz_${name} -max_total_time=${SHL_FUZZ_SECONDS}
        -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 "${grown}" "${A_CORPUS}")
    set_tests_properties(fuzz/${name} PROPERTIES LABELS fuzz TIMEOUT 600)
endfunction()
