# Libraries from the distribution. A missing one names the script that installs it.
function(shl_find name module)
    pkg_check_modules(${name} QUIET IMPORTED_TARGET ${module})
    if(NOT ${name}_FOUND)
        message(FATAL_ERROR "${module} was not found by pkg-config. Run scripts/deps, then try again.")
    endif()
endfunction()

shl_find(UV libuv)
shl_find(MHD libmicrohttpd)
shl_find(JANSSON jansson)
shl_find(SODIUM libsodium)
shl_find(CURL libcurl)
shl_find(SECCOMP libseccomp)
shl_find(NFTABLES libnftables)
shl_find(CMOCKA cmocka)
shl_find(OPENSSL libcrypto)
shl_find(ZSTD libzstd)
shl_find(ZMQ libzmq)

# LevelDB and msgpack-c carry no usable pkg-config file on every supported release.
find_library(SHL_LEVELDB leveldb)
find_library(SHL_MSGPACK NAMES msgpackc msgpack-c)
find_library(SHL_MSGPACK_STATIC NAMES libmsgpackc.a libmsgpack-c.a)
find_path(SHL_MSGPACK_INCLUDE msgpack.h)
find_library(SHL_SECCOMP_STATIC NAMES libseccomp.a)
foreach(var SHL_LEVELDB SHL_MSGPACK SHL_MSGPACK_STATIC SHL_MSGPACK_INCLUDE SHL_SECCOMP_STATIC)
    if(NOT ${var})
        message(FATAL_ERROR "${var} was not found. Run scripts/deps, then try again.")
    endif()
endforeach()

add_library(shl_leveldb INTERFACE)
target_link_libraries(shl_leveldb INTERFACE ${SHL_LEVELDB})
# The static archive serves every program: the guest agent is static, and a node
# machine then needs one shared library less.
add_library(shl_msgpack INTERFACE)
target_link_libraries(shl_msgpack INTERFACE ${SHL_MSGPACK_STATIC})
target_include_directories(shl_msgpack SYSTEM INTERFACE ${SHL_MSGPACK_INCLUDE})
# Static for the VMM, which is.
add_library(shl_seccomp INTERFACE)
target_link_libraries(shl_seccomp INTERFACE ${SHL_SECCOMP_STATIC})
target_include_directories(shl_seccomp SYSTEM INTERFACE ${SECCOMP_INCLUDE_DIRS})
