/* Compiler attributes and the few macros every folder uses. */
#ifndef SHL_BASE_ATTR_H
#define SHL_BASE_ATTR_H

#include <stddef.h>

#define SHL_MUST_CHECK         __attribute__((warn_unused_result))
#define SHL_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define SHL_UNUSED             __attribute__((unused))
#define SHL_API                __attribute__((visibility("default")))
#define SHL_NORETURN           __attribute__((noreturn))

#define SHL_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* The structure that embeds @member, given a pointer to the member. */
#define shl_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define SHL_MIN(a, b) ((a) < (b) ? (a) : (b))
#define SHL_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif /* SHL_BASE_ATTR_H */
