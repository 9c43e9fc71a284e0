/* Fields of JSON request bodies, checked.
 *
 * Pure. A field that is null counts as absent. Each getter returns 1 when the field is
 * there, 0 when absent (the result is then untouched), or SHL_EINVALIDARG with a
 * sentence that names the field. Strings are borrowed from the JSON value.
 */
#ifndef SHL_NODE_API_PARAMS_H
#define SHL_NODE_API_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "node/sandbox/manager.h"

/* Depth of nested values, against bodies made to exhaust the stack. */
#define NODE_PARAMS_DEPTH_MAX 64

/* A JSON object; an empty body is {}. 0 and a new reference, or SHL_EINVALIDARG. */
SHL_MUST_CHECK int node_params_parse(struct shl_bytes body,
                                     json_t **ret_object,
                                     struct shl_err *err);

SHL_MUST_CHECK int node_params_str(const json_t *object,
                                   const char *name,
                                   const char **ret_text,
                                   struct shl_err *err);
SHL_MUST_CHECK int node_params_bool(const json_t *object,
                                    const char *name,
                                    bool *ret_value,
                                    struct shl_err *err);
SHL_MUST_CHECK int node_params_int(const json_t *object,
                                   const char *name,
                                   int64_t min,
                                   int64_t max,
                                   int64_t *ret_value,
                                   struct shl_err *err);
/* An array of strings; *ret_array is borrowed. */
SHL_MUST_CHECK int node_params_strings(const json_t *object,
                                       const char *name,
                                       const json_t **ret_array,
                                       struct shl_err *err);
/* A map of strings, copied to @ret_list. @is_env: names must work as environment
 * variables. */
SHL_MUST_CHECK int node_params_map(const json_t *object,
                                   const char *name,
                                   bool is_env,
                                   struct node_kv_list *ret_list,
                                   struct shl_err *err);

/* Text of a query parameter to a number in [min, max]. 0 or SHL_EINVALIDARG. */
SHL_MUST_CHECK int node_params_query_int(const char *name,
                                         const char *text,
                                         int64_t min,
                                         int64_t max,
                                         int64_t *ret_value,
                                         struct shl_err *err);

#endif /* SHL_NODE_API_PARAMS_H */
