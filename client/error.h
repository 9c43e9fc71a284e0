/* Filling a caller's struct shoal_error. All functions accept NULL and return the
 * code, so that failing is one statement. */
#ifndef SHL_CLIENT_ERROR_H
#define SHL_CLIENT_ERROR_H

#include "base/attr.h"
#include "client/shoal.h"

/* Replace code and sentence; keeps status and request id. @code is negative. */
int client_error_set(struct shoal_error *err, int code, const char *fmt, ...) SHL_PRINTF(3, 4);

/* Put "context: " in front of the sentence that is there. */
int client_error_wrap(struct shoal_error *err, const char *fmt, ...) SHL_PRINTF(2, 3);

/* Forget what an earlier attempt left. */
void client_error_clear(struct shoal_error *err);

/* Code for a status outside 2xx. */
int client_code_of_status(long status);

/* Server-chosen text reaches terminals: control characters become '?'. In place. */
void client_text_clean(char *text);

#endif /* SHL_CLIENT_ERROR_H */
