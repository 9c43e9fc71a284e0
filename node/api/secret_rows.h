/* Secret stores and secrets as this node knows them: reading rows (node/secret/row.h). Loop thread.
 */
#ifndef SHL_NODE_API_SECRET_ROWS_H
#define SHL_NODE_API_SECRET_ROWS_H

#include "node/api/router.h"
#include "node/secret/row.h"

struct secret_store {
    struct node_store_row row;
    char key[NODE_ROW_KEY_SIZE];
    uint64_t revision;
};

struct secret_entry {
    struct node_secret_row row; /* .sealed is set only while secret_each runs */
    char key[NODE_ROW_KEY_SIZE];
    uint64_t revision;
};

/* 0, and the store is to be released with node_store_row_release; SHL_ENOTFOUND; -ENOMEM;
 * SHL_ECORRUPT, SHL_EVERSION with a sentence. */
SHL_MUST_CHECK int secret_store_by_id(struct node_router *router,
                                      const char *org,
                                      const char *id,
                                      struct secret_store *ret,
                                      struct shl_err *err);
SHL_MUST_CHECK int secret_store_by_name(struct node_router *router,
                                        const char *org,
                                        const char *name,
                                        struct secret_store *ret,
                                        struct shl_err *err);
/* A row of the store @id that is left of an unfinished change of its name: 1 and its key and
 * revision, else 0. */
int secret_store_leftover(struct node_router *router,
                          const char *org,
                          const char *id,
                          const char *key,
                          char ret_key[NODE_ROW_KEY_SIZE],
                          uint64_t *ret_revision);
/* By row, leftovers left out. @each borrows; false stops. */
void secret_store_each(struct node_router *router,
                       const char *org,
                       bool (*each)(void *arg, const struct secret_store *store),
                       void *arg);

/* 0, then released with node_secret_row_release (.sealed is not set); SHL_ENOTFOUND ... */
SHL_MUST_CHECK int secret_by_name(struct node_router *router,
                                  const char *store_id,
                                  const char *name,
                                  struct secret_entry *ret,
                                  struct shl_err *err);
/* @each borrows; false stops. Damaged ones are left out. */
void secret_each(struct node_router *router,
                 const char *store_id,
                 bool (*each)(void *arg, const struct secret_entry *secret),
                 void *arg);

/* The value of a secret, in guarded memory (sodium_free). 0, SHL_ENOTFOUND (no such secret),
 * SHL_EUNAVAILABLE (no key), SHL_ECORRUPT, -ENOMEM; and its row, released as above. */
SHL_MUST_CHECK int secret_open(struct node_router *router,
                               const char *store_id,
                               const char *name,
                               struct secret_entry *ret,
                               uint8_t **ret_value,
                               size_t *ret_len,
                               struct shl_err *err);

#endif /* SHL_NODE_API_SECRET_ROWS_H */
