#include "node/store/folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"

#define PATH_SIZE 4200
#define TEXT_MAX  64

static int make_path(char path[PATH_SIZE], const char *data_dir, struct shl_err *err)
{
    return snprintf(path, PATH_SIZE, "%s/format", data_dir) < PATH_SIZE
               ? 0
               : shl_err_set(err, -ENAMETOOLONG, "--data is too long");
}

/* A number and a line end. */
static int parse(struct shl_bytes text, const char *path, struct shl_err *err)
{
    unsigned format = 0;
    size_t i;

    for (i = 0; i < text.len && text.base[i] >= '0' && text.base[i] <= '9' && format < 100000;
         i++) {
        format = format * 10 + (unsigned)(text.base[i] - '0');
    }
    if (format == 0 || i + 1 != text.len || text.base[i] != '\n') {
        return shl_err_set(err, SHL_ECORRUPT, "%s is damaged: it should hold a number", path);
    }
    if (format > NODE_FOLDER_FORMAT) {
        return shl_err_set(err, SHL_EVERSION,
                           "this data folder has format %u (%.100s), this shoald knows up to %u: a "
                           "newer version has used it. Use that version; nothing was changed",
                           format, path, NODE_FOLDER_FORMAT);
    }
    return 0;
}

int node_folder_check(const char *data_dir, struct shl_err *err)
{
    char path[PATH_SIZE];
    struct shl_buf text;
    int rc = make_path(path, data_dir, err);

    if (rc < 0) {
        return rc;
    }
    shl_buf_init(&text, TEXT_MAX);
    rc = shl_read_file(path, &text);
    if (rc == SHL_ELIMIT) {
        rc = shl_err_set(err, SHL_ECORRUPT, "%s is damaged: it should hold a number", path);
    } else if (rc < 0) {
        rc = rc == -ENOENT ? 0 : shl_err_sys(err, -rc, "cannot read %s", path);
    } else {
        rc = parse(shl_buf_bytes(&text), path, err);
    }
    shl_buf_release(&text);
    return rc;
}

int node_folder_mark(const char *data_dir, struct shl_err *err)
{
    char path[PATH_SIZE], text[TEXT_MAX];
    int len = snprintf(text, sizeof(text), "%u\n", NODE_FOLDER_FORMAT);
    int rc = make_path(path, data_dir, err);

    if (rc < 0 || access(path, F_OK) == 0) {
        return rc; /* an older one is changed by whoever migrates it */
    }
    rc = shl_write_file_atomic(path, text, (size_t)len, 0600);
    return rc < 0 ? shl_err_sys(err, -rc, "cannot write %s", path) : 0;
}
