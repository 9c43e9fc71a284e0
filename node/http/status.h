/* The one table from error codes to HTTP statuses. */
#ifndef SHL_NODE_HTTP_STATUS_H
#define SHL_NODE_HTTP_STATUS_H

/* @code is negative (base/err.h or errno); unknown ones are 500. */
int node_http_status(int code);

/* The machine-readable "code" of the error envelope, or NULL when the status says it all. */
const char *node_http_error_code(int code);

/* Seconds for Retry-After, 0 for none. */
unsigned node_http_retry_after_s(int code);

/* "Not Found" and so on, for the replies written without the HTTP library. */
const char *node_http_reason(int status);

#endif /* SHL_NODE_HTTP_STATUS_H */
