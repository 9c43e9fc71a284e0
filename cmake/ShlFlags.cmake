# Compiler and linker settings, on one INTERFACE target every target links.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_library(shl_flags INTERFACE)
target_include_directories(shl_flags INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_definitions(shl_flags INTERFACE _GNU_SOURCE SHL_VERSION="${PROJECT_VERSION}")
target_compile_options(shl_flags INTERFACE
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wundef
    -Wwrite-strings -Wpointer-arith -Wcast-align -Wformat=2 -Wimplicit-fallthrough -Wswitch-enum
    -Wvla -Wdouble-promotion
    -Werror=implicit-function-declaration -Werror=return-type
    -Werror=incompatible-pointer-types -Werror=int-conversion
    -fno-common -fno-strict-aliasing -fvisibility=hidden -fstack-protector-strong
    -fno-omit-frame-pointer -g)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    target_compile_options(shl_flags INTERFACE -Wlogical-op -Wduplicated-cond)
endif()
if(SHL_WERROR)
    target_compile_options(shl_flags INTERFACE -Werror)
endif()

# Product code also converts explicitly; tests do not need to.
add_library(shl_strict INTERFACE)
target_link_libraries(shl_strict INTERFACE shl_flags)
target_compile_options(shl_strict INTERFACE -Wconversion -Wno-sign-conversion)

if(SHL_SANITIZE)
    target_compile_options(shl_flags INTERFACE -fsanitize=${SHL_SANITIZE} -fno-sanitize-recover=all)
    target_link_options(shl_flags INTERFACE -fsanitize=${SHL_SANITIZE})
elseif(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
    target_compile_options(shl_flags INTERFACE -D_FORTIFY_SOURCE=2 -fstack-clash-protection)
    target_link_options(shl_flags INTERFACE -Wl,-z,relro,-z,now)
endif()
# Asserts stay on in every build: they guard what a hostile guest or peer could reach.
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
    set(CMAKE_C_FLAGS_DEBUG "-Og -g")
endif()
