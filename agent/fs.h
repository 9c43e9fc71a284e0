/* What the file operations do to the disk. Blocking; called on pool threads.
 *
 * Error texts name the path; codes: SHL_ENOTFOUND, SHL_EINVALIDARG ("is a directory",
 * "not a directory", "not a regular file", bad path), -ENOSPC, other -errno. FIFOs and
 * devices are refused, and nothing here waits for one.
 */
#ifndef SHL_AGENT_FS_H
#define SHL_AGENT_FS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define AGENT_FS_LIST_MAX_BYTES (64u * 1024 * 1024)

/* Who owns what is newly made outside system folders: files and folders that are put
 * into a sandbox belong to its user, who then wants to chmod or change them. */
struct agent_fs_owner {
    uid_t uid;
    gid_t gid;
    bool active; /* false: whatever the agent is */
};

struct agent_fs_file {
    int fd; /* owned by the caller, close-on-exec */
    uint64_t size;
    uint32_t mode;
    bool regular; /* size is what will be read; false for files of /proc and the like */
};

SHL_MUST_CHECK int agent_fs_open_read(const char *path,
                                      struct agent_fs_file *ret_file,
                                      struct shl_err *err);

/* Truncated, made with missing parents (0644 in 0755); mode, owner and inode of an
 * existing file stay. */
SHL_MUST_CHECK int agent_fs_open_write(const char *path,
                                       const struct agent_fs_owner *owner,
                                       int *ret_fd,
                                       struct shl_err *err);

/* Appends one msgpack map per entry, sorted by name. -ECANCELED when *@cancel. */
SHL_MUST_CHECK int agent_fs_list(const char *path,
                                 const atomic_bool *cancel,
                                 struct shl_buf *buf,
                                 struct shl_err *err);

/* With parents. A folder that is there is fine. */
SHL_MUST_CHECK int agent_fs_mkdir(const char *path,
                                  const struct agent_fs_owner *owner,
                                  struct shl_err *err);

/* File or whole folder, links not followed, other file systems not entered. A path that
 * is not there is fine; the root and mount points are refused. */
SHL_MUST_CHECK int agent_fs_remove(const char *path,
                                   const atomic_bool *cancel,
                                   struct shl_err *err);

/* A system call on @path failed with @errnum: its code and text. */
int agent_fs_error(struct shl_err *err, int errnum, const char *path);

#endif /* SHL_AGENT_FS_H */
