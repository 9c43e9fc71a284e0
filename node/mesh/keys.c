#include "node/mesh/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/mp.h"
#include "base/sum.h"

#define FILE_BYTES_MAX 512
#define FORMAT         1

void node_mesh_keys_id(const uint8_t public_key[NODE_KEY_BYTES], struct shl_node_id *ret)
{
    uint8_t hash[32];

    (void)crypto_generichash(hash, sizeof(hash), public_key, NODE_KEY_BYTES, NULL, 0);
    memcpy(ret->bytes, hash, SHL_NODE_ID_BYTES);
}

void node_mesh_keys_make(struct node_mesh_keys *ret)
{
    memset(ret, 0, sizeof(*ret));
    (void)crypto_box_keypair(ret->public_key, ret->secret_key);
    node_mesh_keys_id(ret->public_key, &ret->id);
    ret->boot = 1;
}

void node_mesh_keys_release(struct node_mesh_keys *keys)
{
    sodium_memzero(keys, sizeof(*keys));
}

/* The file's bytes, when it is ours alone. -ENOENT when there is none. */
static int read_private(const char *path, struct shl_buf *buf, struct shl_err *err)
{
    SHL_CLEANUP_FD int fd = -1;
    struct stat st;
    uint8_t *space;
    int rc;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT ? -ENOENT : shl_err_sys(err, errno, "%s cannot be opened", path);
    }
    if (fstat(fd, &st) < 0) {
        return shl_err_sys(err, errno, "%s cannot be examined", path);
    }
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        return shl_err_set(err, SHL_EFORBIDDEN,
                           "%s may be read by others than this daemon's user: if nobody copied "
                           "it, run chmod 600 on it and make it owned by that user; if in "
                           "doubt, let this node join with a new key",
                           path);
    }
    if (st.st_size <= 0 || st.st_size > FILE_BYTES_MAX) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "%s is damaged (%lld bytes): restore it from a backup, or move the "
                           "folder away and let this node join as a new one",
                           path, (long long)st.st_size);
    }
    rc = shl_buf_reserve(buf, (size_t)st.st_size, &space);
    if (rc == 0) {
        rc = shl_pread_full(fd, space, (size_t)st.st_size, 0);
    }
    if (rc < 0) {
        return shl_err_set(err, rc, "%s cannot be read: %s", path, shl_err_text(rc));
    }
    shl_buf_commit(buf, (size_t)st.st_size);
    return 0;
}

static int damaged(const char *path, struct shl_err *err)
{
    return shl_err_set(err, SHL_ECORRUPT,
                       "%s is damaged: restore it from a backup, or move the folder away and "
                       "let this node join as a new one",
                       path);
}

/* The public key is derived again: that also finds every flipped bit. */
static int parse_key(struct shl_bytes bytes, struct node_mesh_keys *keys)
{
    struct shl_mp_doc doc;
    struct shl_bytes public_key = {NULL, 0}, secret_key = {NULL, 0};
    uint64_t format = 0;
    uint8_t derived[NODE_KEY_BYTES];
    int rc = shl_mp_parse(&doc, bytes);

    if (rc < 0) {
        return rc;
    }
    if (shl_mp_get_uint(doc.root, "v", UINT32_MAX, &format) < 0 || format != FORMAT ||
        shl_mp_get_bin(doc.root, "public", &public_key) < 0 || public_key.len != NODE_KEY_BYTES ||
        shl_mp_get_bin(doc.root, "secret", &secret_key) < 0 || secret_key.len != NODE_KEY_BYTES ||
        crypto_scalarmult_base(derived, secret_key.base) != 0 ||
        memcmp(derived, public_key.base, sizeof(derived)) != 0) {
        rc = SHL_ECORRUPT;
    } else {
        memcpy(keys->public_key, public_key.base, NODE_KEY_BYTES);
        memcpy(keys->secret_key, secret_key.base, NODE_KEY_BYTES);
    }
    shl_mp_release(&doc);
    return rc;
}

static int read_key(const char *path, struct node_mesh_keys *keys, struct shl_err *err)
{
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, FILE_BYTES_MAX);
    rc = read_private(path, &buf, err);
    if (rc == 0 && parse_key(shl_buf_bytes(&buf), keys) < 0) {
        rc = damaged(path, err);
    }
    shl_buf_wipe(&buf);
    return rc;
}

static int write_private(const char *path, struct shl_bytes bytes, struct shl_err *err)
{
    int rc = shl_write_file_atomic(path, bytes.base, bytes.len, 0600);

    if (rc < 0) {
        return shl_err_set(err, rc, "%s cannot be written: %s", path, shl_err_text(rc));
    }
    return 0;
}

