/* Text that a guest or another program chose, made fit for records, logs and JSON. */
#ifndef SHL_NODE_SANDBOX_TEXT_H
#define SHL_NODE_SANDBOX_TEXT_H

#include "base/buf.h"

/* Copy what is printable UTF-8 of @text into @dst (always terminated, never cut inside
 * a character); control characters become blanks and bad bytes question marks. */
void node_text_clean(char *dst, size_t size, struct shl_bytes text);

/* The last line of @text that is not blank, cleaned; "" when there is none. */
void node_text_last_line(char *dst, size_t size, struct shl_bytes text);

#endif /* SHL_NODE_SANDBOX_TEXT_H */
