/* A LevelDB database of a node: how each is opened, and its errors as sentences.
 *
 * Only files in node/store/ include this. Reads verify checksums, writes are synchronous.
 */
#ifndef SHL_NODE_STORE_DB_H
#define SHL_NODE_STORE_DB_H

#include <leveldb/c.h>

#include "base/err.h"

/* Owned by the caller; all members NULL when closed. */
struct node_db {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_readoptions_t *read;
    leveldb_writeoptions_t *write; /* synchronous */
};

/* Makes the folder and the database when there are none. @what names it in sentences ("the
 * records"). A damaged one, or one that lost files, is refused (SHL_ECORRUPT) instead of
 * started empty. */
SHL_MUST_CHECK int node_db_open(struct node_db *db,
                                const char *dir,
                                const char *what,
                                struct shl_err *err);
/* Of a half-opened one too. */
void node_db_close(struct node_db *db);

/* Takes LevelDB's @message into @err; it names files and the damage. Returns @code. */
int node_db_error(struct shl_err *err, int code, const char *what, char *message);

#endif /* SHL_NODE_STORE_DB_H */
