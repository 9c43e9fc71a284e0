/* The format of a whole data folder: one number in DATA/format.
 *
 * Every store in it has a version of its own; this one is looked at before any of them is opened,
 * since opening already writes. Blocking. */
#ifndef SHL_NODE_STORE_FOLDER_H
#define SHL_NODE_STORE_FOLDER_H

#include "base/err.h"

#define NODE_FOLDER_FORMAT 1u

/* May this build use the folder? 0 also for a new one, and for one of before there was the file.
 * SHL_EVERSION: it is newer; SHL_ECORRUPT. Changes nothing. */
SHL_MUST_CHECK int node_folder_check(const char *data_dir, struct shl_err *err);
/* It is of this format from now on; when the folder is locked. */
SHL_MUST_CHECK int node_folder_mark(const char *data_dir, struct shl_err *err);

#endif /* SHL_NODE_STORE_FOLDER_H */
