/* Folders for `shoal cp`: they travel as tar archives through a session in the sandbox.
 *
 * What comes out of a sandbox is hostile: it is unpacked into a fresh folder, of which only
 * folders, files and links can come, and takes its place when all of it is there. libarchive reads
 * and writes the archives. One thread. Errors are one sentence; 0 or a negative code.
 */
#ifndef SHL_CLIENT_CP_H
#define SHL_CLIENT_CP_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "client/cli.h"

#define CP_ENTRIES_MAX (1000u * 1000) /* of an archive out of a sandbox */
#define CP_DEPTH_MAX   256u           /* folders in folders */

struct cp_counts {
    uint64_t bytes;
    unsigned entries;
};

/* cp_pack.c: @root, followed when it is a link, as an archive of names below "." given to
 * @write. Links in it are packed as links; what is no folder, file or link is refused. */
typedef int (*cp_write_cb)(void *arg, const void *data, size_t len);
SHL_MUST_CHECK int cp_pack(const char *root,
                           cp_write_cb write,
                           void *arg,
                           struct cp_counts *counts,
                           struct shl_err *err);

/* cp_unpack.c: the archive that @read gives (some bytes, valid until the next call; 0 at the
 * end, a negative code), into the empty folder @path of ours alone. Refused are names that lead
 * out of it, ways through links, hard links and devices. Owners and set-id bits are dropped. */
typedef ssize_t (*cp_read_cb)(void *arg, const void **ret_data);
SHL_MUST_CHECK int cp_unpack(const char *path,
                             cp_read_cb read,
                             void *arg,
                             struct cp_counts *counts,
                             struct shl_err *err);

/* cp_tree.c: move what is in @from into the folder @to, on the same file system. Folders are
 * merged, files and links replaced; links are never followed. Nothing has changed when a folder
 * is in the way of a file, or the other way round (SHL_ECONFLICT). */
SHL_MUST_CHECK int cp_merge(const char *from, const char *to, struct shl_err *err);
/* With everything in it, whatever its modes and however deep. The working directory is another
 * one meanwhile, as in cp_unpack. */
void cp_remove(const char *path);

/* cp_session.c: a script in the sandbox with pipes to it. */
struct cp_session {
    struct cli *cli;
    const char *id;
    char session[128];
    struct shoal_stream *stream;
    struct shl_buf out; /* of its stdout, not taken yet */
    size_t taken;       /* of @out, by the last read */
    char said[400];     /* the beginning of its stderr */
    size_t said_len;
    bool is_over;
    struct shoal_error failed; /* of the server, when it could not be opened */
};
/* @args end with NULL; the program is /bin/sh -c. Closed by the caller in any case. */
SHL_MUST_CHECK int cp_session_open(struct cp_session *s,
                                   struct cli *cli,
                                   const char *id,
                                   const char *script,
                                   const char *const *args,
                                   struct shl_err *err);
/* What it has printed next, valid until the next call; 0 at the end, a negative code. */
SHL_MUST_CHECK ssize_t cp_session_read(struct cp_session *s, const void **ret_data);
/* To its stdin. SHL_EGONE: it has ended. */
SHL_MUST_CHECK int cp_session_write(struct cp_session *s, const void *data, size_t len);
/* The end of its stdin, then wait for its end; the rest of its stdout is dropped.
 * @ret_exit_code is -1 when it is not known. */
SHL_MUST_CHECK int cp_session_finish(struct cp_session *s, int *ret_exit_code, struct shl_err *err);
/* What still runs ends soon after. */
void cp_session_close(struct cp_session *s);

/* cp_folder.c: exit codes. @from and @to are paths in the sandbox. Is @path a folder there? */
bool cp_is_remote_folder(struct cli *cli, const char *id, const char *path);
int cp_fetch_folder(struct cli *cli, const char *id, const char *from, const char *to);
int cp_store_folder(struct cli *cli, const char *from, const char *id, const char *to);

/* cmd_cp.c */
bool cp_is_interrupted(void);
void cp_progress(struct cli *cli, const struct cp_counts *counts);

#endif /* SHL_CLIENT_CP_H */
