/* What a sandbox that failed leaves for people: the ends of its console and of its VMM's log.
 * Its run folder goes with it, and the reason of a failure is one line: a kernel that died had
 * more to say. DATA/failed/ID.log, for the last REMAINS_MAX of them. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "node/sandbox/sandbox.h"

#define REMAINS_MAX       32
#define REMAINS_LOOKED_AT 1024 /* names in the folder */
#define TAIL_BYTES        (64u * 1024)

static int add_tail(const struct sandbox *sandbox, const char *name, struct shl_buf *text)
{
    char head[64];
    struct shl_buf tail;
    int rc;

    shl_buf_init(&tail, TAIL_BYTES);
    rc = files_read_tail(sandbox, name, &tail);
    if (rc == 0 && shl_buf_len(&tail) > 0) {
        (void)snprintf(head, sizeof(head), "---- end of %s\n", name);
        rc = shl_buf_append(text, head, strlen(head));
        if (rc == 0) {
            rc = shl_buf_append(text, shl_buf_data(&tail), shl_buf_len(&tail));
        }
        if (rc == 0) {
            rc = shl_buf_append(text, "\n", 1);
        }
    }
    shl_buf_release(&tail);
    return rc == SHL_ENOTFOUND ? 0 : rc;
}

/* Removes the oldest one when there are too many. */
static void make_room(const char *folder)
{
    char oldest[NAME_MAX + 1] = "";
    struct timespec oldest_time = {0};
    struct dirent *entry;
    DIR *dir = opendir(folder);
    int count = 0, seen = 0;

    if (!dir) {
        return;
    }
    while (seen++ < REMAINS_LOOKED_AT && (entry = readdir(dir)) != NULL) {
        struct stat st;

        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(st.st_mode)) {
            continue;
        }
        count++;
        if (oldest[0] == '\0' || st.st_mtim.tv_sec < oldest_time.tv_sec ||
            (st.st_mtim.tv_sec == oldest_time.tv_sec && st.st_mtim.tv_nsec < oldest_time.tv_nsec)) {
            (void)snprintf(oldest, sizeof(oldest), "%s", entry->d_name);
            oldest_time = st.st_mtim;
        }
    }
    if (count >= REMAINS_MAX) {
        (void)unlinkat(dirfd(dir), oldest, 0);
    }
    (void)closedir(dir);
}

static int write_remains(const struct sandbox *sandbox, const struct shl_buf *text)
{
    const char *data_dir = sandbox->pub.manager->data_dir;
    char path[SANDBOX_PATH_MAX];
    int rc;

    (void)snprintf(path, sizeof(path), "%s/failed", data_dir);
    rc = shl_mkdir_all(path, 0700);
    if (rc < 0) {
        return rc;
    }
    make_room(path);
    (void)snprintf(path, sizeof(path), "%s/failed/%s.log", data_dir, sandbox->pub.id);
    return shl_write_file_atomic(path, shl_buf_data(text), shl_buf_len(text), 0600);
}

void remains_keep(const struct sandbox *sandbox)
{
    struct shl_buf text;
    int rc;

    shl_buf_init(&text, 4 * TAIL_BYTES);
    rc = add_tail(sandbox, FILES_CONSOLE, &text);
    if (rc == 0) {
        rc = add_tail(sandbox, FILES_VMM_LOG, &text);
    }
    if (rc == 0 && shl_buf_len(&text) > 0) {
        rc = write_remains(sandbox, &text);
    }
    if (rc < 0) {
        SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "failed_sandbox_log_lost",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", shl_err_text(rc)));
    }
    shl_buf_release(&text);
}
