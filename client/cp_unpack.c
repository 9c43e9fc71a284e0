/* A tar archive out of a sandbox into a fresh folder. libarchive reads it and makes the entries;
 * which entries may be is decided here, before it hears of them, and it checks again on the disk.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/cp.h"

#define MODES 0777 /* no set-id bits from a sandbox */

struct unpack {
    struct archive *from;
    struct archive *disk;
    cp_read_cb read;
    void *arg;
    struct cp_counts *counts;
    int read_code; /* what @read returned */
    struct shl_err *err;
};

static la_ssize_t on_read(struct archive *archive, void *arg, const void **ret_data)
{
    struct unpack *unpack = arg;
    ssize_t got = unpack->read(unpack->arg, ret_data);

    if (got < 0) {
        unpack->read_code = (int)got;
        archive_set_error(archive, EIO, "the archive ends early");
        return -1;
    }
    return got;
}

/* Text out of the archive in a sentence. */
struct shown {
    char text[96];
};

static struct shown show(const char *name)
{
    struct shown shown;
    size_t i;

    for (i = 0; name[i] && i < sizeof(shown.text) - 1; i++) {
        unsigned char c = (unsigned char)name[i];

        shown.text[i] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
    }
    shown.text[i] = '\0';
    return shown;
}

static int refuse(struct unpack *unpack, const char *name, const char *why)
{
    return shl_err_set(unpack->err, SHL_EGUEST, "refused: \"%s\" in the sandbox's archive %s",
                       show(name).text, why);
}

static int reading_failed(struct unpack *unpack)
{
    const char *text = archive_error_string(unpack->from);

    return unpack->read_code < 0
               ? shl_err_set(unpack->err, unpack->read_code, "the archive ends early")
               : shl_err_set(unpack->err, SHL_EGUEST, "the sandbox sent no valid archive: %s",
                             text ? show(text).text : "it cannot be read");
}

static int writing_failed(struct unpack *unpack, const char *name)
{
    const char *text = archive_error_string(unpack->disk);
    int code = archive_errno(unpack->disk);

    return shl_err_set(unpack->err, code > 0 ? -code : -EIO, "%s: %s", show(name).text,
                       text ? show(text).text : "it cannot be written");
}

/* Only names that stay below, however they are read. */
static int check_name(struct unpack *unpack, const char *name)
{
    unsigned depth = 0;

    if (!name || !*name || strlen(name) >= PATH_MAX) {
        return refuse(unpack, name ? name : "", "has no usable name");
    }
    if (*name == '/') {
        return refuse(unpack, name, "has an absolute name");
    }
    for (const char *part = name; *part; part += strspn(part, "/")) {
        size_t len = strcspn(part, "/");

        if (len == 2 && memcmp(part, "..", 2) == 0) {
            return refuse(unpack, name, "leads out of the folder");
        }
        if (len > NAME_MAX || ++depth > CP_DEPTH_MAX) {
            return refuse(unpack, name, "has too long a name");
        }
        part += len;
    }
    return 0;
}

static int check_entry(struct unpack *unpack, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    const char *target;
    int rc = check_name(unpack, name);

    if (rc < 0) {
        return rc;
    }
    if (unpack->counts->entries >= CP_ENTRIES_MAX) {
        return shl_err_set(unpack->err, SHL_ELIMIT,
                           "refused: more than %u files and folders: copy parts, or an archive",
                           CP_ENTRIES_MAX);
    }
    if (archive_entry_hardlink(entry)) {
        return refuse(unpack, name, "is a hard link");
    }
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
    case AE_IFDIR:
        break;
    case AE_IFLNK:
        target = archive_entry_symlink(entry);
        if (!target || !*target || strlen(target) >= PATH_MAX) {
            return refuse(unpack, name, "is a link to nothing");
        }
        break;
    default:
        return refuse(unpack, name, "is no file, folder or link");
    }
    archive_entry_set_perm(entry, archive_entry_perm(entry) & MODES);
    unpack->counts->entries++;
    return 0;
}

static int unpack_data(struct unpack *unpack, const char *name)
{
    for (;;) {
        const void *data;
        size_t len;
        la_int64_t offset;
        int rc = archive_read_data_block(unpack->from, &data, &len, &offset);

        if (rc == ARCHIVE_EOF) {
            return 0;
        }
        if (rc < ARCHIVE_OK) { /* also a warning: it would be of missing bytes */
            return reading_failed(unpack);
        }
        if (archive_write_data_block(unpack->disk, data, len, offset) < ARCHIVE_OK) {
            return writing_failed(unpack, name);
        }
        unpack->counts->bytes += len;
    }
}

static int unpack_entry(struct unpack *unpack, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    int rc = check_entry(unpack, entry);

    if (rc < 0) {
        return rc;
    }
    if (archive_write_header(unpack->disk, entry) < ARCHIVE_OK) {
        return writing_failed(unpack, name);
    }
    rc = archive_entry_filetype(entry) == AE_IFREG ? unpack_data(unpack, name) : 0;
    if (rc == 0 && archive_write_finish_entry(unpack->disk) < ARCHIVE_OK) {
        rc = writing_failed(unpack, name);
    }
    return rc;
}

static int unpack_all(struct unpack *unpack)
{
    struct archive_entry *entry;
    int rc = 0;

    while (rc == 0) {
        int got = archive_read_next_header(unpack->from, &entry);

        if (got == ARCHIVE_EOF) {
            break;
        }
        /* A warning is of a name that this locale cannot write: it is there as bytes. */
        rc = got < ARCHIVE_WARN ? reading_failed(unpack) : unpack_entry(unpack, entry);
    }
    if (rc == 0 && unpack->counts->entries == 0) {
        return shl_err_set(unpack->err, SHL_EGUEST, "the sandbox sent no archive");
    }
    /* Modes and times of folders. */
    if (rc == 0 && archive_write_close(unpack->disk) != ARCHIVE_OK) {
        rc = writing_failed(unpack, ".");
    }
    return rc;
}

int cp_unpack(const char *path,
              cp_read_cb read,
              void *arg,
              struct cp_counts *counts,
              struct shl_err *err)
{
    /* libarchive makes entries below the working directory. */
    SHL_CLEANUP_FD int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct unpack unpack = {.from = archive_read_new(),
                            .disk = archive_write_disk_new(),
                            .read = read,
                            .arg = arg,
                            .counts = counts,
                            .err = err};
    int rc;

    if (!unpack.from || !unpack.disk || back < 0 ||
        archive_read_support_format_tar(unpack.from) != ARCHIVE_OK ||
        archive_write_disk_set_options(
            unpack.disk, ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
                             ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
                             ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS) != ARCHIVE_OK) {
        rc = shl_err_set(err, -ENOMEM, "no archive can be read");
    } else if (chdir(path) < 0) {
        rc = shl_err_sys(err, errno, "%s", path);
    } else if (archive_read_open(unpack.from, &unpack, NULL, on_read, NULL) != ARCHIVE_OK) {
        rc = reading_failed(&unpack);
    } else {
        rc = unpack_all(&unpack);
    }
    (void)archive_write_free(unpack.disk); /* closes it, which also needs the folder */
    if (back >= 0 && fchdir(back) < 0 && rc == 0) {
        rc = shl_err_sys(err, errno, "the working directory");
    }
    (void)archive_read_free(unpack.from);
    return rc;
}
