/* A local folder as a tar archive. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/cp.h"

#define BLOCK_BYTES (120 * 512) /* of the archive given away at once */
#define PIECE_BYTES (64 * 1024) /* of a file read at once */

struct pack {
    struct archive *archive;
    struct archive_entry *entry;
    cp_write_cb write;
    void *arg;
    struct cp_counts *counts;
    int write_code; /* what @write returned */
    bool is_over;
    struct shl_err *err;
};

static la_ssize_t on_write(struct archive *archive, void *arg, const void *data, size_t len)
{
    struct pack *pack = arg;

    if (!pack->is_over && pack->write_code == 0) {
        pack->write_code = pack->write(pack->arg, data, len);
    }
    if (pack->is_over || pack->write_code < 0) {
        archive_set_error(archive, EIO, "the archive could not be sent");
        return -1;
    }
    return (la_ssize_t)len;
}

/* The reason is in the archive, or @write's. */
static int archive_failed(const struct pack *pack, const char *path)
{
    const char *text = archive_error_string(pack->archive);

    return pack->write_code < 0
               ? shl_err_set(pack->err, pack->write_code, "the archive could not be sent")
               : shl_err_set(pack->err, -EIO, "%s: %s", path, text ? text : "it cannot be packed");
}

/* As many bytes as its header says, or an error. */
static int pack_data(struct pack *pack, int fd, const char *path, uint64_t size)
{
    static char piece[PIECE_BYTES];

    while (size > 0) {
        ssize_t got = read(fd, piece, SHL_MIN(size, (uint64_t)sizeof(piece)));

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return shl_err_sys(pack->err, errno, "%s", path);
        }
        if (got == 0) {
            return shl_err_set(pack->err, -EIO, "%s became shorter while it was read", path);
        }
        if (archive_write_data(pack->archive, piece, (size_t)got) != got) {
            return archive_failed(pack, path);
        }
        size -= (uint64_t)got;
        pack->counts->bytes += (uint64_t)got;
    }
    return 0;
}

static int pack_header(struct pack *pack, const char *path)
{
    if (archive_write_header(pack->archive, pack->entry) < ARCHIVE_WARN) {
        return archive_failed(pack, path);
    }
    pack->counts->entries++;
    return 0;
}

static int pack_file(struct pack *pack, const FTSENT *found)
{
    /* Not what took its place since: a link, or a pipe that nobody writes to. */
    SHL_CLEANUP_FD int fd =
        open(found->fts_accpath, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    int rc;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return shl_err_sys(pack->err, errno, "%s", found->fts_path);
    }
    if (!S_ISREG(st.st_mode)) {
        return shl_err_set(pack->err, -EIO, "%s changed while it was read", found->fts_path);
    }
    archive_entry_set_size(pack->entry, st.st_size);
    rc = pack_header(pack, found->fts_path);
    return rc < 0 ? rc : pack_data(pack, fd, found->fts_path, (uint64_t)st.st_size);
}

static int pack_link(struct pack *pack, const FTSENT *found)
{
    char target[PATH_MAX];
    ssize_t len = readlink(found->fts_accpath, target, sizeof(target) - 1);

    if (len < 0) {
        return shl_err_sys(pack->err, errno, "%s", found->fts_path);
    }
    target[len] = '\0';
    archive_entry_set_symlink(pack->entry, target);
    return pack_header(pack, found->fts_path);
}

/* @root_len bytes of the path are those of the root itself. */
static int pack_one(struct pack *pack, const FTSENT *found, size_t root_len)
{
    char name[PATH_MAX + 2];
    const char *rest = found->fts_path + root_len;

    if ((size_t)snprintf(name, sizeof(name), "./%s", rest + strspn(rest, "/")) >= sizeof(name)) {
        return shl_err_set(pack->err, -ENAMETOOLONG, "%s: the name is too long", found->fts_path);
    }
    archive_entry_clear(pack->entry);
    archive_entry_copy_stat(pack->entry, found->fts_statp);
    archive_entry_set_uid(pack->entry, 0);
    archive_entry_set_gid(pack->entry, 0);
    archive_entry_set_nlink(pack->entry, 1);
    archive_entry_set_pathname(pack->entry, name);
    switch (found->fts_info) {
    case FTS_D:
        archive_entry_set_size(pack->entry, 0);
        return pack_header(pack, found->fts_path);
    case FTS_F:
        return pack_file(pack, found);
    case FTS_SL:
    case FTS_SLNONE:
        archive_entry_set_size(pack->entry, 0);
        return pack_link(pack, found);
    case FTS_DP:
        return 0;
    case FTS_DEFAULT:
        return shl_err_set(pack->err, SHL_EINVALIDARG,
                           "%s is no file, folder or link, and nothing else can be copied",
                           found->fts_path);
    default:
        return shl_err_sys(pack->err, found->fts_errno ? found->fts_errno : EIO, "%s",
                           found->fts_path);
    }
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int pack_tree(struct pack *pack, const char *root)
{
    char *paths[] = {(char *)(uintptr_t)root, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    const FTSENT *found;
    int rc = 0;

    if (!tree) {
        return shl_err_sys(pack->err, errno, "%s", root);
    }
    errno = 0;
    while (rc == 0 && (found = fts_read(tree)) != NULL) {
        rc = pack_one(pack, found, strlen(root));
        errno = 0;
    }
    if (rc == 0 && errno != 0) {
        rc = shl_err_sys(pack->err, errno, "%s", root);
    }
    (void)fts_close(tree);
    return rc;
}

int cp_pack(const char *root,
            cp_write_cb write,
            void *arg,
            struct cp_counts *counts,
            struct shl_err *err)
{
    struct pack pack = {.archive = archive_write_new(),
                        .entry = archive_entry_new(),
                        .write = write,
                        .arg = arg,
                        .counts = counts,
                        .err = err};
    int rc;

    /* The format that every tar of a sandbox reads, with long names and large files. */
    if (!pack.archive || !pack.entry ||
        archive_write_set_format_gnutar(pack.archive) != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(pack.archive, BLOCK_BYTES) != ARCHIVE_OK ||
        archive_write_open(pack.archive, &pack, NULL, on_write, NULL) != ARCHIVE_OK) {
        rc = shl_err_set(err, -ENOMEM, "no archive can be made");
    } else {
        rc = pack_tree(&pack, root);
        if (rc == 0 && archive_write_close(pack.archive) != ARCHIVE_OK) {
            rc = archive_failed(&pack, root);
        }
    }
    archive_entry_free(pack.entry);
    if (pack.archive) {
        pack.is_over = rc < 0; /* nothing more is sent, not even a proper end */
        (void)archive_write_free(pack.archive);
    }
    return rc;
}