static int write_key(const char *path, const struct node_mesh_keys *keys, struct shl_err *err)
{
    struct shl_buf buf;
    struct shl_mp_writer w;
    uint8_t *space;
    int rc;

    shl_buf_init(&buf, FILE_BYTES_MAX);
    /* All at once: growing would leave copies of the secret on the heap. */
    rc = shl_buf_reserve(&buf, FILE_BYTES_MAX, &space);
    if (rc < 0) {
        return shl_err_set(err, rc, "no memory for %s", path);
    }
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", FORMAT);
    shl_mp_kv_bin(&w, "public", keys->public_key, NODE_KEY_BYTES);
    shl_mp_kv_bin(&w, "secret", keys->secret_key, NODE_KEY_BYTES);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = write_private(path, shl_buf_bytes(&buf), err);
    }
    shl_buf_wipe(&buf);
    return rc;
}

static uint64_t boot_sum(uint64_t boot)
{
    uint8_t bytes[8];

    shl_put_le64(bytes, boot);
    return shl_sum(SHL_SUM_START, bytes, sizeof(bytes));
}

static int read_boot(const char *path, uint64_t *ret, struct shl_err *err)
{
    struct shl_buf buf;
    struct shl_mp_doc doc;
    uint64_t format = 0, sum = 0;
    int rc;

    shl_buf_init(&buf, FILE_BYTES_MAX);
    rc = read_private(path, &buf, err);
    if (rc == 0) {
        rc = shl_mp_parse(&doc, shl_buf_bytes(&buf));
        if (rc == 0) {
            if (shl_mp_get_uint(doc.root, "v", UINT32_MAX, &format) < 0 || format != FORMAT ||
                shl_mp_get_uint(doc.root, "boot", UINT32_MAX - 1, ret) < 0 ||
                shl_mp_get_uint(doc.root, "sum", UINT64_MAX, &sum) < 0 || sum != boot_sum(*ret)) {
                rc = SHL_ECORRUPT;
            }
            shl_mp_release(&doc);
        }
        if (rc < 0) {
            rc = damaged(path, err);
        }
    }
    shl_buf_release(&buf);
    return rc;
}

static int write_boot(const char *path, uint64_t boot, struct shl_err *err)
{
    struct shl_buf buf;
    struct shl_mp_writer w;
    int rc;

    shl_buf_init(&buf, FILE_BYTES_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", FORMAT);
    shl_mp_kv_uint(&w, "boot", boot);
    shl_mp_kv_uint(&w, "sum", boot_sum(boot));
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = write_private(path, shl_buf_bytes(&buf), err);
    }
    shl_buf_release(&buf);
    return rc;
}

/* The counter comes first: a crash in between leaves a counter without a key, which is the
 * same as nothing, while a key without its counter could start twice with one number. */
static int make_files(const char *key_path,
                      const char *boot_path,
                      struct node_mesh_keys *keys,
                      struct shl_err *err)
{
    int rc = write_boot(boot_path, 0, err);

    if (rc < 0) {
        return rc;
    }
    node_mesh_keys_make(keys);
    return write_key(key_path, keys, err);
}

static int open_files(const char *key_path,
                      const char *boot_path,
                      struct node_mesh_keys *keys,
                      struct shl_err *err)
{
    uint64_t boot = 0;
    int rc = read_key(key_path, keys, err);

    if (rc == -ENOENT) {
        rc = make_files(key_path, boot_path, keys, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = read_boot(boot_path, &boot, err);
    if (rc == -ENOENT) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "%s is missing beside the key: the folder was copied in part; "
                           "restore it, or move it away and let this node join as a new one",
                           boot_path);
    }
    if (rc < 0) {
        return rc;
    }
    keys->boot = boot + 1;
    return write_boot(boot_path, keys->boot, err);
}

int node_mesh_keys_open(const char *dir, struct node_mesh_keys *ret, struct shl_err *err)
{
    char key_path[PATH_MAX], boot_path[PATH_MAX];
    struct node_mesh_keys keys;
    int rc;

    if (sodium_init() < 0) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "libsodium does not start");
    }
    if (snprintf(key_path, sizeof(key_path), "%s/key", dir) >= (int)sizeof(key_path) ||
        snprintf(boot_path, sizeof(boot_path), "%s/boot", dir) >= (int)sizeof(boot_path)) {
        return shl_err_set(err, -ENAMETOOLONG, "the path %s is too long", dir);
    }
    rc = shl_mkdir_all(dir, 0700);
    if (rc < 0) {
        return shl_err_set(err, rc, "the folder %s cannot be made: %s", dir, shl_err_text(rc));
    }
    memset(&keys, 0, sizeof(keys));
    rc = open_files(key_path, boot_path, &keys, err);
    if (rc == 0) {
        node_mesh_keys_id(keys.public_key, &keys.id);
        *ret = keys;
    }
    node_mesh_keys_release(&keys);
    return rc;
}
