#include "agent/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/io.h"

#define BUNDLE_MAX  (4u * 1024 * 1024)
#define LINKS_MAX   10 /* of one hash */
#define SOURCE_NAME "shoal-%s.crt"

/* ---- decoding -------------------------------------------------------------------- */

static bool is_hash(const char *text)
{
    size_t i;

    for (i = 0; text[i]; i++) {
        if (shl_hex_digit(text[i]) < 0) {
            return false;
        }
    }
    return i == AGENT_TRUST_HASH_DIGITS;
}

int agent_trust_decode(struct agent_trust *trust, const msgpack_object *list, struct shl_err *err)
{
    size_t bytes = 0;
    uint32_t i;

    if (!list) {
        return 0;
    }
    if (list->type != MSGPACK_OBJECT_ARRAY || list->via.array.size > AGENT_TRUST_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "trust must be a list of at most %d certificates",
                           AGENT_TRUST_MAX);
    }
    for (i = 0; i < list->via.array.size; i++) {
        struct agent_trusted *one = &trust->list[i];
        const msgpack_object *map = &list->via.array.ptr[i];

        if (shl_mp_get_cpy(map, "hash", one->hash, sizeof(one->hash)) < 0 || !is_hash(one->hash) ||
            shl_mp_get_dup(map, "pem", &one->pem) < 0) {
            return shl_err_set(err, SHL_EINVALIDARG,
                               "a certificate to trust needs hash (8 digits) and pem");
        }
        trust->count = i + 1;
        bytes += strlen(one->pem);
        if (bytes > AGENT_TRUST_BYTES) {
            return shl_err_set(err, SHL_EINVALIDARG, "certificates to trust have at most %u bytes",
                               AGENT_TRUST_BYTES);
        }
    }
    return 0;
}

void agent_trust_release(struct agent_trust *trust)
{
    size_t i;

    for (i = 0; i < AGENT_TRUST_MAX; i++) {
        free(trust->list[i].pem);
        trust->list[i].pem = NULL;
    }
    trust->count = 0;
}

/* ---- files ----------------------------------------------------------------------- */

static bool file_is(const char *path, const char *text)
{
    struct shl_buf buf;
    bool same;

    shl_buf_init(&buf, AGENT_TRUST_BYTES + 1);
    same = shl_read_file(path, &buf) == 0 && shl_buf_len(&buf) == strlen(text) &&
           memcmp(shl_buf_data(&buf), text, strlen(text)) == 0;
    shl_buf_release(&buf);
    return same;
}

/* A link in this place would lead root to where a user wants something written. */
static int write_file(const char *path, const char *text)
{
    SHL_CLEANUP_FD int fd = -1;

    if (file_is(path, text)) {
        return 0;
    }
    (void)unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : shl_write_full(fd, text, strlen(text));
}

/* Appended to the bundle unless it is in there. */
static int add_to_bundle(const char *root, const char *pem)
{
    SHL_CLEANUP_FD int fd = -1;
    char path[PATH_MAX];
    struct shl_buf buf;
    bool has, needs_line;
    int rc;

    (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_BUNDLE, root);
    shl_buf_init(&buf, BUNDLE_MAX);
    rc = shl_read_file(path, &buf);
    has = rc == 0 && memmem(shl_buf_data(&buf), shl_buf_len(&buf), pem, strlen(pem)) != NULL;
    needs_line =
        rc == 0 && shl_buf_len(&buf) > 0 && shl_buf_data(&buf)[shl_buf_len(&buf) - 1] != '\n';
    shl_buf_release(&buf);
    if (has || (rc < 0 && rc != -ENOENT)) {
        return has ? 0 : rc;
    }
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return -errno;
    }
    rc = needs_line ? shl_write_full(fd, "\n", 1) : 0;
    return rc < 0 ? rc : shl_write_full(fd, pem, strlen(pem));
}

/* HASH.N in the folder, the first N that is free or ours. */
static int add_link(const char *root, const struct agent_trusted *one)
{
    char target[PATH_MAX], path[PATH_MAX], found[PATH_MAX];
    int n;

    (void)snprintf(target, sizeof(target), AGENT_TRUST_SOURCE "/" SOURCE_NAME, one->hash);
    for (n = 0; n < LINKS_MAX; n++) {
        ssize_t len;

        (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_FOLDER "/%s.%d", root, one->hash, n);
        if (symlink(target, path) == 0) {
            return 0;
        }
        if (errno != EEXIST) {
            return -errno;
        }
        len = readlink(path, found, sizeof(found) - 1);
        if (len > 0 && (size_t)len == strlen(target) && memcmp(found, target, (size_t)len) == 0) {
            return 0;
        }
    }
    return 0; /* the bundle has it */
}

static int add(const struct agent_trusted *one, const char *root)
{
    char path[PATH_MAX];
    int rc;

    (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_SOURCE "/" SOURCE_NAME, root, one->hash);
    rc = write_file(path, one->pem);
    if (rc == 0) {
        rc = add_to_bundle(root, one->pem);
    }
    return rc < 0 ? rc : add_link(root, one);
}

/* All of them in one file, for programs that take one beside their own. */
static int write_together(const struct agent_trust *trust, const char *root)
{
    char path[PATH_MAX];
    struct shl_buf text;
    size_t i;
    int rc = 0;

    shl_buf_init(&text, AGENT_TRUST_BYTES + 1);
    for (i = 0; i < trust->count && rc == 0; i++) {
        rc = shl_buf_append_str(&text, trust->list[i].pem);
    }
    rc = rc < 0 ? rc : shl_buf_append(&text, "", 1);
    (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_FILE, root);
    rc = rc < 0 ? rc : write_file(path, (const char *)shl_buf_data(&text));
    shl_buf_release(&text);
    return rc;
}

int agent_trust_apply(const struct agent_trust *trust, const char *root, struct shl_err *err)
{
    char path[PATH_MAX];
    size_t i;
    int rc;

    if (trust->count == 0) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_SOURCE, root);
    rc = shl_mkdir_all(path, 0755);
    if (rc == 0) {
        (void)snprintf(path, sizeof(path), "%s" AGENT_TRUST_FOLDER, root);
        rc = shl_mkdir_all(path, 0755);
    }
    for (i = 0; i < trust->count && rc == 0; i++) {
        rc = add(&trust->list[i], root);
    }
    rc = rc < 0 ? rc : write_together(trust, root);
    return rc < 0 ? shl_err_sys(err, -rc, "certificates could not be added to those trusted") : 0;
}
