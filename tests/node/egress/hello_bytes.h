/* ClientHellos for the tests: a real one of OpenSSL, and the same cut into records. */
#ifndef SHL_TESTS_EGRESS_HELLO_BYTES_H
#define SHL_TESTS_EGRESS_HELLO_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* What OpenSSL's client sends for @name (may be NULL) with ALPN @alpn in wire form (may be
 * NULL). Returns the length; @size must do. */
size_t hello_make(uint8_t *dst, size_t size, const char *name, const char *alpn);

/* The handshake message of one record as records of at most @part bytes. */
size_t hello_split(uint8_t *dst, size_t size, const uint8_t *hello, size_t len, size_t part);

#endif /* SHL_TESTS_EGRESS_HELLO_BYTES_H */
