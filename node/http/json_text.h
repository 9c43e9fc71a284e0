/* JSON strings from bytes nobody checked (output of commands, file names).
 *
 * Pure. Bytes that are not UTF-8 become U+FFFD, one per maximal ill-formed part (what
 * browsers and Python's decoder do), so the result is always valid JSON.
 */
#ifndef SHL_NODE_HTTP_JSON_TEXT_H
#define SHL_NODE_HTTP_JSON_TEXT_H

#include "base/buf.h"

#define NODE_JSON_ESCAPE_MAX 6 /* bytes one input byte can become: \u001b */

/* Write the inside of a JSON string: as much of @src as fits into @cap bytes of @dst.
 * Returns the bytes written; *ret_used counts the bytes of @src they stand for. Makes
 * progress whenever @cap >= NODE_JSON_ESCAPE_MAX and @src is not empty. */
size_t node_json_escape(uint8_t *dst, size_t cap, struct shl_bytes src, size_t *ret_used);

/* Append a whole string with its quotation marks. 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int node_json_append(struct shl_buf *out, struct shl_bytes src);
SHL_MUST_CHECK int node_json_append_str(struct shl_buf *out, const char *text);

#endif /* SHL_NODE_HTTP_JSON_TEXT_H */
