/* Random identifiers and hexadecimal text. Only programs at the edge call these:
 * the pure cores get randomness inside their events. */
#ifndef SHL_BASE_ID_H
#define SHL_BASE_ID_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/* Fills from getrandom(2); does not return without the bytes. */
void shl_random_bytes(void *dst, size_t len);

/* @dst receives 2 * @len lower-case digits and a terminator. */
void shl_hex_encode(char *dst, const uint8_t *src, size_t len);

/* Value of one digit, either case; -1 for another character. */
int shl_hex_digit(char c);

/* Exactly 2 * @len digits, either case. Returns 0 or -EINVAL. */
SHL_MUST_CHECK int shl_hex_decode(uint8_t *dst, size_t len, const char *text);

/* @prefix followed by @digits (even) random hexadecimal digits; @size includes the terminator. */
void shl_id_make(char *dst, size_t size, const char *prefix, size_t digits);

#define SHL_UUID_SIZE 37
/* Random (version 4) UUID text. */
void shl_uuid_make(char dst[SHL_UUID_SIZE]);

#endif /* SHL_BASE_ID_H */
